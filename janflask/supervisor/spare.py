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
LOADING_TIME = 2.0  # seconds that one which is still loading its code is waited for

log = logging.getLogger(__name__)


class Spare:
    """Keeps one ready. ``prepare``, ``take`` and ``close`` are for any thread."""

    def __init__(self, command: Sequence[str], *, enabled: bool) -> None:
        self._command = tuple(command)
        self._changed = threading.Condition()  # guards what follows
        self._kept: Newborn | None = None
        self._wanted = False
        self._closed = not enabled
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """There is one in a moment, if there is none."""
        with self._changed:
            if self._closed:
                return
            self._wanted = True
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
        """Ends what is kept; from now on there is none."""
        with self._changed:
            self._closed = True
            kept, self._kept = self._kept, None
            self._changed.notify_all()
        if kept is not None:
            kept.end()

    def _keep(self) -> None:
        """One thread makes them all and stays: the kernel ends a process with the thread that made it."""
        while self._is_needed():
            try:
                made = Newborn(self._command, spare=True)
            except OSError as error:
                log.warning("no engine can be kept ready: %s", error)
                continue
            with self._changed:
                self._kept, made_in_vain = (None, made) if self._closed else (made, None)
            if made_in_vain is not None:
                made_in_vain.end()
        threading.Event().wait()  # engines that were spare ones end in order, after this is closed

    def _is_needed(self) -> bool:
        """True once another one is to be made, False when this is closed."""
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or self._wanted)
                self._changed.wait_for(lambda: self._closed or not self._wanted, DELAY)
                if self._wanted and not self._closed:
                    self._wanted = False
                    if self._kept is None:
                        return True
            return False
