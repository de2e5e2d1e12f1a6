"""One base URL of an upstream: how it is, how many requests it has, and its idle connections."""

from __future__ import annotations

import threading
import time

from janflask.errors import JanflaskError
from janflask.inference.upstream.address import Address
from janflask.inference.upstream.idle import IdleLinks
from janflask.inference.upstream.places import Places
from janflask.models.upstream_health import BaseUrlHealth

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds that it is left out after a failure; doubled after each further one


class Endpoint:
    """Thread-safe."""

    def __init__(self, address: Address, places: Places) -> None:
        self.address = address
        self.places = places
        self.idle = IdleLinks()
        self._lock = threading.Lock()
        self._reachable: bool | None = None
        self._since: float | None = None
        self._error: str | None = None
        self._failures = 0  # in a row
        self._out_until = 0.0  # of the monotonic clock
        self._busy_until = 0.0

    @property
    def is_out(self) -> bool:
        """Whether it is left out, having failed."""
        return self._reachable is False

    @property
    def due(self) -> float:
        """When one that is left out is to be tried again, by the monotonic clock."""
        return self._out_until

    def busy_for(self) -> float:
        """Seconds for which it has said that it takes no more requests."""
        return max(0.0, self._busy_until - time.monotonic())

    def failed(self, error: JanflaskError) -> None:
        """Leaves it out for a while."""
        with self._lock:
            self._failures += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
            pause = min(LONGEST_PAUSE, max(pause, error.retry_after or 0))
            self._out_until = time.monotonic() + pause
            self._error = error.message
            self._see(False)

    def busy(self, seconds: int | None) -> None:
        """It takes no more requests now."""
        if seconds:
            self._busy_until = time.monotonic() + min(seconds, LONGEST_PAUSE)

    def answered(self) -> None:
        """It has done what it was asked: all is well again."""
        with self._lock:
            self._failures = 0
            self._error = None
            self._see(True)

    def back(self) -> None:
        """It can be reached. Its next failure counts as one more in a row until it has done something."""
        with self._lock:
            self._error = None
            self._see(True)

    def health(self) -> BaseUrlHealth:
        """How it is now, as this process has seen it."""
        with self._lock:
            wait = max(0.0, self._out_until - time.monotonic()) if self.is_out else None
            return BaseUrlHealth(
                base_url=self.address.url,
                reachable=self._reachable,
                since=self._since,
                error=self._error,
                under_way=self.places.taken(),
                next_try=wait,
            )

    def _see(self, reachable: bool) -> None:
        if self._reachable is not reachable:
            self._reachable, self._since = reachable, time.time()
