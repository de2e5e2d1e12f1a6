"""Asking a model's engine one question, starting it if need be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from janflask.errors import EngineCrashedError, UnavailableError
from janflask.services.chat import ATTEMPTS, PAUSE
from janflask.services.models import Endpoint, ModelService
from janflask.services.waiting import Waiter
from janflask.settings import Settings

T = TypeVar("T")


class EngineAsker:
    """Finds the engine of a model; one that is on disk and not running is started. Thread-safe."""

    def __init__(self, settings: Settings, models: ModelService) -> None:
        self._settings = settings
        self._models = models

    def ask(self, model_id: str, waiter: Waiter, question: Callable[[Endpoint], T]) -> T:
        """What ``question`` answers; as chats do, it is asked again when the engine was just being replaced.

        Raises what it raises, ModelNotFoundError, ConflictError, what the start of a model fails with,
        EngineCrashedError, TimeoutExceededError and ClientDisconnectedError.
        """
        card = self._models.card(model_id)
        for attempt in range(ATTEMPTS):
            endpoint = None if attempt else self._models.endpoint(card.id)
            try:
                return question(endpoint or self._load(card.id, waiter))
            except EngineCrashedError:
                if attempt == ATTEMPTS - 1:
                    raise
            waiter.wait(PAUSE)
        raise UnavailableError(f"{card.id} cannot be asked; try again", retry_after=1)

    def _load(self, model_id: str, waiter: Waiter) -> Endpoint:
        self._models.forget(model_id)
        self._models.may_start(model_id)
        for state in self._models.starting(model_id, waiter, self._settings.start_timeout):
            endpoint = None if state is None else self._models.remember(state)
            if endpoint is not None:
                return endpoint
        raise UnavailableError(f"{model_id} started and is gone again; try once more", retry_after=1)
