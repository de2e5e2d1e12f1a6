"""The application: settings in, a Flask app out. Nothing is started here, and no socket opened."""

from __future__ import annotations

from flask import Flask

from janflask.api import inference, models, openapi, system
from janflask.api.blueprint import Api
from janflask.api.context import EXTENSION, Services
from janflask.catalog import ModelCatalog
from janflask.ipc.client import SupervisorClient
from janflask.services.chat import ChatService
from janflask.services.models import ModelService
from janflask.services.templates import ChatTemplates
from janflask.settings import Settings


def build(settings: Settings) -> Flask:
    """The API over ``settings``' data folder and the supervisor in its runtime folder."""
    app = Flask("janflask", static_folder=None)
    app.config.update(openapi.CONFIG, MAX_CONTENT_LENGTH=settings.max_body_mb << 20)
    app.extensions[EXTENSION] = _services(settings)
    app.url_map.strict_slashes = False
    api = Api(app)
    for blueprint in (models.blp, inference.blp, system.blp):
        api.register_blueprint(blueprint)
    app.register_blueprint(system.pages)
    openapi.add_webhooks(api.spec)
    return app


def _services(settings: Settings) -> Services:
    # Without a runtime folder nobody can have started a supervisor for us: then each question to it fails with a 503.
    supervisor = SupervisorClient(settings.runtime_dir or settings.data_dir / "run")
    models = ModelService(settings, ModelCatalog(settings.models_dir), supervisor)
    return Services(settings, models, ChatService(settings, models, ChatTemplates()))
