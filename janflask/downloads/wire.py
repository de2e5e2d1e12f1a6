"""One request over a connection that another thread can cut, and that no slow server can hold for ever.

It stands on ``http.client``: the address that was checked has to be the one that is connected to, and the deadline, the
pace and the cut would be ours on a library above it as well.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

Address = tuple[socket.AddressFamily, Any]  # the family, and what socket.connect takes


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take. Seconds, and bytes a second."""

    silence: float = 30.0  # between two pieces of an answer
    head: float = 60.0  # from connecting to the end of the answer's headers
    min_rate: float = 1024.0  # of an answer's body, over a whole ``window``
    window: float = 30.0


class Wire:
    """The socket that a download waits on. ``cut`` comes from another thread and holds for every later socket, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._is_cut = False

    def hold(self, sock: socket.socket) -> None:
        """Raises ConnectionAbortedError once the wire is cut."""
        with self._lock:
            if self._is_cut:
                raise ConnectionAbortedError("the download was ended")
            self._sock = sock

    def cut(self) -> None:
        """Wakes whoever waits for the socket; it sees an end or an error."""
        with self._lock:
            self._is_cut = True
            if self._sock is not None:
                with suppress(OSError):  # it has ended already
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class Connection(http.client.HTTPConnection):
    """Connects to one of ``addresses``, which the caller has checked, whatever the URL's host means by now."""

    def __init__(self, parts: SplitResult, addresses: Sequence[Address], patience: Patience, wire: Wire) -> None:
        self._tls = parts.scheme == "https"
        super().__init__(parts.hostname or "", parts.port or (443 if self._tls else 80))
        self.default_port = 443 if self._tls else 80  # what the Host header leaves out
        self._addresses = addresses
        self._patience = patience
        self._deadline = time.monotonic() + patience.head
        self._wire = wire

    def connect(self) -> None:
        failure = OSError(f"{self.host} has no address")
        for family, address in self._addresses:
            try:
                self.sock = self._connected(family, address)
                return
            except OSError as error:
                failure = error
        raise failure

    def answer(self, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """What a GET brings, or, with a body, a POST, once its headers are there.

        Raises OSError and http.client.HTTPException.
        """
        method = "GET" if body is None else "POST"
        self.request(method, target, body, dict(headers))
        response = Response(self.sock, self._patience, self._deadline, method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        response.body_begins()
        return response

    def _connected(self, family: socket.AddressFamily, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(time_left(self._deadline, self._patience))
            self._wire.hold(sock)
            sock.connect(address)
            if self._tls:
                context = ssl.create_default_context()
                sock = context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
                self._wire.hold(sock)
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock


class Response(http.client.HTTPResponse):
    """An answer whose every byte comes through a ``_PacedReader``."""

    def __init__(self, sock: socket.socket, patience: Patience, deadline: float, method: str = "GET") -> None:
        super().__init__(sock, method=method)
        self._paced = _PacedReader(self.fp.detach(), sock, patience, deadline)
        self.fp = io.BufferedReader(self._paced)

    def body_begins(self) -> None:
        """The headers are there: from now on the rate counts."""
        self._paced.body_begins()

    def read_some(self, buffer: memoryview) -> int:
        """Fills ``buffer`` with what has come, without a copy where the length is known. 0: the end, or too early."""
        if self.chunked or self.length is None:
            data = self.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        if self.length == 0:
            return 0
        size = self.fp.readinto1(buffer[: self.length])
        self.length -= size
        return size


class _PacedReader(io.RawIOBase):
    """Receives from a socket, until the deadline for the headers or the least rate is missed: TimeoutError."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, patience: Patience, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = patience
        self._deadline: float | None = deadline
        self._since = self._came = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._deadline is not None:
            self._sock.settimeout(time_left(self._deadline, self._patience))
        size = self._raw.readinto(buffer) or 0
        if self._deadline is None and size:
            self._count(size)
        return size

    def body_begins(self) -> None:
        self._deadline = None
        self._sock.settimeout(self._patience.silence)
        self._since = time.monotonic()

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _count(self, size: int) -> None:
        self._came += size
        now = time.monotonic()
        if now - self._since > self._patience.window:
            if self._came < self._patience.min_rate * self._patience.window:
                raise TimeoutError(f"the server sends less than {self._patience.min_rate:g} bytes a second")
            self._since, self._came = now, 0.0


def time_left(deadline: float, patience: Patience) -> float:
    """Seconds that the next step may take. Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"the server took more than {patience.head:g} s to answer")
    return min(left, patience.silence)
