"""How fast a download is, over its last few seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 5.0  # seconds


class Speed:
    """Fed with how much there is, says how fast it grows. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()

    def feed(self, transferred: int) -> None:
        """``transferred`` bytes are there now. Fewer than before: it began anew."""
        now = self._clock()
        with self._lock:
            if self._samples and transferred < self._samples[-1][1]:
                self._samples.clear()
            self._samples.append((now, transferred))
            while now - self._samples[0][0] > WINDOW:
                self._samples.popleft()

    def stop(self) -> None:
        """Nothing is under way."""
        with self._lock:
            self._samples.clear()

    def bytes_per_second(self) -> float:
        """0 while there is nothing to tell from, and when nothing came for a while."""
        now = self._clock()
        with self._lock:
            if len(self._samples) < 2 or now - self._samples[-1][0] > WINDOW:
                return 0.0
            (since, first), (_, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - since) if now > since else 0.0
