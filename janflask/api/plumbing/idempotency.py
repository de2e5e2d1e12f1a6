"""``Idempotency-Key``: a POST that stores something has its effect once, and its answer is given again for a day.

What was refused had no effect and is not kept. A streamed answer is kept when it was sent to its end.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from janflask.access.once import MAX_ANSWER, Answer, Held, Once
from janflask.access.scopes import Scope
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import whole_body
from janflask.api.plumbing.context import INPUT
from janflask.api.plumbing.storing import stores
from janflask.api.plumbing.uploads import largest_body
from janflask.errors import (
    IdempotencyKeyReusedError,
    IdempotencyOutcomeUnknownError,
    InvalidRequestError,
    JanflaskError,
)
from janflask.files.disk import Disk
from janflask.settings import Settings

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_STORED = (Scope.CONVERSATIONS, Scope.ADMIN)  # what it takes to store something
_PIECE = 1 << 16

log = logging.getLogger(__name__)


def register(app: Flask, settings: Settings) -> None:
    """After whatever refuses requests, and what unpacks their bodies."""
    once = Once(settings.idempotency_dir, Disk(durable=settings.durability == "disk"))
    largest = largest_body(settings.max_upload_mb)

    def begin() -> Response | None:
        key = request.headers.get(HEADER)
        if key is None or request.method != "POST" or request.routing_exception is not None or not stores(*_STORED):
            return None
        if not _KEY.fullmatch(key):
            raise InvalidRequestError(f"{HEADER} must be 1 to 255 visible ASCII characters", param=HEADER)
        asked = _Asked()
        found = once.begin(access.caller().key_id, key)
        if isinstance(found, Held):
            g.idempotent = (found, asked)
            return None
        return _again(found, asked.read(largest))

    app.before_request(begin)
    app.after_request(lambda response: _finish(response, largest))
    app.teardown_request(_let_go)


class _Asked:
    """What is asked, as a digest: method, path and body. A form's boundary, chosen by chance, is none of it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256(f"{request.method} {request.full_path}\n".encode())
        boundary = request.mimetype_params.get("boundary", "") if request.mimetype.startswith("multipart/") else ""
        self._boundary = boundary.encode("utf-8", "surrogateescape")
        self._tail = b""
        self._streamed = not request.is_json or bool(request.url_rule and request.url_rule.rule.endswith("/import"))
        if self._streamed:
            request.environ[INPUT] = _Heard(request.environ[INPUT], self._add)
        else:
            self._add(whole_body(request))

    def read(self, limit: int) -> str:
        """The digest of what has not been read so far, too."""
        if self._streamed:
            request.max_content_length = limit
            while request.stream.read(_PIECE):
                pass
        self._digest.update(self._tail)
        return self._digest.hexdigest()

    def _add(self, data: bytes) -> None:
        if not self._boundary:
            self._digest.update(data)
            return
        *parts, last = (self._tail + data).split(self._boundary)
        for part in parts:
            self._digest.update(part)
        kept = len(last) - len(self._boundary) + 1  # what may be the beginning of one is looked at again
        self._digest.update(last[: max(kept, 0)])
        self._tail = last[max(kept, 0) :]


class _Heard:
    """A ``wsgi.input`` of which every piece is told."""

    def __init__(self, stream: IO[bytes], tell: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._tell = tell

    def read(self, size: int = -1) -> bytes:
        return self._told(self._stream.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._told(self._stream.readline(size))

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _told(self, data: bytes) -> bytes:
        self._tell(data)
        return data


def _again(answer: Answer, asked: str) -> Response:
    if answer.request != asked:
        raise IdempotencyKeyReusedError(
            f"this {HEADER} was sent with another request: a key is for one request, sent again as it was"
        )
    if answer.body is None:
        raise IdempotencyOutcomeUnknownError(
            f"the request that had this {HEADER} was done, and its answer too large to be kept"
        )
    response = Response(answer.body, answer.status, answer.headers)
    response.headers[REPLAYED] = "true"
    return response


def _finish(response: Response, largest: int) -> Response:
    held, asked = g.pop("idempotent", (None, None))
    if held is None:
        return response
    if not 200 <= response.status_code < 300:
        if response.status_code == 500:
            held.leave()  # nobody foresaw it: what it has done nobody knows
        else:
            held.forget()
        return response
    try:
        digest = asked.read(largest)
    except (JanflaskError, HTTPException, OSError) as error:
        log.warning("a request with an %s was not read to its end: %s", HEADER, error)
        held.leave()
        return response
    headers = [(name, value) for name, value in response.headers if name != "Content-Length"]

    def keep(body: bytes | None) -> None:
        try:
            held.done(Answer(digest, response.status_code, headers, body))
        except (JanflaskError, OSError) as error:
            log.warning("the answer to a request with an %s could not be kept: %s", HEADER, error)

    if response.is_streamed:
        response.response = _Kept(response.response, keep, held.leave)
    else:
        keep(response.get_data())
    return response


class _Kept:
    """A streamed body that is kept when it has come to its end."""

    def __init__(self, pieces: Iterable[Any], keep: Callable[[bytes | None], None], leave: Callable[[], None]) -> None:
        self._pieces = pieces
        self._iterator = iter(pieces)
        self._keep = keep
        self._leave = leave
        self._sent = bytearray()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            piece = next(self._iterator)
        except StopIteration:
            self._keep(bytes(self._sent) if len(self._sent) <= MAX_ANSWER else None)
            raise
        if len(self._sent) <= MAX_ANSWER:
            self._sent += piece.encode() if isinstance(piece, str) else piece
        return piece

    def close(self) -> None:
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            self._leave()  # no effect where it was kept


def _let_go(error: BaseException | None) -> None:
    """Whatever else happened."""
    held, _ = g.pop("idempotent", (None, None))
    if held is not None:
        held.leave()
