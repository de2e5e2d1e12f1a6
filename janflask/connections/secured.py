"""gunicorn's threaded worker where it speaks HTTPS: a connection holds a thread from when its request is there.

gunicorn's own does the handshake in a thread, and waits there as long as the client likes.
"""

from __future__ import annotations

import selectors
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn.http import get_parser
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from janflask.connections.connection import Connection
from janflask.connections.handshakes import Handshakes
from janflask.connections.worker import GuardedWorker


class SecuredWorker(GuardedWorker):
    """A worker; without a certificate a ``GuardedWorker``.

    A subclass has the limits, and ``context``, which gives what a new connection is shown.
    """

    context: Callable[[], ssl.SSLContext]

    def init_process(self) -> None:
        """See gunicorn, which enters the poll here."""
        self._handshakes: Handshakes | None = None
        super().init_process()

    def enqueue_req(self, conn: Connection) -> None:
        """Gives a connection to a thread, or to the handshakes first. See gunicorn."""
        if not self.cfg.is_ssl or conn.initialized:
            super().enqueue_req(conn)
            return
        if self._handshakes is None:
            self._handshakes = Handshakes(self.poller, self.context, self._await_request, self._close)
        self._handshakes.begin(conn)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Lets a request follow that came along with the one before: the poll does not see what is decrypted."""
        if isinstance(conn.sock, ssl.SSLSocket) and conn.sock.fileno() >= 0 and conn.sock.pending() and _goes_on(fs):
            self._under_way -= 1
            self.enqueue_req(conn)
            return
        super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Ends the wait for handshakes, and for first requests; of a worker that leaves, soon. See gunicorn."""
        if self._handshakes is not None:
            self._handshakes.expire(None if self.alive else STOP_KEEPALIVE_LINGER)
        if not self.alive:
            soon = time.monotonic() + STOP_KEEPALIVE_LINGER
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, soon)
        super().murder_pending()

    def _await_request(self, conn: Any) -> None:
        conn.initialized = True
        conn.parser = get_parser(self.cfg, conn.sock, conn.client)
        conn.timeout = conn.deadline = time.monotonic() + self.header_timeout
        if conn.sock.pending():  # decrypted already: the poll would not see it
            super().enqueue_req(conn)
            return
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))


def _goes_on(fs: Any) -> bool:
    """Whether a connection whose request is done is kept for another one."""
    return not fs.cancelled() and fs.exception() is None and fs.result() is True
