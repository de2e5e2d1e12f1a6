"""What a worker counts of its requests. The labels are the application's own: no client can make a new one."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from janflask.errors import JanflaskError
from janflask.metrics.shared_counts import NOW, REST, SharedCounts, read_all

BOUNDS = (0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)  # seconds
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"  # the route of a path that there is not

_REQUEST = "http"
_OPEN = f"{NOW}open"
_FAILED = "failed"

log = logging.getLogger(__name__)


class HttpCounts:
    """This process's. All methods are for any thread; nothing is opened before the first request.

    Args:
        folder: where all processes of the server count; None: nobody does.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._counts: SharedCounts | None = None
        self._is_opened = folder is None

    def began(self) -> None:
        """A request came."""
        if (counts := self._opened()) is not None:
            counts.add(_OPEN, (0, 1.0))

    def ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """Its answer is out, all of it, or its client has gone."""
        if (counts := self._opened()) is not None:
            counts.add(_OPEN, (0, -1.0))
            key = f"{_REQUEST} {method if method in METHODS else REST} {route} {status}"
            counts.add(key, (0, seconds), (1 + bisect_left(BOUNDS, seconds), 1.0))

    def failed(self, part: str) -> None:
        """A part of the server did not say how it is when it was asked."""
        if (counts := self._opened()) is not None:
            counts.add(f"{_FAILED} {part}", (0, 1.0))

    def _opened(self) -> SharedCounts | None:
        if not self._is_opened and self.folder is not None:
            with self._lock:
                if not self._is_opened:
                    try:
                        self._counts = SharedCounts(self.folder)
                    except (OSError, JanflaskError) as error:
                        log.warning("requests are not counted: %s", error)
                    self._is_opened = True
        return self._counts


@dataclass(frozen=True, slots=True)
class Requests:
    """Of all workers, those that are gone too. What had no row of its own has ``other`` for each label."""

    under_way: int = 0
    statuses: Mapping[tuple[str, str, str], float] = field(default_factory=dict)  # (method, route, status) -> requests
    times: Mapping[tuple[str, str], tuple[list[float], float]] = field(default_factory=dict)  # buckets; sum in seconds
    failures: Mapping[str, float] = field(default_factory=dict)  # parts of the server that did not answer
    pids: tuple[int, ...] = ()  # of the processes that count now


def requests(folder: Path) -> Requests:
    """What was counted in ``folder``. Raises what ``read_all`` does."""
    under_way = 0.0
    statuses: dict[tuple[str, str, str], float] = defaultdict(float)
    times: dict[tuple[str, str], tuple[list[float], float]] = {}
    failures: dict[str, float] = {}
    sums, pids = read_all(folder)
    for key, (total, *rest) in sums.items():
        kind, *labels = (_REQUEST, REST, REST, REST) if key == REST else key.split(" ")
        if kind == _REQUEST and len(labels) == 3:
            method, route, status = labels
            buckets = rest[: len(BOUNDS) + 1]
            statuses[method, route, status] += sum(buckets)
            known, seconds = times.get((method, route), ([0.0] * len(buckets), 0.0))
            times[method, route] = [a + b for a, b in zip(known, buckets, strict=True)], seconds + total
        elif kind == _FAILED:
            failures[labels[0]] = total
        elif key == _OPEN:
            under_way = total
    return Requests(int(under_way), statuses, times, failures, tuple(pids))
