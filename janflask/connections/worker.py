"""gunicorn's threaded worker, which no client can hold up.

gunicorn's own gives a thread to each connection: to one that says nothing for five seconds, to one whose headers come
a byte at a time for as long as it likes, and its main loop for two seconds to each one that it closes. Here a thread
works for a request whose head is there. Who waits, on either side, waits in the poller, which has one list with a
deadline for each kind. And a worker whose threads are all at work takes no further connection: another one may have
a thread left, where gunicorn's has the connection wait behind streams that may last for hours.
"""

from __future__ import annotations

import errno
import selectors
import time
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders
from gunicorn.workers import gthread
from gunicorn.workers.gthread import ThreadWorker

from janflask.connections.connection import LINGER, MAX_HEAD, Connection, HeadTooLargeError, PatientSocket
from janflask.connections.crowd import Crowd
from janflask.connections.refusals import refuse, write_error

_PATIENCE = 0.02  # seconds in which most requests' heads come: waiting for them costs less than coming back
_LOOK = 1.0  # seconds between two looks at who is late
_MAX_LINGERING = 256
_REFUSALS = 64  # that are told so, at the same time; others are just closed


class GuardedWorker(ThreadWorker):  # type: ignore[misc]
    """A worker. A subclass has the three limits from the settings.

    ``header_timeout``: seconds that a request's line and headers may take. ``send_timeout``: seconds in which a client
    may take nothing of its answer. ``client_connections``: those of one address; 0: any number.
    ``trusted_proxies`` are not counted: each speaks for many.
    """

    header_timeout = 20.0
    send_timeout = 120.0
    client_connections = 0
    trusted_proxies: tuple[str, ...] = ()

    def init_process(self) -> None:
        """See gunicorn."""
        util.write_error = write_error
        self._crowd = Crowd(self.client_connections, self.trusted_proxies)
        self._lingering: dict[Connection, float] = {}
        self._looked = 0.0
        self._crowded = False
        self._under_way = 0  # connections that have a thread, or wait for one
        super().init_process()

    def accept(self, listener: Any) -> None:
        """See gunicorn."""
        try:
            accepted, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        place = self._crowd.admit(client)
        sock = PatientSocket.of(accepted)
        if place is None:
            self._refuse(sock, client, listener)
            return
        self.nr_conns += 1
        gone = partial(self._crowd.leave, place)
        conn = Connection(self.cfg, sock, client, listener.getsockname(), on_gone=gone, linger=self._linger)
        self.enqueue_req(conn)

    def set_accept_enabled(self, enabled: bool) -> None:
        """See gunicorn, which asks for it all the time."""
        super().set_accept_enabled(enabled and self._under_way < self.cfg.threads)

    def enqueue_req(self, conn: Connection) -> None:
        """Gives a connection to a thread. See gunicorn."""
        self._under_way += 1
        if self.alive and self._under_way >= self.cfg.threads:
            self.set_accept_enabled(False)
        super().enqueue_req(conn)

    def handle(self, conn: Connection) -> Any:
        """In a thread. See gunicorn."""
        try:
            if not self._has_head(conn):
                if self.alive and not conn.is_late():
                    return gthread._DEFER
                conn.give_up()
                return False
        except HeadTooLargeError:
            self.handle_error(None, conn.sock, conn.client, LimitRequestHeaders(f"more than {MAX_HEAD >> 10} KiB"))
            return False
        except OSError as error:
            self.log.debug("A connection ended before its request: %s", error)
            return False
        conn.deadline = None
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """In a thread. See gunicorn."""
        _check(req)
        conn.sock.settimeout(self.send_timeout)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            self.log.debug("A client took nothing of its answer for %g s", self.send_timeout)
            raise BrokenPipeError(errno.EPIPE, "the client takes nothing of its answer") from None

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """See gunicorn."""
        self._under_way -= 1
        super().finish_request(conn, fs)
        if conn.deadline is not None:
            conn.timeout = conn.deadline  # gunicorn's begins anew with each byte

    def murder_pending(self) -> None:
        """Gives up who is late with a head or with hearing the last of an answer. See gunicorn."""
        if self._crowded or self.nr_conns >= self.worker_connections - 1:
            self._let_one_go()
        now = time.monotonic()
        if now - self._looked < _LOOK and self.alive:
            return
        self._looked = now
        for conn in [each for each in self.pending_conns if each.timeout <= now]:
            conn.give_up()
            self._drop(conn)
        for conn in [each for each, until in self._lingering.items() if until <= now]:
            self._end(conn)

    def _has_head(self, conn: Connection) -> bool:
        if conn.deadline is None:
            conn.deadline = time.monotonic() + self.header_timeout
        if not conn.initialized:
            if self.cfg.is_ssl:
                return True  # its handshake comes first
            conn.init()
        return conn.is_http2 or conn.has_head(_PATIENCE if self.alive else gthread.STOP_KEEPALIVE_LINGER)

    def _make_room(self) -> None:
        """There are no descriptors left. Not at once: what the poller has seen of a connection may be under way."""
        self.log.warning("No more files can be opened (ulimit -n): connections wait, and idle ones are closed")
        self._crowded = True
        time.sleep(_PATIENCE)  # the listener stays readable

    def _let_one_go(self) -> None:
        """The one that has been idle the longest."""
        self._crowded = False
        if self.keepalived_conns:
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)
        elif self.pending_conns:
            self._drop(min(self.pending_conns, key=lambda each: float(each.timeout)))

    def _drop(self, conn: Connection) -> None:
        """One that waits for its request's head."""
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)
        self._close(conn)

    def _close(self, conn: Any) -> None:
        """One that has no thread and is in no list any more."""
        self.nr_conns -= 1
        conn.close()

    def _refuse(self, sock: PatientSocket, client: Any, listener: Any) -> None:
        conn = Connection(self.cfg, sock, client, listener.getsockname(), on_gone=lambda: None, linger=self._linger)
        if len(self._lingering) < _REFUSALS and not self.cfg.is_ssl:
            refuse(sock, 429, "too many connections of this address are open (JANFLASK_CLIENT_CONNECTIONS)")
            conn.close(graceful=True)
        else:
            conn.close()

    def _linger(self, conn: Connection) -> bool:
        """Keeps a connection whose answer was sent until the client has closed it, too; False: it must not wait."""
        if len(self._lingering) >= _MAX_LINGERING:
            return False
        if not self.alive:
            util.close_graceful(conn.sock)  # the last ones: nobody else waits for the main loop
            return False
        conn.sock.setblocking(False)
        self._lingering[conn] = time.monotonic() + LINGER
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_lingering_readable, conn))
        return True

    def _on_lingering_readable(self, conn: Connection, sock: Any) -> None:
        if conn.is_over():
            self._end(conn)

    def _end(self, conn: Connection) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        conn.close()


def _check(req: Any) -> None:
    """What gunicorn takes, and others on the way here may take for something else. Raises InvalidHeader."""
    for name, value in req.headers:
        if name == "TRANSFER-ENCODING" and value.lower() != "chunked":
            raise InvalidHeader(name, req=req)
    if not req.uri.startswith("/") and req.uri != "*":
        authority = req.uri.partition("://")[2].partition("/")[0]
        if [authority] != [value for name, value in req.headers if name == "HOST"]:
            raise InvalidHeader("HOST", req=req)
