"""Texts and expressions as llguidance's dialect of Lark writes them."""

from __future__ import annotations


def code(character: str) -> str:
    """One character of a regular expression."""
    return character if character.isascii() and character.isalnum() else f"\\u{{{ord(character):x}}}"


def escaped(text: str) -> str:
    """A text within a regular expression."""
    return "".join(map(code, text))


def literal(text: str) -> str:
    """A text, as a regular expression where Lark's strings have no escape for it."""
    return f"/{escaped(text)}/" if text else '""'
