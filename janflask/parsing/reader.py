"""A text that grows, read from its beginning on: every step waits until it can be told what comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from janflask.parsing.calls import ANY

T = TypeVar("T")
Step = Generator[None, None, T]  # gives None where it needs more text

MAX_BETWEEN = 160  # characters in which what stands between two parts of a call has to be found

_ID = re.compile(r"[\w.\-]+")
_BRACKET = re.compile(r'[{}\[\]"\\]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[,}\]\s]")


class Reader:
    """``text`` up to ``at`` is read. ``closed``: nothing more comes."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.closed = False

    def skip_blank(self) -> Step[bool]:
        """Whether there is anything behind the blanks."""
        while True:
            rest = self.text[self.at :]
            self.at += len(rest) - len(rest.lstrip())
            if self.at < len(self.text):
                return True
            if self.closed:
                return False
            yield

    def take(self, *markers: str) -> Step[str | None]:
        """The one of ``markers`` that comes next, read, blanks in it and before it being of no account; or None."""
        if not (yield from self.skip_blank()):
            return None
        while True:
            found = [(marker, self._match(marker)) for marker in markers if marker]
            whole = [(end, marker) for marker, end in found if end is not None and end > 0]
            if whole and not any(end == 0 and len(marker) > len(max(whole)[1]) for marker, end in found):
                self.at, marker = max(whole)
                return marker
            if self.closed or all(end is None for _, end in found):
                return None
            yield

    def end(self, marker: str) -> Step[bool]:
        """Reads a marker if it comes, or as much of it as there is where the text was cut in it."""
        found = (yield from self.take(marker)) is not None
        if not found and self.at < len(self.text) and self.is_cut_in(marker):
            self.at, found = len(self.text), True
        return found

    def is_cut_in(self, marker: str) -> bool:
        """Whether nothing more comes, and nothing is there that ``marker`` does not begin with."""
        return self.closed and self._match(marker) == 0

    def next(self, *markers: str) -> Step[str | None]:
        """The same, but nothing is read."""
        at = self.at
        marker = yield from self.take(*markers)
        self.at = at
        return marker

    def peek(self) -> Step[str]:
        """The character behind the blanks, which are read; empty at the end."""
        return self.text[self.at] if (yield from self.skip_blank()) else ""

    def word(self, pattern: re.Pattern[str]) -> Step[str]:
        """As much as ``pattern`` matches here."""
        while True:
            found = pattern.match(self.text, self.at)
            if found is not None and (found.end() < len(self.text) or self.closed):
                self.at = found.end()
                return found.group()
            if self.closed or (found is None and self.at < len(self.text)):
                return ""
            yield

    def between(self, pattern: re.Pattern[str]) -> Step[re.Match[str] | None]:
        """What ``pattern`` matches here, read; None where it can't be it."""
        while True:
            found = pattern.match(self.text, self.at)
            if found is not None:
                self.at = found.end()
                return found
            if self.closed or len(self.text) - self.at > MAX_BETWEEN or "{" in self.text[self.at :]:
                return None
            yield

    def until(self, pattern: re.Pattern[str], most: int | None = None) -> Step[str | None]:
        """What stands before ``pattern``, both read; None if it does not come, within ``most`` characters."""
        while True:
            found = pattern.search(self.text, self.at)
            length = (found.start() if found else len(self.text)) - self.at
            if most is not None and length > most:
                return None
            if found is not None:
                text, self.at = self.text[self.at : found.start()], found.end()
                return text
            if self.closed:
                return None
            yield

    def up_to(self, end: str, is_open: Callable[[str], bool], most: int | None = None) -> Step[str | None]:
        """What stands before ``end``, both read; an end within a string, where a text ``is_open``, is none."""
        text, pattern = "", re.compile(re.escape(end))
        while True:
            more = yield from self.until(pattern, None if most is None else most - len(text))
            if more is None or not is_open(text + more):
                return None if more is None else text + more
            text += more + end

    def value(self) -> Step[str | None]:
        """A whole JSON value as it is written, or None."""
        pieces: list[str] = []
        return "".join(pieces) if (yield from self.pieces(pieces.append)) else None

    def pieces(self, tell: Callable[[str], None]) -> Step[bool]:
        """Tells a JSON value as it grows; true at its end, false if it does not come."""
        start = yield from self.peek()
        if start not in ("{", "[", '"'):
            return (yield from self._scalar(start, tell))
        depth, quoted = 0, False
        while True:
            place = begin = self.at
            while (found := (_IN_STRING if quoted else _BRACKET).search(self.text, place)) is not None:
                place = found.end()
                match found.group():
                    case "\\":
                        place += 1
                    case '"':
                        quoted = not quoted
                    case "{" | "[":
                        depth += 1
                    case _:
                        depth -= 1
                if depth == 0 and not quoted and place <= len(self.text):
                    self.at = place
                    tell(self.text[begin:place])
                    return True
                if place > len(self.text):
                    break
            end = len(self.text) - (place > len(self.text))  # half an escape waits
            self.at = end
            if end > begin:
                tell(self.text[begin:end])
            if self.closed:
                return False
            yield

    def _scalar(self, start: str, tell: Callable[[str], None]) -> Step[bool]:
        while start and (found := _SCALAR_END.search(self.text, self.at)) is None and not self.closed:
            yield
        if not start:
            return False
        end = found.start() if found else len(self.text)
        text, self.at = self.text[self.at : end], end
        if text:
            tell(text)
        return bool(text)

    def _match(self, marker: str) -> int | None:
        """Where ``marker`` ends; 0: it may still come; None: it does not."""
        place, size = self.at, len(self.text)
        for char in marker:
            while place < size and self.text[place].isspace() and char != self.text[place]:
                place += 1
            if char.isspace():
                continue
            if place >= size:
                return 0
            if char == ANY:
                found = _ID.match(self.text, place)
                if found is None:
                    return None
                place = found.end()
            elif self.text[place] == char:
                place += 1
            else:
                return None
        return place
