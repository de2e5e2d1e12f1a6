"""One base URL of an upstream: how it is, how many requests it has, and its idle connections."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from janflask.errors import JanflaskError
from janflask.inference.upstream.address import Address
from janflask.inference.upstream.idle import IdleLinks
from janflask.inference.upstream.places import Places

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds that it is left out after a failure; doubled after each further one


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a base URL is, as this process has seen it; ``under_way`` counts the requests of the whole server.

    ``reachable`` None: nobody has asked yet. ``since``: seconds since the epoch. ``error``: the last failure, of one
    that is not reachable. ``next_try``: seconds until it is asked again.
    """

    base_url: str
    reachable: bool | None
    since: float | None
    error: str | None
    under_way: int
    next_try: float | None = None


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

    def health(self) -> Health:
        """How it is now."""
        with self._lock:
            wait = max(0.0, self._out_until - time.monotonic()) if self._reachable is False else None
            return Health(
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
