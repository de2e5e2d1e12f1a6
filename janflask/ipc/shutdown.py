"""Tells what would go on for long in this process that the process is about to end."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

DRAINING_NAME = "draining"  # a file in the runtime folder: the whole server was told to end


class Shutdown:
    """``fileno()`` becomes readable once the end has begun, and stays so.

    A process that is forked has one of its own: as long as another held the pipe's writer, its reader would not end.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self.begun = False
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        os.close(self._reader)
        if not self.begun:
            os.close(self._writer)
        self._reader, self._writer = os.pipe()
        self.begun = False

    def fileno(self) -> int:
        """For any number of polls at once."""
        return self._reader

    def begin(self) -> None:
        """Idempotent; may be called by a signal handler."""
        if not self.begun:
            self.begun = True
            os.close(self._writer)  # its reader is at the end from now on

    def begins_at(self, number: int) -> None:
        """A signal begins it, before what the signal did so far. Call it from the main thread."""
        before: Any = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None) -> None:
            self.begin()
            if callable(before):
                before(number, frame)

        signal.signal(number, handle)


THIS_PROCESS = Shutdown()  # it is told to end, and lets what is under way end by itself
TIME_IS_UP = Shutdown()  # what is still under way ends now
