"""Server-sent events: bytes in, the data of each event out."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLongError(ValueError):
    """An event has more bytes than it may."""


class EventReader:
    """Reads as the standard says: lines end with CRLF, LF or CR; an empty one ends an event; a colon begins a comment.

    ``limit``: bytes of one event.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._scanned = 0  # bytes of the rest in which there is no line's end
        self._first = True

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that are complete now. Raises TooLongError."""
        self._rest += piece
        events: list[bytes] = []
        start = 0
        while (end := _LINE_END.search(self._rest, max(start, self._scanned))) is not None:
            if end.group() == b"\r" and end.end() == len(self._rest):
                break  # a line feed may follow
            self._line(bytes(self._rest[start : end.start()]), events)
            start = end.end()
        del self._rest[:start]
        self._scanned = max(0, len(self._rest) - 1)
        self._check(len(self._rest))
        return events

    def end(self) -> list[bytes]:
        """What an event that no empty line ended holds: some servers leave the last one out."""
        events: list[bytes] = []
        if self._rest:
            self._line(bytes(self._rest).removesuffix(b"\r"), events)
            self._rest.clear()
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
            self._check(0)

    def _check(self, more: int) -> None:
        if self._size + more > self._limit:
            raise TooLongError(f"an event is longer than {self._limit} bytes")
