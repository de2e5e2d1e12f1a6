"""Finding the texts of special tokens in a text: all places, those that overlap too, quickly for 6,000 of them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator

Span = tuple[int, int]


class Search:
    """Some texts of two characters or more to be looked for all at once.

    A pattern of first characters and of those behind them finds the few places that are worth a look; there a text is
    looked up by its length.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = frozenset(texts)
        self.longest = max(map(len, self.texts), default=0)
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {begin: sorted(its, reverse=True) for begin, its in lengths.items()}
        firsts, seconds = ("".join({pair[place] for pair in self._lengths}) for place in (0, 1))
        pattern = f"[{re.escape(firsts)}](?=[{re.escape(seconds)}])" if self.texts else r"(?!)"
        self._pattern = re.compile(pattern)
        self._forwards = sorted(self.texts)
        self._backwards = sorted(text[::-1] for text in self.texts)
        self._firsts, self._lasts = frozenset(firsts), frozenset(text[-1] for text in self.texts)
        self._all = "\n".join(self._forwards)

    def spans(self, text: str) -> Iterator[Span]:
        """Where the texts stand, by where they begin, the longest first."""
        for found in self._pattern.finditer(text):
            place = found.start()
            for length in self._lengths.get(text[place : place + 2], ()):
                if place + length <= len(text) and text[place : place + length] in self.texts:
                    yield place, place + length

    def begun(self, text: str) -> list[int]:
        """Places near the end from which on ``text`` is the beginning of one."""
        first = max(0, len(text) - self.longest + 1)
        return [
            place
            for place in range(first, len(text))
            if text[place] in self._firsts and _begins(self._forwards, text[place:])
        ]

    def ends(self, text: str) -> bool:
        """Whether ``text`` begins with the end of one."""
        return any(
            text[length - 1] in self._lasts and _begins(self._backwards, text[:length][::-1])
            for length in range(1, min(self.longest, len(text) + 1))
        )

    def is_within(self, text: str) -> bool:
        """Whether all of ``text`` may be a part of one."""
        return len(text) < self.longest and "\n" not in text and text in self._all


def _begins(ordered: list[str], text: str) -> bool:
    place = bisect_left(ordered, text)
    return place < len(ordered) and ordered[place].startswith(text)
