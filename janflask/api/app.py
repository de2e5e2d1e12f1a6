"""The application: settings in, a Flask app out. Nothing is started here, and no socket opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from janflask.access.caller import asking
from janflask.api.plumbing import (
    access,
    body_timeout,
    content_encoding,
    counting,
    errors,
    idempotency,
    openapi,
    origins,
    proxies,
    quota,
    traces,
    unread_body,
)
from janflask.api.plumbing.blueprint import Api
from janflask.api.plumbing.context import EXTENSION
from janflask.api.plumbing.converters import URL, LazyRule, UrlConverter, name_threads
from janflask.api.views import (
    anthropic,
    assistants,
    compaction,
    conversations,
    embeddings,
    files,
    inference,
    messages,
    models,
    page,
    responses,
    runs,
    stored_chats,
    system,
    threads,
    tokens,
    transfer,
)
from janflask.container import Services
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.owned import owned


class _Application(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Nothing here is a coroutine. Flask looks whether it is at every request, a dozen times."""
        return func


def build(settings: Settings) -> Flask:
    """The API over ``settings``' data folder and the supervisor in its runtime folder."""
    app = _Application("janflask", static_folder=None)
    app.config.update(openapi.CONFIG, MAX_CONTENT_LENGTH=settings.max_body_mb << 20)
    app.extensions[EXTENSION] = Services.of(settings, owned(open_repository(settings), asking.get))
    proxies.register(app, settings)
    # In this order each request passes them.
    counting.register(app, app.extensions[EXTENSION].http_counts)
    traces.register(app, app.extensions[EXTENSION].traces)
    errors.register(app)
    unread_body.register(app, limit=settings.max_body_mb << 20)
    origins.register(app, settings)
    access.register(app, settings)
    body_timeout.register(app, settings.upload_timeout)
    content_encoding.register(app)
    quota.register(app, settings)
    idempotency.register(app, settings)
    app.url_rule_class = LazyRule
    app.url_map.strict_slashes = False
    app.url_map.converters[URL] = UrlConverter
    app.url_value_preprocessor(name_threads)
    api = Api(app)
    api.describe(openapi.add_components)
    stored = (threads, messages, runs, responses, compaction, conversations, transfer, assistants, files)
    for module in (models, inference, stored_chats, anthropic, embeddings, tokens, *stored, system):
        api.register_blueprint(module.blp)
    app.register_blueprint(page.blp)
    api.describe(openapi.add_webhooks)
    return app
