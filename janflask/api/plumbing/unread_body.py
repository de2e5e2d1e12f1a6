"""What an answer did not need of its request's body does not stand in the way of the next request.

Behind a 404 or a 413 the rest of the body is still on its way, and the next request of the connection comes after it.
gunicorn passes over 64 KiB by itself and closes the connection where there is more, though its answer said that it
stays open. So the rest is read here first, up to a limit; beyond it the answer says that the connection is closed.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from flask import Flask, Response, g, request

from janflask.api.plumbing.context import INPUT, client_socket, has_body

PATIENCE = 5.0  # seconds of silence, and for all of it before the last piece
PIECE = 1 << 16  # bytes
CLOSE = "close_connection"  # gunicorn.conf.py puts it on a body: once called, the answer closes its connection

log = logging.getLogger(__name__)


def register(app: Flask, limit: int) -> None:
    """Before any other part of ``app`` that touches the body. At most ``limit`` bytes are read in vain."""

    def keep() -> None:
        environ, client = request.environ, client_socket()
        body = environ[INPUT]
        if has_body() and client is not None and hasattr(body, CLOSE):
            length = environ.get("CONTENT_LENGTH", "")
            told = int(length) if length.isdecimal() else None
            g.sent_body = SentBody(body, told, client, getattr(body, CLOSE))

    def finish(response: Response) -> Response:
        body: SentBody | None = g.get("sent_body")
        if body is not None and not body.is_over(limit):
            body.close_connection()
        return response

    app.before_request(keep)
    app.after_request(finish)


def end_connection() -> None:
    """The current request's body has no end that could be found: its answer is the connection's last."""
    body: SentBody | None = g.pop("sent_body", None)
    if body is not None:
        body.close_connection()


@dataclass(frozen=True, slots=True)
class SentBody:
    """A request's body as the server gives it."""

    body: IO[bytes]
    length: int | None  # bytes, as the client told; None: it comes in chunks
    client: socket.socket
    close_connection: Callable[[], None]

    def is_over(self, limit: int) -> bool:
        """Whether nothing more of the body is to come, once what is left was read and thrown away."""
        if self.length is not None and self.length > limit:
            limit = 1  # enough to see whether it was read already
        before = self.client.gettimeout()
        deadline = time.monotonic() + PATIENCE
        try:
            while limit > 0 and (left := deadline - time.monotonic()) > 0:
                self.client.settimeout(left)
                piece = self.body.read(PIECE)
                if not piece:
                    return True
                limit -= len(piece)
        except Exception as error:  # whatever is wrong with a body that nobody wants: nothing can follow it
            log.debug("the rest of a request's body cannot be read: %r", error)
        finally:
            self.client.settimeout(before)
        return False
