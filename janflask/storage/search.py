"""Looking for words in threads: a scan, over bytes where that is enough to say no."""

from __future__ import annotations

from typing import Any

import msgspec

from janflask.records import words_of
from janflask.storage.message_log import Line, Log


class _Texts(msgspec.Struct):
    content: Any = None


_decode = msgspec.json.Decoder(_Texts).decode


class Words:
    """The words of a query; case does not matter (Unicode's case folding)."""

    def __init__(self, query: str) -> None:
        self._words = frozenset(query.casefold().split())
        # Letters and digits of ASCII stand in JSON as they are, unless escaped.
        self._plain = {word: word.encode() for word in self._words if word.isascii() and word.isalnum()}

    def missing(self, title: str, messages: Log | None = None) -> frozenset[str]:
        """The words that are neither in a thread's title nor in any of its messages."""
        missing = self._words - _found(self._words, title)
        for line in () if messages is None else messages.backward():
            if not missing:
                break
            missing -= self._in_line(line, missing)
        return missing

    def _in_line(self, line: Line, wanted: frozenset[str]) -> frozenset[str]:
        data = line.data
        # Beyond ASCII, case folding may make a letter of ASCII out of another: such a line is always looked into.
        if b"\\u" not in data and data.isascii():
            lower = data.lower()
            wanted = frozenset(word for word in wanted if word not in self._plain or self._plain[word] in lower)
        if not wanted:
            return wanted
        try:
            content = _decode(data).content
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return frozenset()
        return _found(wanted, words_of(content))


def _found(words: frozenset[str], text: str) -> frozenset[str]:
    folded = text.casefold()
    return frozenset(word for word in words if word in folded)
