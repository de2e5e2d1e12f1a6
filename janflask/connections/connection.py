"""One client's connection: its request's head is read as it comes, without a thread that waits for it."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from io import SEEK_END
from typing import Any

from gunicorn.workers.gthread import TConn

from janflask.connections.refusals import refuse

MAX_HEAD = 64 << 10  # bytes of a request's line and headers together
LINGER = 2.0  # seconds in which a client may hear an answer's end before its connection is gone
_MAX_LINGER = 64 << 10  # bytes that it may still send meanwhile
_PIECE = 8192
_END = b"\r\n\r\n"


class PatientSocket(socket.socket):
    """A client's. Its timeout is for each piece that the client takes: who reads slowly may, who reads nothing not."""

    @classmethod
    def of(cls, accepted: socket.socket) -> PatientSocket:
        """The same connection; ``accepted`` is closed."""
        return cls(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())

    def sendall(self, data: Any, flags: int = 0) -> None:
        """See socket. The standard one's timeout is for all of ``data`` together."""
        with memoryview(data) as view, view.cast("B") as rest:
            sent = self.send(rest, flags)
            while sent < len(rest):
                sent += self.send(rest[sent:], flags)


class HeadTooLargeError(Exception):
    """A request's line and headers are larger than all that is read of one."""


class Connection(TConn):  # type: ignore[misc]
    """gunicorn's, with when its next request's head must be there.

    ``on_gone`` is called once, when the connection is closed; ``linger`` takes one that is to be closed as soon as the
    client has heard its answer's end.
    """

    def __init__(
        self,
        config: Any,
        sock: socket.socket,
        client: Any,
        server: Any,
        *,
        on_gone: Callable[[], None],
        linger: Callable[[Connection], bool],
    ) -> None:
        super().__init__(config, sock, client, server)
        self.deadline: float | None = None  # of the head that is being read
        self._on_gone: Callable[[], None] | None = on_gone
        self._linger = linger
        self._drained = 0

    def has_head(self, patience: float) -> bool:
        """Whether the next request's head is there, or it will never be one; reads what has come.

        Waits ``patience`` seconds at most. Raises HeadTooLargeError, OSError.
        """
        until = time.monotonic() + patience
        buffer = self.parser.unreader.buf
        self.sock.setblocking(False)
        while not _is_decided(buffer.getvalue(), self.cfg.limit_request_line):
            try:
                data = self.sock.recv(_PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                if not self._becomes_readable(until - time.monotonic()):
                    return False
                continue
            if not data:
                return True  # it was closed; the parser knows what that means
            buffer.seek(0, SEEK_END)
            buffer.write(data)
        return True

    def is_late(self) -> bool:
        """Whether the head should have been there by now."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def give_up(self) -> None:
        """The head did not come in time."""
        if self.parser is not None and self.parser.unreader.buf.getvalue():
            refuse(self.sock, 408, "the request's line and headers did not come in time (JANFLASK_HEADER_TIMEOUT)")

    def close(self, graceful: bool = False) -> None:
        """See gunicorn's, which has its main thread, and so all others, wait until the client has closed its end."""
        if graceful:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                graceful = False
        if graceful and self._linger(self):
            return
        super().close()
        if self._on_gone is not None:
            on_gone, self._on_gone = self._on_gone, None
            on_gone()

    def is_over(self) -> bool:
        """Of one that lingers and became readable: throws away what came; True if nothing more is awaited."""
        try:
            data = self.sock.recv(_PIECE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        self._drained += len(data)
        return not data or self._drained > _MAX_LINGER

    def _becomes_readable(self, seconds: float) -> bool:
        if seconds <= 0:
            return False
        poll = select.poll()  # light, and right for descriptors above 1023
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _is_decided(data: bytes, max_line: int) -> bool:
    """Whether a parser needs no more of a head than this: it is whole, or broken already."""
    end = data.find(_END)
    if end > MAX_HEAD or (end < 0 and len(data) > MAX_HEAD):
        raise HeadTooLargeError
    if end >= 0 or data.count(b"\n") != data.count(b"\r\n"):  # a line ends with both; gunicorn refuses it
        return True
    return len(data) > max_line + 2 and b"\r\n" not in data
