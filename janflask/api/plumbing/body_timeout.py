"""A client that stops in the middle of a request's body, or sends nonsense, neither holds a thread nor is our error.

The WSGI server's socket waits without end, which is right while an answer is streamed and between requests. So it gets
a limit for each read of the body only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TypeVar

from flask import Flask, request
from werkzeug.wsgi import get_content_length

from janflask.api.plumbing.context import INPUT, client_socket, has_body
from janflask.api.plumbing.unread_body import end_connection
from janflask.errors import ClientDisconnectedError, InvalidRequestError, RequestTimeoutError

T = TypeVar("T")


def register(app: Flask, seconds: float) -> None:
    """Reading a body raises RequestTimeoutError after ``seconds`` without anything, InvalidRequestError for nonsense.

    ClientDisconnectedError when it ends before its ``Content-Length``: what came must not pass for all of it. Each ends
    the connection: where the next request begins nobody knows.
    """

    def limit_silence() -> None:
        client = client_socket() if has_body() else None
        if client is not None:
            environ = request.environ  # the request itself would remember a packed body's length
            environ[INPUT] = LimitedInput(environ[INPUT], client, seconds, get_content_length(environ))

    app.before_request(limit_silence)


class LimitedInput:
    """A ``wsgi.input`` that reads from ``client``. Not an OSError: werkzeug would take it for a lost connection."""

    def __init__(self, stream: IO[bytes], client: socket.socket, seconds: float, length: int | None) -> None:
        self._stream = stream
        self._client = client
        self._seconds = seconds
        self._missing = length or 0  # bytes that are still to come; 0: it ends by itself

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._within(lambda: self._stream.read(size)), size)

    def readline(self, size: int = -1) -> bytes:
        return self._counted(self._within(lambda: self._stream.readline(size)), size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)  # WSGI lets the hint be ignored

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _counted(self, data: bytes, size: int) -> bytes:
        """A server gives a body that was cut as if it were whole, and says that it ends by itself."""
        if not data and size != 0 and self._missing > 0:
            end_connection()
            raise ClientDisconnectedError(
                f"the client closed the connection {self._missing} bytes before its body's Content-Length"
            )
        self._missing -= len(data)
        return data

    def _within(self, read: Callable[[], T]) -> T:
        before = self._client.gettimeout()
        self._client.settimeout(self._seconds)
        try:
            return read()
        except TimeoutError:
            end_connection()
            self._stop_reading()
            raise RequestTimeoutError(
                f"nothing more of the request's body came for {self._seconds:g} s (JANFLASK_UPLOAD_TIMEOUT): "
                "send it again"
            ) from None
        except OSError:
            end_connection()
            raise  # the client is gone; werkzeug knows what that means
        except Exception as error:  # the server's own word for chunks that are none
            end_connection()
            raise InvalidRequestError(
                f"the request's body is not in the chunks that it says: {error}", code="invalid_body"
            ) from None
        finally:
            self._client.settimeout(before)

    def _stop_reading(self) -> None:
        """Else gunicorn waits, in the thread that all connections need, for more of what the answer made pointless."""
        with suppress(OSError):
            socket.socket.shutdown(self._client, socket.SHUT_RD)  # TLS's own method would end the answer, too
