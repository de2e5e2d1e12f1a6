"""The application: settings in, a Flask app out. Nothing is started here, and no socket opened."""

from __future__ import annotations

from flask import Flask

from janflask.api.plumbing import body_timeout, content_encoding, errors, openapi, origins, unread_body
from janflask.api.plumbing.blueprint import Api
from janflask.api.plumbing.context import EXTENSION
from janflask.api.plumbing.converters import URL, UrlConverter, name_threads
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


def build(settings: Settings) -> Flask:
    """The API over ``settings``' data folder and the supervisor in its runtime folder."""
    app = Flask("janflask", static_folder=None)
    app.config.update(openapi.CONFIG, MAX_CONTENT_LENGTH=settings.max_body_mb << 20)
    app.extensions[EXTENSION] = Services.of(settings)
    # In this order each request passes them.
    errors.register(app)
    unread_body.register(app, limit=settings.max_body_mb << 20)
    origins.register(app, settings)
    body_timeout.register(app, settings.upload_timeout)
    content_encoding.register(app)
    app.url_map.strict_slashes = False
    app.url_map.converters[URL] = UrlConverter
    app.url_value_preprocessor(name_threads)
    api = Api(app)
    openapi.add_components(api.spec)
    stored = (threads, messages, runs, responses, compaction, conversations, transfer, assistants, files)
    for module in (models, inference, stored_chats, anthropic, embeddings, tokens, *stored, system):
        api.register_blueprint(module.blp)
    app.register_blueprint(system.pages)
    openapi.add_webhooks(api.spec)
    return app
