"""Which models have to run before the server is ready: those that a setting names, and those that are restored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from janflask.errors import JanflaskError
from janflask.ipc.messages.supervisor import Awaited
from janflask.models.state import ModelState, ModelStatus

_SETTLED = frozenset({ModelStatus.RUNNING, ModelStatus.STOPPING, ModelStatus.STOPPED})


class Readiness:
    """All methods are for any thread.

    Args:
        named: models that always have to run.
        state: of a model; raises ModelNotFoundError.
    """

    def __init__(self, named: Iterable[str], state: Callable[[str], ModelState]) -> None:
        self.named = tuple(dict.fromkeys(named))
        self._state = state
        self._lock = threading.Lock()  # guards what follows
        self._restored: dict[str, None] = {}
        self._reasons: dict[str, str] = {}

    def restores(self, model_ids: Iterable[str]) -> None:
        """These are being started again: each is waited for until it has run, or was stopped."""
        with self._lock:
            self._restored.update(dict.fromkeys(model_ids))

    def failed(self, model_id: str, reason: str) -> None:
        """Its start did not even begin."""
        with self._lock:
            self._reasons[model_id] = reason

    def moved(self, model_id: str, status: ModelStatus) -> None:
        """A model is in another state now."""
        with self._lock:
            self._reasons.pop(model_id, None)
            if status in _SETTLED:
                self._restored.pop(model_id, None)

    def awaited(self) -> list[Awaited]:
        """The models that should run and do not."""
        with self._lock:
            wanted = list(dict.fromkeys((*self.named, *self._restored)))
            reasons = dict(self._reasons)
        return [found for model_id in wanted if (found := self._missing(model_id, reasons.get(model_id))) is not None]

    def _missing(self, model_id: str, reason: str | None) -> Awaited | None:
        try:
            state = self._state(model_id)
        except JanflaskError as error:
            return Awaited(model_id, "unknown", error.message)
        if state.status is ModelStatus.RUNNING:
            return None
        return Awaited(model_id, state.status.value, reason or state.error)
