"""How often those who wait for news look whether somebody listens to them still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 0.25  # seconds between two looks
MOST = 50  # looks a second, of all together: many who wait for nothing take no time from those who compute


class Looks:
    """Of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[Callable[[], float]]:
        """Somebody waits; gives what says for how many seconds until the next look."""
        with self._lock:
            self._count += 1
        try:
            yield self._pause
        finally:
            with self._lock:
                self._count -= 1

    def _pause(self) -> float:
        return max(PAUSE, self._count / MOST)
