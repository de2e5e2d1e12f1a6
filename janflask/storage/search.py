"""Looking for words in threads: a scan, over bytes where that is enough to say no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from janflask.storage.message_log import Line, Log


class _Texts(msgspec.Struct):
    content: Any = None


_decode = msgspec.json.Decoder(_Texts).decode


class Words:
    """The words of a query; case does not matter (Unicode's case folding)."""

    def __init__(self, query: str) -> None:
        self._words = query.casefold().split()
        self._ascii = [word.encode() for word in self._words if word.isascii() and word.isalnum()]

    def __bool__(self) -> bool:
        return bool(self._words)

    def in_text(self, text: str) -> bool:
        """Whether every word is in ``text``."""
        folded = text.casefold()
        return all(word in folded for word in self._words)

    def in_log(self, log: Log) -> bool:
        """Whether every word is in one message's text."""
        return any(self._in_line(line) for line in log.backward())

    def _in_line(self, line: Line) -> bool:
        data = line.data
        # Letters and digits stand in JSON as they are, unless escaped; beyond ASCII, folding may make them of others.
        if self._ascii and b"\\u" not in data and data.isascii():
            lower = data.lower()
            if not all(word in lower for word in self._ascii):
                return False
        try:
            content = _decode(data).content
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return self.in_text("\n".join(_texts(content)))


def _texts(content: object) -> Sequence[str]:
    if isinstance(content, str):
        return [content]
    found = []
    for part in content if isinstance(content, list) else ():
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        value = text.get("value") if isinstance(text, dict) else text
        if isinstance(value, str):
            found.append(value)
    return found
