"""Bodies that come packed (``Content-Encoding: gzip``) are unpacked while they are read.

Every limit is on what comes out, and nothing is unpacked before somebody reads it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TypeVar, cast

from flask import Flask, Request, Response, after_this_request, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from janflask.api.plumbing.context import INPUT, has_body
from janflask.errors import InvalidRequestError, UnsupportedEncodingError

GZIP = "gzip"
_NAMES = ("gzip", "x-gzip")
_OVERHEAD = 1 << 16  # bytes that a packed body may have beyond the limit on the plain one

T = TypeVar("T")


def register(app: Flask) -> None:
    """Views read plain bodies; another coding than gzip, or several, is refused with UnsupportedEncodingError."""
    app.before_request(_unpack)


def _unpack() -> None:
    environ = request.environ
    named = [name.strip().lower() for name in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    if not codings or not has_body() or request.routing_exception is not None:
        return
    if len(codings) != 1 or codings[0] not in _NAMES:
        after_this_request(_name_codings)
        raise UnsupportedEncodingError(
            f"the body's content encoding is {', '.join(codings)[:200]}: send it plain, or packed once with {GZIP}"
        )
    environ[INPUT] = UnpackedInput(get_input_stream(environ), request)
    environ["wsgi.input_terminated"] = True  # it ends by itself, and how long it is nobody knows before
    environ.pop("CONTENT_LENGTH", None)
    environ.pop("HTTP_CONTENT_ENCODING")


def _name_codings(response: Response) -> Response:
    response.headers["Accept-Encoding"] = GZIP  # RFC 9110, 15.5.16
    return response


class UnpackedInput:
    """A ``wsgi.input`` of what comes out of ``packed``."""

    def __init__(self, packed: IO[bytes], given: Request) -> None:
        self._file = gzip.GzipFile(fileobj=cast(IO[bytes], _Counted(packed, given)), mode="rb")

    def read(self, size: int = -1) -> bytes:
        return self._unpacked(lambda: self._file.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._unpacked(lambda: self._file.readline(size))

    def readlines(self, hint: int = -1) -> list[bytes]:
        return self._unpacked(lambda: self._file.readlines(hint))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _unpacked(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InvalidRequestError(f"the body is not whole {GZIP}: {error}", code="invalid_encoding") from None


class _Counted:
    """The packed bytes; no more than the plain ones may be, even if nothing comes out of them."""

    def __init__(self, stream: IO[bytes], given: Request) -> None:
        self._stream = stream
        self._request = given
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        limit = self._request.max_content_length
        if limit is not None and self._read > limit + _OVERHEAD:
            raise RequestEntityTooLarge
        return data
