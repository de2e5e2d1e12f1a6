"""What came of the requests, told by all clients at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

KEPT = 200  # failures whose words are kept; the rest are counted


@dataclass
class Tally:
    """For any thread."""

    began: float = field(default_factory=time.monotonic)
    statuses: Counter[int] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def status(self, status: int) -> None:
        """An answer has come."""
        with self._lock:
            self.statuses[status] += 1

    def finish(self, what: str, seconds: float) -> None:
        """An activity went well."""
        with self._lock:
            self.done[what] += 1
            self.slowest[what] = max(self.slowest.get(what, 0.0), seconds)

    def fail(self, what: str, problem: str) -> None:
        """One did not."""
        with self._lock:
            self.failed[what] += 1
            if len(self.failures) < KEPT:
                line = f"{time.monotonic() - self.began:8.1f} s  {what}: {problem[:600]}"
                self.failures.append(line)
                print(line, flush=True)

    def so_far(self) -> str:
        """A line of progress."""
        with self._lock:
            failed = f"{sum(self.failed.values())} failed" if self.failed else "none failed"
            minutes = (time.monotonic() - self.began) / 60
            return f"{minutes:6.1f} min  {sum(self.statuses.values())} answers, {failed}"

    @property
    def server_errors(self) -> int:
        """Answers with 5xx."""
        with self._lock:
            return sum(count for status, count in self.statuses.items() if status >= 500)
