"""Ends engines that hang: those that do not answer, or whose loop does not come round although there is work.

An engine is asked by its socket, which a thread of its own answers while llama.cpp computes. It tells for how long its
loop has not come round, and what its own steps are known to take at most, so that a slow machine is no hang.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from janflask.errors import JanflaskError
from janflask.ipc.clients.engine import engine_stats
from janflask.models.engine_info import EngineStats
from janflask.models.state import ModelState, ModelStatus

LOOKS = 6  # at each engine within the limit
LONGEST_PAUSE = 10.0  # seconds between two looks
ANSWER_TIME = 2.0  # seconds an engine has for its answer

log = logging.getLogger(__name__)


class Watched(Protocol):
    """A model whose engine may hang."""

    def state(self) -> ModelState: ...
    def end_hung(self, pid: int, what: str) -> None:
        """Kills the engine with that process id, if it still is the model's."""
        ...


class Watchdog:
    """One thread asks all engines in turn.

    Args:
        limit: seconds; 0: nothing is watched.
        models: tells all models that there are now.
        ask: an engine's load, by its socket; raises JanflaskError.
    """

    def __init__(
        self,
        limit: float,
        models: Callable[[], Sequence[Watched]],
        ask: Callable[[str, float], EngineStats] = engine_stats,
    ) -> None:
        self._limit = limit
        self._models = models
        self._ask = ask
        self._ended = threading.Event()
        self._silent: dict[str, float] = {}  # an engine's socket, which no other has -> since when it says nothing

    def start(self) -> None:
        """Watches until ``close``."""
        if self._limit > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Nobody is ended any more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(LONGEST_PAUSE, self._limit / LOOKS)):
            try:
                self.look()
            except Exception:
                log.exception("looking for engines that hang failed")

    def look(self) -> None:
        """Asks every engine once, and ends those that hang."""
        silent: dict[str, float] = {}
        for model in self._models():
            state = model.state()
            if state.status is not ModelStatus.RUNNING or state.socket is None or state.pid is None:
                continue
            what = self._problem(state.socket, silent)
            if what is not None and not self._ended.is_set():
                model.end_hung(state.pid, what)
        self._silent = silent

    def _problem(self, socket: str, silent: dict[str, float]) -> str | None:
        asked = time.monotonic()
        try:
            stats = self._ask(socket, min(ANSWER_TIME, self._limit))
        except JanflaskError as error:
            silent[socket] = self._silent.get(socket, asked)
            silence = time.monotonic() - silent[socket]
            log.debug("an engine does not answer: %s", error.message)
            return f"it has not answered for {silence:.0f} s" if silence > self._limit else None
        if stats.stalled_seconds > max(self._limit, stats.longest_step_seconds):
            return f"its loop has not come round for {stats.stalled_seconds:.0f} s although there is work"
        return None
