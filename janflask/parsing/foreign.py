"""Calls in other notations than JSON: names, and arguments as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

QUOTE = '<|"|>'  # Gemma's, which no text holds

_KEY = re.compile(r"([{,]\s*)([^\s{}\[\],:]+)\s*:")
_NONE = re.compile(r"(?<=[:,\[])\s*None(?=\s*[,\]}])")  # its template writes null as Python has it
_BARE_KEY = re.compile(r"[^\s{}\[\],:]+")
_GEMMA = re.compile(r"\s*([\w.\-]{1,128})\s*(\{.*\})\s*", re.DOTALL)

# Python's: what a call and its arguments are called, and the literals that models write. JSON's words come, too.
_NAME = re.compile(r"[\w.\-]{1,128}")
_KEYWORD = re.compile(r"[^\s=(),'\"\[\]{}]{1,256}")
_STRING = re.compile(
    r"'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL
)
_JSON_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_NUMBER = re.compile(r"[+\-]?(?:\d[\d_]*(\.[\d_]*)?|(\.\d[\d_]*))([eE][+\-]?\d+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_BLANK = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U000([0-9a-fA-F]{5})|([abfnrtv0\\'\"/]))")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}

Calls = list[tuple[str, str]]


def is_keyword(name: str) -> bool:
    """Whether an argument of this name can be read in a call as Python writes it."""
    return _KEYWORD.fullmatch(name) is not None


def is_bare_key(name: str) -> bool:
    """Whether a key of this name can be read without quotes in an object as Gemma writes it."""
    return _BARE_KEY.fullmatch(name) is not None


def is_open(text: str) -> bool:
    """Whether a text of calls, in either notation, ends within a string."""
    if QUOTE in text:
        return text.count(QUOTE) % 2 == 1
    return any(quote in _STRING.sub("", text) for quote in "'\"")


def is_open_json(text: str) -> bool:
    """Whether a text that begins like JSON ends within a string of it."""
    return text.lstrip()[:1] in ("{", "[", '"') and '"' in _JSON_STRING.sub("", text)


def python_calls(text: str) -> Calls | None:
    """A list of calls with keywords, ``[f(a=1), g()]``, or one of them. None: it is none.

    Nothing is run. More is read than Python would: names that it keeps for itself or that have a hyphen, line breaks in
    strings, and JSON's words.
    """
    try:
        reader = _Python(text)
        calls = reader.items("[", "]", reader.call) if reader.take("[") else [reader.call()]
        reader.end()
        return [(name, json.dumps(values, ensure_ascii=False, allow_nan=False)) for name, values in calls]
    except (ValueError, OverflowError, RecursionError):
        return None


class _Python:
    """Reads literals from a text's beginning on. Raises ValueError for what is none."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def take(self, mark: str) -> bool:
        """Whether ``mark`` comes next, which is read then."""
        self._match(_BLANK)
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) * found
        return found

    def end(self) -> None:
        """Nothing but blanks may come."""
        self._match(_BLANK)
        if self._at < len(self._text):
            raise ValueError("there is more behind it")

    def items(self, opening: str, closing: str, read: Any) -> list[Any]:
        """What stands between two brackets, the first of which is read; a comma may stand behind the last."""
        found: list[Any] = []
        while not self.take(closing):
            if found and not self.take(","):
                raise ValueError(f"no {closing} behind {opening}")
            if found and self.take(closing):
                break
            found.append(read())
        return found

    def call(self) -> tuple[str, dict[str, Any]]:
        """A name, and keywords with values."""
        name = self._needed(_NAME)
        if not self.take("("):
            raise ValueError("no call")
        pairs = self.items("(", ")", lambda: self._pair(_KEYWORD, "="))
        return name, dict(pairs)

    def _pair(self, key: re.Pattern[str] | None, mark: str) -> tuple[Any, Any]:
        name = self.value() if key is None else self._needed(key)
        if not isinstance(name, str) or not self.take(mark):
            raise ValueError("no name with a value")
        return name, self.value()

    def value(self) -> Any:
        """A literal."""
        for opening, closing in (("[", "]"), ("(", ")")):
            if self.take(opening):
                return self.items(opening, closing, self.value)
        if self.take("{"):
            return dict(self.items("{", "}", lambda: self._pair(None, ":")))
        if (quoted := self._match(_STRING)) is not None:
            return _text(quoted[0])
        if (number := self._match(_NUMBER)) is not None:
            return float(number[0]) if any(number.groups()) else int(number[0])
        word = self._needed(_WORD)
        if word not in _WORDS:
            raise ValueError(f"{word} is no literal")
        return _WORDS[word]

    def _needed(self, pattern: re.Pattern[str]) -> str:
        self._match(_BLANK)
        found = self._match(pattern)
        if found is None:
            raise ValueError("something else was to come")
        return found[0]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found


def _text(quoted: str) -> str:
    """What stands in quotes: a line break is one, and what is no escape stands for itself."""
    size = 3 if len(quoted) >= 6 and quoted.startswith(quoted[0] * 3) else 1
    text = _ESCAPE.sub(_escaped, quoted[size:-size])
    return text.encode("utf-16", "surrogatepass").decode("utf-16")  # JSON has two escapes for one character


def _escaped(escape: re.Match[str]) -> str:
    number = escape[1] or escape[2] or escape[3]
    return chr(int(number, 16)) if number else _ESCAPES.get(escape[4], escape[4])


def gemma_calls(text: str) -> Calls | None:
    """A name and an object whose keys and texts have no quotes but Gemma's own. None: it is none."""
    found = _GEMMA.fullmatch(text)
    if found is None:
        return None
    pieces = found[2].split(QUOTE)
    written = [json.dumps(piece, ensure_ascii=False) if n % 2 else _quoted(piece) for n, piece in enumerate(pieces)]
    try:
        value = json.loads("".join(written))
    except (ValueError, RecursionError):
        return None
    return [(found[1], json.dumps(value, ensure_ascii=False))] if isinstance(value, dict) else None


def _quoted(piece: str) -> str:
    return _NONE.sub("null", _KEY.sub(lambda key: f"{key[1]}{json.dumps(key[2], ensure_ascii=False)}:", piece))
