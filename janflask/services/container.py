"""One application's services, put together."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.catalog import ModelCatalog
from janflask.ipc.client import SupervisorClient
from janflask.services.chat import ChatService
from janflask.services.models import ModelService
from janflask.services.templates import ChatTemplates
from janflask.settings import Settings

SUPERVISOR_PATIENCE = 3.0  # seconds a request waits for a supervisor that was killed to be back


@dataclass(frozen=True, slots=True)
class Services:
    """What the views work with. Thread-safe; making them opens no socket and starts no process."""

    settings: Settings
    models: ModelService
    chat: ChatService

    @classmethod
    def of(cls, settings: Settings) -> Services:
        """Over ``settings``' data folder and the supervisor in its runtime folder."""
        # Without a runtime folder nobody can have started a supervisor for us: each question to it fails with a 503.
        supervisor = SupervisorClient(settings.runtime_dir or settings.data_dir / "run", SUPERVISOR_PATIENCE)
        models = ModelService(settings, ModelCatalog(settings.models_dir), supervisor)
        return cls(settings, models, ChatService(settings, models, ChatTemplates()))
