"""Work for moments in which nobody waits for an answer, in pieces: a request is kept waiting for one at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol


class Chore(Protocol):
    """Something to be done while the engine rests. The loop's thread asks, and does it."""

    def due(self, rested: float) -> float | None:
        """Seconds until a piece is to be done if nothing comes between, 0: now; None: there is nothing to do.

        ``rested``: seconds since the last request ended.
        """
        ...

    def piece(self) -> None:
        """Does one. A request that comes meanwhile waits for its end: 50 ms are enough."""
        ...


def rest(wake: threading.Event, chores: Sequence[Chore], clock: Callable[[], float] = time.monotonic) -> None:
    """Until ``wake`` is set; meanwhile the chores are done, whichever is due first."""
    began = clock()
    while not wake.is_set():
        rested = clock() - began
        due = [(wait, number) for number, chore in enumerate(chores) if (wait := chore.due(rested)) is not None]
        if not due:
            wake.wait()
            return
        wait, number = min(due)
        if wait > 0 and wake.wait(wait):
            return
        if wait <= 0:
            chores[number].piece()
