"""A TCP connection that never blocks, with TLS where the address asks for it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections import deque

from janflask.inference.upstream.address import Address
from janflask.inference.upstream.lookup import Lookup, numeric_targets

PIECE = 64 * 1024  # bytes that are read at once
_UNDER_WAY = {errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK}
_CONNECTED = {0, errno.EISCONN}


class Connection:
    """Tries a host's addresses in turn. Wait until ``fileno()`` can be read (with ``wants_write``: or written).

    Every method raises OSError (ssl.SSLError is one) when the connection fails.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        """``tls`` is for an https address."""
        self._address = address
        self._tls = tls if address.secure else None
        self._socket = socket.socket()  # stands in until the first address is known
        targets = numeric_targets(address.host, address.port)
        self._lookup = Lookup(address.host, address.port) if targets is None else None
        self._targets = deque(targets or ())
        self._connected = False
        self.wants_write = False
        self.ready = False  # connected, TLS included
        if targets:
            self._next_socket()

    def fileno(self) -> int:
        """The descriptor; another one once the name is looked up, or an address did not answer; -1 once closed."""
        return self._socket.fileno() if self._lookup is None else self._lookup.fileno()

    def advance(self) -> bool:
        """Goes on connecting as far as that is possible without waiting; true once ``ready``."""
        if self.ready:
            return True
        if self._lookup is not None and not self._looked_up(self._lookup):
            return False
        if not self._connected and not self._connect():
            return False
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
        if self._lookup is not None:
            self._lookup.close()
        with contextlib.suppress(OSError):
            self._socket.close()

    def _looked_up(self, lookup: Lookup) -> bool:
        found = lookup.result()
        if found is None:
            return False
        self._targets = deque(found)
        self._next_socket()
        lookup.close()  # after the socket is made, so that the descriptors differ
        self._lookup = None
        return True

    def _connect(self) -> bool:
        while (code := self._socket.connect_ex(self._where)) not in _CONNECTED:
            if code in _UNDER_WAY:
                return False
            if not self._targets:
                raise OSError(code, os.strerror(code))
            self._next_socket()
        self._connected = True
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(
                self._socket, server_hostname=self._address.host, do_handshake_on_connect=False
            )
        return True

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

    def _next_socket(self) -> None:
        family, self._where = self._targets.popleft()
        old, self._socket = self._socket, socket.socket(family, socket.SOCK_STREAM)
        old.close()  # after the next one is made, so that the descriptors differ
        self._socket.setblocking(False)
        self.wants_write = True
