"""One HTTP request and its answer over a connection that never blocks; the HTTP itself is h11's."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import h11

from janflask.inference.upstream.address import Address
from janflask.inference.upstream.connection import Connection

MAX_HEADERS = 64 * 1024  # bytes of an answer's status line and headers
MAX_AT_ONCE = 256 * 1024  # bytes that one ``receive`` reads, so that others get their turn
MAX_LEFT = 16  # events of an answer's rest that are worth reading

Headers = Sequence[tuple[str, str]]


class Link:
    """A connection and how far the HTTP on it is; used for one exchange after the other."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        """Raises OSError."""
        self.connection = Connection(address, tls)
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
        self.used = False  # for an exchange before

    def settle(self) -> bool | None:
        """Whether the next exchange may begin: the last answer has ended, and nothing came behind it; None: not yet."""
        try:
            at_end = self._at_end()
            if at_end:
                self.http.start_next_cycle()
                return self.connection.receive() is None
        except (OSError, h11.ProtocolError):
            return False
        return at_end

    def _at_end(self) -> bool | None:
        """Reads what is left of an answer: its end may come a moment after all that was of interest."""
        for _ in range(MAX_LEFT):
            if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
                return True
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                data = self.connection.receive()
                if data is None:
                    return None
                self.http.receive_data(data)
            elif not isinstance(event, h11.Data | h11.EndOfMessage):
                break
        return False

    def close(self) -> None:
        """Ends what is under way. Idempotent."""
        self.connection.close()


class Exchange:
    """Use: wait for ``fileno()`` (with ``wants_write`` also for room to write), ``receive``, until ``complete``."""

    def __init__(self, link: Link, method: str, target: str, headers: Headers, body: bytes | None) -> None:
        self.link = link
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        self.heard = False  # a byte of the answer has come
        self._outgoing = memoryview(_request(link.http, method, target, headers, body))

    def fileno(self) -> int:
        """The descriptor; it changes while the addresses of a host are tried."""
        return self.link.connection.fileno()

    @property
    def connected(self) -> bool:
        """Whether the server took the connection."""
        return self.link.connection.ready

    @property
    def wants_write(self) -> bool:
        """Whether there is more to send."""
        connection = self.link.connection
        return bool(self._outgoing) if connection.ready else connection.wants_write

    def buffered(self) -> bool:
        """``receive`` has something to tell without waiting for the socket."""
        return self.link.connection.pending()

    def receive(self, pieces: list[bytes]) -> None:
        """Goes on as far as that is possible without waiting; adds the next pieces of the answer's body to ``pieces``.

        Raises OSError when the connection fails, EOFError when it ends too early, h11.RemoteProtocolError for what is
        no HTTP.
        """
        if not self.link.connection.advance():
            return
        if self._outgoing:
            self._send()
        self._read(pieces)

    def _send(self) -> None:
        try:
            while self._outgoing and (count := self.link.connection.send(self._outgoing)):
                self._outgoing = self._outgoing[count:]
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing = memoryview(b"")  # it may have answered before it had read everything

    def _read(self, pieces: list[bytes]) -> None:
        room = MAX_AT_ONCE
        while not self.complete and room > 0 and (data := self.link.connection.receive()) is not None:
            room -= len(data)
            self.heard = self.heard or bool(data)
            try:
                self.link.http.receive_data(data)
                self._collect(pieces)
            except h11.RemoteProtocolError:
                if data:
                    raise
                raise EOFError from None

    def _collect(self, pieces: list[bytes]) -> None:
        while not self.complete:
            event = self.link.http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.ConnectionClosed):
                raise EOFError
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True


def _request(http: h11.Connection, method: str, target: str, headers: Headers, body: bytes | None) -> bytes:
    length = [] if body is None else [("Content-Length", str(len(body)))]
    out = http.send(h11.Request(method=method, target=target, headers=[*headers, *length]))
    parts = [out or b""]
    if body:
        parts.append(http.send(h11.Data(data=body)) or b"")
    parts.append(http.send(h11.EndOfMessage()) or b"")
    return b"".join(parts)
