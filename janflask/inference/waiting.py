"""Waiting for an engine or the supervisor without losing sight of the client.

A WSGI server notices a lost client only when it writes, and a silent wait writes nothing. So whoever waits polls the
client's socket too: closing the connection to the engine at once is what frees its sequence.
"""

from __future__ import annotations

import select
from typing import Protocol

from janflask.errors import ClientDisconnectedError, UnavailableError

# Linux tells of a peer that closed (RDHUP) even while unread bytes lie in the socket. Where there is no such flag the
# client is noticed when both directions are closed, or at the next write.
_HANG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


class HasFileno(Protocol):
    """A socket, or anything else that poll takes."""

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        ...


class Waiter:
    """One request's poll set: its client's socket, and the sockets that it waits for. Not thread-safe."""

    def __init__(self, client: HasFileno | None = None, end: HasFileno | None = None) -> None:
        """``client`` is the socket that the request came over; None when the server doesn't tell.

        ``end`` becomes readable when whatever is under way has to end.
        """
        self._poll = select.poll()
        self._client = -1 if client is None else client.fileno()
        if self._client >= 0:
            self._poll.register(self._client, _HANG_UP)
        self._end = -1 if end is None else end.fileno()
        if self._end >= 0:
            self._poll.register(self._end, select.POLLIN)

    def watch(self, source: HasFileno, *, writing: bool = False) -> None:
        """Adds ``source`` to what ``wait`` waits for; with ``writing`` also until something can be written to it."""
        self._poll.register(source.fileno(), select.POLLIN | (select.POLLOUT if writing else 0))

    def unwatch(self, source: HasFileno) -> None:
        """Takes ``source`` out again; to be called before it is closed."""
        self._poll.unregister(source.fileno())

    def wait(self, timeout: float) -> list[int]:
        """Descriptors with something to read (or at their end), or room to write; empty after ``timeout`` seconds.

        Raises ClientDisconnectedError when the client is gone, UnavailableError when everything has to end.
        """
        ready = [descriptor for descriptor, _ in self._poll.poll(max(0.0, timeout) * 1000.0)]
        if self._client in ready:
            raise ClientDisconnectedError("the client closed the connection before the answer was complete")
        if self._end in ready:
            raise UnavailableError("the server is shutting down, and the request took too long for that", retry_after=1)
        return ready
