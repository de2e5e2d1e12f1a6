"""Regular expressions as response templates have them: texts with blanks, choices and named parts between them.

Taken apart, not run as they are: a model's files come from anywhere, and a pattern of theirs could run for hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

MAX_CHOICES = 16
MOST = 160  # characters that a part without a text of its own may have

_TOKEN = re.compile(
    r"(?P<blank>(?:\\[snrt]|[ \n\r\t])[*+?]?)"
    r"|\(\?P<(?P<name>\w+)>(?P<inner>(?:[^()\\\[\]]|\\.|\[(?:[^\]\\]|\\.)*\])*)\)"
    r"|\(\?:(?P<choice>(?:[^()\\]|\\.)*)\)(?![*+?{])"
    r"|(?P<some>(?:\[(?:[^\]\\]|\\.)+\]|\\[wdS]|\.)[*+]\??)"
    r"|(?P<bar>\|)"
    r"|(?P<edge>\^|\$|\\[AZ])"
    r"|(?:\\(?P<escaped>\W)|(?P<plain>[^\\.^$*+?{}\[\]|()]))(?![*+?{])",
    re.DOTALL,
)


class Part(Enum):
    """What a piece of a pattern is."""

    TEXT = 0
    BLANK = 1
    SOME = 2  # any characters of a kind
    NAMED = 3  # a group with a name


@dataclass(frozen=True, slots=True)
class Piece:
    """``text`` is the text itself, the group's name, or the regular expression of SOME."""

    part: Part
    text: str = ""


Pieces = tuple[Piece, ...]


def alternatives(pattern: str) -> tuple[Pieces, ...]:
    """The choices that a pattern gives, each in pieces; where only the end of the text may be, it is none.

    Raises ValueError that shows the part which is more than that.
    """
    found: list[list[Piece]] = []
    open_: list[list[Piece]] = [[]]  # those of the choice under way
    place = 0
    while place < len(pattern):
        token = _TOKEN.match(pattern, place)
        if token is None:
            raise ValueError(f"the pattern {pattern[:200]!r} is more than can be read, at {pattern[place:][:40]!r}")
        place = token.end()
        if token["bar"]:
            found, open_ = found + open_, [[]]
        elif token["choice"] is not None:
            inner = alternatives(token["choice"])
            open_ = [_joined(pieces, choice) for pieces in open_ for choice in inner]
        elif not token["edge"]:
            open_ = [_joined(pieces, (_piece(token),)) for pieces in open_]
        if len(found) + len(open_) > MAX_CHOICES:
            raise ValueError(f"the pattern {pattern[:200]!r} has more than {MAX_CHOICES} choices")
    return tuple(tuple(pieces) for pieces in found + open_ if pieces)


def _piece(token: re.Match[str]) -> Piece:
    if token["blank"]:
        return Piece(Part.BLANK)
    if token["name"]:
        return Piece(Part.NAMED, token["name"])
    if token["some"]:
        kind = token["some"].removesuffix("?")
        return Piece(Part.SOME, f"{kind[:-1]}{{{int(kind[-1] == '+')},{MOST}}}?")
    return Piece(Part.TEXT, token["escaped"] or token["plain"])


def _joined(pieces: list[Piece], more: Pieces) -> list[Piece]:
    """Texts in a row are one, and so are blanks."""
    joined = list(pieces)
    for piece in more:
        if joined and joined[-1].part is piece.part and piece.part in (Part.TEXT, Part.BLANK):
            joined[-1] = Piece(piece.part, joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


def marker(pieces: Pieces) -> str:
    """The text that pieces are, with one blank where some may be in it, and none around it.

    Raises ValueError where they are more than a text, or none.
    """
    if any(piece.part not in (Part.TEXT, Part.BLANK) for piece in pieces):
        raise ValueError("there is more in it than a text")
    text = "".join(piece.text if piece.part is Part.TEXT else " " for piece in pieces).strip()
    if not text:
        raise ValueError("there is no text in it")
    return text


def expression(pieces: Pieces) -> str:
    """A regular expression for the same, in which nothing runs away; of named groups it may have an ``id``."""
    if pieces and pieces[-1].part is Part.SOME:
        raise ValueError("it must end with a text")
    if sum(piece.part is Part.SOME for piece in pieces) > 1:  # what each may be would be tried with all of the other
        raise ValueError("it has more than one part without a text of its own")
    written = []
    for piece in pieces:
        match piece.part:
            case Part.TEXT:
                written.append(re.escape(piece.text))
            case Part.BLANK:
                written.append(r"\s*")
            case Part.SOME:
                written.append(piece.text)
            case Part.NAMED if piece.text == "id":
                written.append(r"(?P<id>[\w.\-]+)")
            case Part.NAMED:
                raise ValueError(f"a group {piece.text!r} has no meaning there")
    return "".join(written)
