"""Finding markers in a text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")  # what most markers look like


class Found(NamedTuple):
    """The first marker in a text. ``marker`` None: there is none, and from ``start`` on one may have begun."""

    start: int
    end: int
    marker: str | None


class Markers:
    """Some texts to be looked for all at once. The one that begins first is found; of several there, the longest."""

    def __init__(self, markers: Iterable[str]) -> None:
        self.all = tuple(sorted({marker for marker in markers if marker}, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self.all)) if self.all else r"(?!)")
        self._firsts = frozenset(marker[0] for marker in self.all)
        self._most = max(map(len, self.all), default=0) - 1  # characters of a beginning

    def find(self, text: str) -> Found:
        """Where the first one is, or where what may become one begins: ``len(text)`` if nothing does."""
        found = self._pattern.search(text)
        if found is None:
            start = self._begun(text)
            return Found(start, start, None)
        if any(
            len(marker) > len(text) - found.start() and self._may_be(marker, text, found.start()) for marker in self.all
        ):
            return Found(found.start(), found.start(), None)  # a longer one may come of it
        return Found(found.start(), found.end(), found.group())

    def leading(self, text: str) -> Found:
        """The same for a text that is looked at at its beginning only: ``start`` 1 if it begins with none."""
        for marker in self.all:
            if text.startswith(marker):
                return Found(0, len(marker), marker)
            if marker.startswith(text):
                return Found(0, 0, None)
        return Found(1, 1, None)

    def _begun(self, text: str) -> int:
        for start in range(max(0, len(text) - self._most), len(text)):
            if text[start] in self._firsts and any(self._may_be(marker, text, start) for marker in self.all):
                return start
        return len(text)

    @staticmethod
    def _may_be(marker: str, text: str, start: int) -> bool:
        return marker.startswith(text[start:])
