"""Connections that are kept for the next request."""

from __future__ import annotations

import threading
import time
from collections import deque

from janflask.inference.upstream.exchange import Link

MOST = 16  # of one base URL
LONGEST = 60.0  # seconds that one may wait for its next request


class IdleLinks:
    """The idle connections to one base URL, the newest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: deque[tuple[float, Link]] = deque()
        self._closed = False

    def take(self) -> Link | None:
        """One that can be used, as far as can be told: the other side may be closing it right now."""
        with self._lock:
            links, self._links = self._links, deque()
        found: Link | None = None
        kept: deque[tuple[float, Link]] = deque()
        while links:
            since, link = links.pop()
            usable = found is None and link.settle()
            if usable:
                found = link
            elif time.monotonic() - since < LONGEST and (found is not None or usable is None):
                kept.appendleft((since, link))
            else:
                link.close()
        with self._lock:
            self._links.extendleft(reversed(kept))
        return found

    def give(self, link: Link) -> None:
        """``link``'s answer has come to its end, or is about to."""
        link.used = True
        out: Link | None = link
        with self._lock:
            if not self._closed:
                self._links.append((time.monotonic(), link))
                out = self._links.popleft()[1] if len(self._links) > MOST else None
        if out is not None:
            out.close()

    def close(self) -> None:
        """Closes them all, and what is given back later."""
        with self._lock:
            self._closed = True
            links, self._links = self._links, deque()
        for _, link in links:
            link.close()
