"""Looking for words in threads: a scan, over bytes where that is enough to say no."""

from __future__ import annotations

from typing import Any
from unicodedata import normalize

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import StoreDamagedError
from janflask.storage.jan import decode_object
from janflask.storage.message_lines import Line, parts
from janflask.storage.message_log import Log
from janflask.storage.records import words_of


class _Texts(msgspec.Struct):
    content: Any = None


_decode = json_decoder(_Texts).decode


def folded(text: str) -> str:
    """Text as it is compared: neither case matters nor the normal form, in which macOS and keyboards differ.

    Unicode's canonical caseless matching (D145 in section 3.13 of the standard), put together again at the end.
    """
    return text.lower() if text.isascii() else normalize("NFC", normalize("NFD", text).casefold())


class Words:
    """The words of a query, as ``folded`` compares them."""

    def __init__(self, query: str) -> None:
        self._words = frozenset(folded(query).split())
        # Letters and digits of ASCII stand in JSON as they are, unless escaped.
        self._plain = {word: word.encode() for word in self._words if word.isascii() and word.isalnum()}

    def missing(self, title: str, messages: Log | None = None) -> frozenset[str]:
        """The words that are neither in a thread's title nor in any of its messages."""
        missing = self._words - _found(self._words, title)
        for line in () if messages is None else messages.lines_backward():
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
        return _found(wanted, "\n".join(words_of(_content(part.data)) for part in parts(line)))


def _content(data: bytes) -> Any:
    """A message's content; None in what is no message."""
    try:
        return _decode(data).content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decode_object(data, "it").get("content")  # takes a little more
    except StoreDamagedError:
        return None


def _found(words: frozenset[str], text: str) -> frozenset[str]:
    compared = folded(text)
    return frozenset(word for word in words if word in compared)
