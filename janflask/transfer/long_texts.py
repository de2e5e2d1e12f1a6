"""JSON documents whose long texts stay in their file, so that a document of any size needs little memory.

What is long in an exported thread are the contents of its files, each one text in base64. The document is read once in
pieces; a short word takes the place of each long text. What comes out is decoded as usual, and whoever meets one of the
words asks for the text behind it: in pieces, or whole where it must be.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import InvalidRequestError, RequestTooLargeError, why_not_json
from janflask.models.json_bodies import is_deeper, limit_values
from janflask.transfer.checks import MAX_DEPTH, refused

LONG = 1 << 16  # bytes of a text, as written, beyond which it stays in the file
_PIECE = 1 << 18  # bytes
_QUOTE = ord('"')
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # of a text, up to its end or half an escape
_ESCAPE = re.compile(rb"\\(?:(/)|u00([0-7][0-9A-Fa-f]))")  # those that base64 may be written with
_LONGEST_ESCAPE = 6  # bytes


@dataclass(frozen=True, slots=True)
class LongText:
    """One text that is in the file still: ``length`` bytes from ``start``, as JSON writes it."""

    file: BinaryIO
    start: int
    length: int

    def raw(self) -> Iterator[bytes]:
        """As it is written, in pieces."""
        at, end = self.start, self.start + self.length
        while at < end:
            self.file.seek(at)
            piece = self.file.read(min(_PIECE, end - at))
            if not piece:
                raise OSError("a document ended before its end")
            at += len(piece)
            yield piece

    def ascii(self) -> Iterator[bytes]:
        """The characters of a text in ASCII, in pieces; what it has beyond that stays as it is written."""
        rest = b""
        for piece in self.raw():
            piece = rest + piece
            escape = piece.rfind(b"\\", max(0, len(piece) - _LONGEST_ESCAPE))
            cut = escape if escape >= 0 else len(piece)
            rest = piece[cut:]
            yield _ESCAPE.sub(_plain, piece[:cut])
        yield _ESCAPE.sub(_plain, rest)

    def whole(self, place: str) -> str:
        """The text. Raises InvalidRequestError with its ``place``."""
        try:
            return json_decoder(str).decode(b'"' + b"".join(self.raw()) + b'"')
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refused(place, f"is not valid JSON: {error}") from None


class LongTexts:
    """What stayed in the file of one document."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.limit = limit
        self._file = file
        self._left = limit
        self._any = False
        self._mark = secrets.token_hex(16)  # nobody who writes a document can know it

    def replace(self, start: int, length: int) -> bytes:
        """The word that stands for a text."""
        self._any = True
        return f"{self._mark}{start}:{length}".encode()

    def find(self, value: str) -> str | LongText:
        """The text that ``value`` stands for, or ``value`` itself."""
        if not value.startswith(self._mark):
            return value
        start, _, length = value.removeprefix(self._mark).partition(":")
        return LongText(self._file, int(start), int(length))

    def use(self, size: int) -> None:
        """Counts bytes that are held in memory. Raises RequestTooLargeError."""
        self._left -= size
        if self._left < 0:
            raise RequestTooLargeError(
                f"the document without its files' contents is larger than {self.limit >> 20} MiB (JANFLASK_MAX_BODY_MB)"
            )

    def put_back(self, value: Any, place: str, limit: int) -> Any:
        """``value`` (JSON) with all its texts. Raises RequestTooLargeError for one above ``limit`` bytes."""
        if not self._any or is_deeper(value, MAX_DEPTH):  # which is refused as such
            return value
        return self._put_back(value, place, limit)

    def _put_back(self, value: Any, place: str, limit: int) -> Any:
        if isinstance(value, str):
            return self._whole(value, place, limit)
        if isinstance(value, Mapping):
            return {self._whole(key, place, limit): self._put_back(item, place, limit) for key, item in value.items()}
        if isinstance(value, list):
            return [self._put_back(item, place, limit) for item in value]
        return value

    def _whole(self, value: str, place: str, limit: int) -> str:
        text = self.find(value)
        if isinstance(text, str):
            return text
        if text.length > limit:
            raise RequestTooLargeError(f"{place} has a text of {text.length} bytes, more than it may", param=place)
        self.use(text.length)
        return text.whole(place)


def read(file: BinaryIO, limit: int, max_items: int) -> tuple[Any, LongTexts]:
    """The document in ``file``, which must be one that can be sought, and its long texts.

    ``limit`` is in bytes, on all that is held in memory; ``max_items`` are values. Raises InvalidRequestError and
    RequestTooLargeError.
    """
    texts = LongTexts(file, limit)
    cutter = _Cutter(texts)
    at, rest = 0, b""
    file.seek(0)
    while piece := file.read(_PIECE):
        piece = rest + piece
        used = cutter.feed(piece, at)
        at, rest = at + used, piece[used:]
    data = cutter.finish(rest)
    limit_values(data, max_items, "document")
    try:
        return msgspec.json.decode(data), texts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"the document is not valid JSON: {why_not_json(data, error)}", code="invalid_json"
        ) from None


class _Cutter:
    """Takes a document in pieces and keeps what is not a long text."""

    def __init__(self, texts: LongTexts) -> None:
        self._texts = texts
        self._kept = bytearray()
        self._text = bytearray()  # the beginning of the one under way
        self._start = -1  # where that is in the file; -1 between texts

    def feed(self, piece: bytes, at: int) -> int:
        """Takes ``piece``, which is ``at`` in the file; how much of it was used: not half an escape at its end."""
        done = 0
        while done < len(piece):
            if self._start < 0:
                end = piece.find(b'"', done) + 1 or len(piece)
                self._keep(piece[done:end])
                if piece[end - 1] == _QUOTE:
                    self._start = at + end
                done = end
                continue
            match = _INSIDE.match(piece, done)
            end = match.end() if match is not None else done
            if len(self._text) <= LONG:
                self._text += piece[done:end]
            if end < len(piece) and piece[end] != _QUOTE:
                return end
            done = end
            if end < len(piece):
                self._close(at + end)
                done += 1
        return done

    def finish(self, rest: bytes) -> bytes:
        """What is left of the document, which ends with ``rest``."""
        return bytes(self._kept + self._text[: LONG + 1] + rest)

    def _close(self, end: int) -> None:
        length = end - self._start
        self._keep(self._texts.replace(self._start, length) if length > LONG else self._text)
        self._keep(b'"')
        self._text.clear()
        self._start = -1

    def _keep(self, data: bytes | bytearray) -> None:
        self._texts.use(len(data))
        self._kept += data


def _plain(escape: re.Match[bytes]) -> bytes:
    return escape[1] or bytes([int(escape[2], 16)])
