"""Texts and expressions as llguidance's dialect of Lark writes them."""

from __future__ import annotations

import re

_DELIMITER = re.compile(r"\\.|[/\r\n]", re.DOTALL)
_WRITTEN = {"/": r"\/", "\n": r"\n", "\r": r"\r", "\\\n": r"\n"}


def code(character: str) -> str:
    """One character of a regular expression."""
    return character if character.isascii() and character.isalnum() else f"\\u{{{ord(character):x}}}"


def escaped(text: str) -> str:
    """A text within a regular expression."""
    return "".join(map(code, text))


def expression(regex: str) -> str:
    """A regular expression."""
    return "/" + _DELIMITER.sub(lambda found: _WRITTEN.get(found[0], found[0]), regex) + "/"


def literal(text: str) -> str:
    """A text, as a regular expression where Lark's strings have no escape for it."""
    return f"/{escaped(text)}/" if text else '""'
