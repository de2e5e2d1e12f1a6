"""A TCP connection that never blocks, with TLS where the address asks for it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections import deque

from janflask.inference.upstream.address import Address

PIECE = 64 * 1024  # bytes that are read at once
_UNDER_WAY = {errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK}
_CONNECTED = {0, errno.EISCONN}


class Connection:
    """Tries a host's addresses in turn. Wait until ``fileno()`` can be read (with ``wants_write``: or written).

    Every method raises OSError (ssl.SSLError is one) when the connection fails.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        """``tls`` is for an https address. Looks the name up, which blocks: a resolver's own limits hold."""
        self._address = address
        self._tls = tls if address.secure else None
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        self._targets = deque((family, where) for family, _, _, _, where in found)
        self._socket = self._next_socket()
        self._connected = False
        self.wants_write = True
        self.ready = False  # connected, TLS included

    def fileno(self) -> int:
        """The descriptor; another one after an address that did not answer, -1 once closed."""
        return self._socket.fileno()

    def advance(self) -> bool:
        """Goes on connecting as far as that is possible without waiting; true once ``ready``."""
        while not self._connected:
            code = self._socket.connect_ex(self._where)
            if code in _UNDER_WAY:
                return False
            if code not in _CONNECTED:
                self._fail_over(OSError(code, os.strerror(code)))
                continue
            self._connected = True
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                self._socket = self._tls.wrap_socket(
                    self._socket, server_hostname=self._address.host, do_handshake_on_connect=False
                )
        if not self.ready:
            self.ready = self._handshake()
        return self.ready

    def send(self, data: memoryview) -> int:
        """How many bytes were taken; 0 when there is no room."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def receive(self) -> bytes | None:
        """What has come, empty at the end, None if there is nothing yet."""
        try:
            return self._socket.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def pending(self) -> bool:
        """Whether decrypted bytes wait that the descriptor does not tell of."""
        return isinstance(self._socket, ssl.SSLSocket) and self._connected and self._socket.pending() > 0

    def close(self) -> None:
        """At once. Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _handshake(self) -> bool:
        if not isinstance(self._socket, ssl.SSLSocket):
            self.wants_write = False
            return True
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self.wants_write = False
            return False
        except ssl.SSLWantWriteError:
            self.wants_write = True
            return False
        self.wants_write = False
        return True

    def _next_socket(self) -> socket.socket:
        family, self._where = self._targets.popleft()
        new = socket.socket(family, socket.SOCK_STREAM)
        new.setblocking(False)
        return new

    def _fail_over(self, error: OSError) -> None:
        if not self._targets:
            raise error
        old, self._socket = self._socket, self._next_socket()  # in this order, so that the descriptors differ
        old.close()
