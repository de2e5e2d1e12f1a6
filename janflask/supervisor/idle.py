"""Stops models that nobody has asked anything for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from janflask.models.state import ModelState, ModelStatus

log = logging.getLogger(__name__)

ASK_AGAIN = 5.0  # seconds, after an engine that did not answer


class Idler(Protocol):
    """A model that may be idle."""

    @property
    def model_id(self) -> str: ...
    def state(self) -> ModelState: ...
    def idle_seconds(self) -> float | None: ...
    def retire(self) -> bool: ...


class IdleWatch:
    """One thread. An engine is asked at the earliest moment at which it could be due, so rarely.

    Args:
        limit: seconds without a request after which a model is stopped; 0: never.
        models: tells all models that there are now.
    """

    def __init__(self, limit: float, models: Callable[[], Sequence[Idler]]) -> None:
        self._limit = limit
        self._models = models
        self._ended = threading.Event()
        self._due: dict[str, float] = {}  # an engine's socket, which no other has -> when to ask it

    def start(self) -> None:
        """Watches until ``close``; nothing is to be watched with a limit of 0."""
        if self._limit > 0:
            threading.Thread(target=self._watch, name="idle", daemon=True).start()

    def close(self) -> None:
        """Nothing is stopped any more."""
        self._ended.set()

    def _watch(self) -> None:
        pause = self._limit
        while not self._ended.wait(pause):
            try:
                pause = self.look(time.monotonic())
            except Exception:
                log.exception("looking for idle models failed")
                pause = self._limit

    def look(self, now: float) -> float:
        """Asks those that are due at ``now`` and stops the idle ones; seconds until the next look."""
        due: dict[str, float] = {}
        for model in self._models():
            state = model.state()
            if state.status is not ModelStatus.RUNNING or state.socket is None:
                continue
            when = self._due.get(state.socket, now)
            if when <= now:
                wait = self._ask(model)
                if wait is None:
                    continue
                when = now + wait
            due[state.socket] = when
        self._due = due
        return min([self._limit, *(when - now for when in due.values())])

    def _ask(self, model: Idler) -> float | None:
        """Seconds until it could be due; None if it is on its way out."""
        idle = model.idle_seconds()
        if idle is None:
            return min(ASK_AGAIN, self._limit)
        if idle < self._limit:
            return self._limit - idle
        if not model.retire():  # a request came in between
            return self._limit
        log.info("model %s: stopped after %.0f s without a request", model.model_id, idle)
        return None
