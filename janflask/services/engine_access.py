"""Finding a model's engine, starting it if need be, and asking again while it is being replaced: the one policy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from janflask.errors import EngineCrashedError, UnavailableError
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.services.models import Endpoint, ModelService
from janflask.settings import Settings

T = TypeVar("T")


class EngineAccess:
    """Finds the engine of a model; one that is on disk and not running is started. Thread-safe."""

    def __init__(self, settings: Settings, models: ModelService) -> None:
        self._settings = settings
        self._models = models

    def finding(
        self,
        model_id: str,
        waiter: Waiter,
        beat: float,
        *,
        anew: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> Generator[None, None, Endpoint]:
        """Returns where the engine listens; gives None once when it has to be started, and after each ``beat`` seconds.

        ``anew`` trusts nothing that is remembered of it. ``overrides`` are the settings of a start that is needed.
        Raises ConflictError when requests start no models here, what the start fails with, ClientDisconnectedError.
        """
        endpoint = None if anew else self._models.endpoint(model_id)
        if endpoint is not None:
            return endpoint
        self._models.forget(model_id)
        self._models.may_start(model_id)
        yield
        for state in self._models.starting(model_id, waiter, beat, overrides):
            endpoint = None if state is None else self._models.remember(state)
            if endpoint is not None:
                return endpoint
            yield
        raise UnavailableError(f"{model_id} started and is gone again; try once more", retry_after=1)

    def find(
        self, model_id: str, waiter: Waiter, *, anew: bool = False, overrides: Mapping[str, Any] | None = None
    ) -> Endpoint:
        """``finding`` for whoever has nothing to say meanwhile."""
        search = self.finding(model_id, waiter, self._settings.start_timeout, anew=anew, overrides=overrides)
        while True:
            try:
                next(search)
            except StopIteration as found:
                endpoint: Endpoint = found.value
                return endpoint

    def ask(self, model_id: str, waiter: Waiter, question: Callable[[Endpoint], T], tries: Tries | None = None) -> T:
        """What ``question`` answers; it is asked again when the engine was just being replaced.

        Raises what it raises, ModelNotFoundError, ConflictError, what the start of a model fails with,
        EngineCrashedError, TimeoutExceededError and ClientDisconnectedError.
        """
        card = self._models.card(model_id)
        tries, anew = tries or Tries(), False
        while True:
            try:
                return question(self.find(card.id, waiter, anew=anew))
            except EngineCrashedError as error:
                tries.again(error, waiter)
            anew = True
