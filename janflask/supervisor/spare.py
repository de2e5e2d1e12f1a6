"""One engine process made ahead of need: it has loaded its code and waits to be told which model.

Starting Python and loading llama.cpp takes longer than mapping a model that is in the page cache, so a change from one
model to another would be mostly that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from janflask.supervisor.engine_process import Newborn

DELAY = 1.0  # seconds: a model that has just been started is about to be asked something, and comes first
LOADING_TIME = 10.0  # seconds that one which is still loading its code is waited for: another one would take longer

log = logging.getLogger(__name__)


class Spare:
    """Keeps one ready. ``prepare``, ``take`` and ``close`` are for any thread."""

    def __init__(self, command: Sequence[str], *, enabled: bool) -> None:
        self._command = tuple(command)
        self._changed = threading.Condition()  # guards what follows
        self._kept: Newborn | None = None
        self._is_making = False
        self._wanted = False
        self._at_once = False
        self._closed = not enabled
        self._thread: threading.Thread | None = None

    def prepare(self, *, at_once: bool = False) -> None:
        """There is one in a moment, if there is none; ``at_once`` where no model has just been started."""
        with self._changed:
            if self._closed:
                return
            self._wanted = True
            self._at_once = at_once
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="spare engine", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def take(self) -> Newborn | None:
        """The one that is kept, now the caller's; None if there is none that works."""
        with self._changed:
            kept, self._kept = self._kept, None
            self._wanted = False  # until the model that it is for has started
        if kept is None or kept.is_waiting(LOADING_TIME):
            return kept
        log.warning("the engine that was kept ready (%d) does not answer: it is ended", kept.pid)
        kept.end()
        return None

    def close(self) -> None:
        """Ends what is kept, or is being made; from now on there is none."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_making)  # it would be left when this process ends
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.end()

    def _keep(self) -> None:
        """One thread makes them all and stays: the kernel ends a process with the thread that made it."""
        while self._is_needed():
            made: Newborn | None = None
            try:
                made = Newborn(self._command, spare=True)
            except OSError as error:
                log.warning("no engine can be kept ready: %s", error)
            finally:
                with self._changed:
                    self._kept, self._is_making = made, False
                    self._changed.notify_all()
        threading.Event().wait()  # engines that were spare ones end in order, after this is closed

    def _is_needed(self) -> bool:
        """True once another one is to be made, False when this is closed."""
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or self._wanted)
                self._changed.wait_for(lambda: self._closed or not self._wanted, 0.0 if self._at_once else DELAY)
                if self._wanted and not self._closed:
                    self._wanted = False
                    if self._kept is None:
                        self._is_making = True
                        return True
            return False
