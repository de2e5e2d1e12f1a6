"""The way of a new connection to HTTPS, in a worker's own poll: a client that takes its time holds no thread.

What speaks plain HTTP to the port is told what the port speaks, and nothing that it sent is looked at.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from janflask.connections.refusals import refusal

LIMIT = 10.0  # seconds from the connection to the end of the handshake
GOODBYE = 2.0  # seconds that one who spoke plain HTTP has to read the answer
LOOK = 0.5  # seconds between two looks for those whose time is over
_PIECE = 1 << 16  # bytes
_HANDSHAKE = b"\x16"  # the first byte of whoever speaks TLS
_MESSAGE = (
    "this port speaks HTTPS: write https:// where http:// is. Whatever this request held, an API key perhaps, was open "
    "to everybody on its way"
)

log = logging.getLogger(__name__)


class Connection(Protocol):
    """gunicorn's."""

    sock: socket.socket


@dataclass(slots=True)
class _Guest:
    conn: Connection
    deadline: float  # by the monotonic clock
    leaves: bool = False  # it was answered, and only what it still sends is thrown away

    @property
    def secured(self) -> bool:
        return isinstance(self.conn.sock, ssl.SSLSocket)


class Handshakes:
    """The connections of one worker that are not secured yet. All is called by its main thread.

    Args:
        poller: the worker's own; its data are functions that take the socket.
        context: gives what is shown to a new connection.
        secured: takes a connection whose handshake is done; its ``sock`` is the secured one, which doesn't block.
        given_up: closes a connection that will not be.
    """

    def __init__(
        self,
        poller: selectors.BaseSelector,
        context: Callable[[], ssl.SSLContext],
        secured: Callable[[Connection], None],
        given_up: Callable[[Connection], None],
    ) -> None:
        self._poller = poller
        self._context = context
        self._secured = secured
        self._given_up = given_up
        self._guests: dict[int, _Guest] = {}  # by id
        self._looks_at = 0.0  # for whose time is over

    def begin(self, conn: Connection) -> None:
        """Takes a new connection, whose socket does not block."""
        guest = _Guest(conn, time.monotonic() + LIMIT)
        self._guests[id(guest)] = guest
        self._await(guest, selectors.EVENT_READ)

    def expire(self, longest: float | None = None) -> None:
        """Gives up those whose time is over; to be called often. ``longest``: seconds that anyone has left."""
        now = time.monotonic()
        if now < self._looks_at:
            return
        self._looks_at = now + LOOK
        if longest is not None:
            for guest in self._guests.values():
                guest.deadline = min(guest.deadline, now + longest)
        for guest in [guest for guest in self._guests.values() if guest.deadline <= now]:
            self._poller.unregister(guest.conn.sock)
            self._give_up(guest, "it took too long")

    def _await(self, guest: _Guest, event: int) -> None:
        self._poller.register(guest.conn.sock, event, partial(self._go_on, guest))

    def _go_on(self, guest: _Guest, sock: socket.socket) -> None:
        self._poller.unregister(sock)
        try:
            if guest.leaves:
                self._drain(guest)
                return
            if not guest.secured and not self._is_tls(guest):
                return
            self._shake_hands(guest)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._await(guest, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._await(guest, selectors.EVENT_WRITE)
        except OSError as error:  # ssl.SSLError is one
            self._give_up(guest, error)
        else:
            del self._guests[id(guest)]
            self._secured(guest.conn)

    def _is_tls(self, guest: _Guest) -> bool:
        first = guest.conn.sock.recv(1, socket.MSG_PEEK)
        if first == _HANDSHAKE:
            return True
        if first.isalpha():  # a method's name
            self._refuse(guest)
        else:
            self._give_up(guest, "it speaks no TLS" if first else "it left")
        return False

    def _shake_hands(self, guest: _Guest) -> None:
        conn = guest.conn
        if not isinstance(conn.sock, ssl.SSLSocket):
            conn.sock = self._context().wrap_socket(
                conn.sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        conn.sock.do_handshake()

    def _refuse(self, guest: _Guest) -> None:
        sock = guest.conn.sock
        sock.recv(_PIECE)
        sock.send(plain_answer())  # whose few bytes always have room
        sock.shutdown(socket.SHUT_WR)
        guest.leaves, guest.deadline = True, time.monotonic() + GOODBYE
        self._await(guest, selectors.EVENT_READ)

    def _drain(self, guest: _Guest) -> None:
        """Closed with something unread, the kernel would take the answer back."""
        if guest.conn.sock.recv(_PIECE):
            self._await(guest, selectors.EVENT_READ)
        else:
            self._give_up(guest, "it spoke plain HTTP")

    def _give_up(self, guest: _Guest, reason: object) -> None:
        log.debug("a connection did not come to HTTPS: %s", reason)
        del self._guests[id(guest)]
        with suppress(OSError):
            self._given_up(guest.conn)


def plain_answer() -> bytes:
    """What is said to plain HTTP: a whole answer."""
    return refusal(400, "Bad Request", _MESSAGE, "https_required")
