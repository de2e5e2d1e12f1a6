"""Texts and expressions as llguidance's dialect of Lark writes them."""

from __future__ import annotations

import re
from typing import Any

# There are no escapes like \u00e9: llguidance takes them for control characters alone, and would so lead astray a model
# that begins another one. Where a schema has such characters itself, they can be written.
_ESCAPES = 'nrbtf\\"'
_CONTROL = re.compile(r"\\u00[01]|\x7f")
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


def json_options(schema: str, whitespace: str | None = None) -> dict[str, Any]:
    """What llguidance is told of JSON under a schema, which is JSON as ``json.dumps`` writes it.

    ``whitespace`` is what may stand between its tokens, as a regular expression; None: nothing.
    """
    escapes = _ESCAPES + "u" * (_CONTROL.search(schema) is not None)
    options = {"whitespace_flexible": False, "coerce_one_of": True, "lenient": False, "json_allowed_escapes": escapes}
    if whitespace is not None:
        options |= {"whitespace_flexible": True, "whitespace_pattern": whitespace}
    return options
