"""What a rule gives as a regular expression, as a grammar: its tags are markers, which may be control tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from janflask.inference.forms.lark import Lark, choice, sequence
from janflask.parsing.lark import escaped, expression

# The parts of an expression, as rules have them: a group's ends, alternatives, a class, an escape, a character, and
# how often.
_PART = re.compile(
    r"(?P<open>\((?:\?:|\?P<\w+>)?)|(?P<close>\))|(?P<either>\|)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<class>\\[sdw])"
    r"|(?P<char>\\[^A-Za-z0-9]|[^*+?{}|()\[\]\\.^$])|(?P<times>[*+?]\??|\{\d*,?\d*\}\??)",
    re.DOTALL,
)
_OFTEN = {"*": "{0,8}", "+": "{1,64}"}
_ASCII = {r"\d": "0-9", r"\w": "A-Za-z0-9_", r"\s": r" \t\n"}  # rules mean no other digits and letters
_TAG = re.compile(r"[<\[]")


def pattern(lark: Lark, written: str) -> str:
    """Raises ValueError for an expression that is none, or more than rules need."""
    reader = _Reader(lark, written)
    found = reader.either()
    if reader.parts:
        raise ValueError(f"{written!r} cannot be made a grammar")
    return found.as_rule(lark)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A regular expression; or what only a rule can be, since there are markers in it."""

    text: str
    is_rule: bool = False

    def as_rule(self, lark: Lark) -> str:
        return self.text if self.is_rule or not self.text else lark.terminal(expression(self.text))


class _Reader:
    def __init__(self, lark: Lark, written: str) -> None:
        self._lark = lark
        self.parts: list[tuple[str, str]] = []
        at = 0
        while at < len(written):
            found = _PART.match(written, at)
            if found is None:
                raise ValueError(f"{written!r} cannot be read from {written[at:][:20]!r} on")
            self.parts.append((found.lastgroup or "", found.group()))
            at = found.end()

    def either(self) -> _Piece:
        """Alternatives, up to the end of the group."""
        found = [self._run()]
        while self.parts and self.parts[0][0] == "either":
            self.parts.pop(0)
            found.append(self._run())
        if len(found) == 1:
            return found[0]
        if any(piece.is_rule for piece in found):
            return _Piece(choice(piece.as_rule(self._lark) or '""' for piece in found), is_rule=True)
        return _Piece(f"(?:{'|'.join(piece.text for piece in found)})")

    def _run(self) -> _Piece:
        """One behind the other: what needs no rule is one expression."""
        pieces: list[_Piece] = []
        while self.parts and self.parts[0][0] not in ("either", "close"):
            piece = self._text() if self.parts[0][0] == "char" else self._part()
            if pieces and not (piece.is_rule or pieces[-1].is_rule):
                pieces[-1] = _Piece(pieces[-1].text + piece.text)
            else:
                pieces.append(piece)
        if any(piece.is_rule for piece in pieces):
            return _Piece(sequence(*(piece.as_rule(self._lark) for piece in pieces)), is_rule=True)
        return _Piece("".join(piece.text for piece in pieces))

    def _text(self) -> _Piece:
        """Characters that come once."""
        text = ""
        while self.parts and self.parts[0][0] == "char":
            if len(self.parts) > 1 and self.parts[1][0] == "times":
                break
            text += self.parts.pop(0)[1][-1]
        if not text:
            character = self.parts.pop(0)[1][-1]
            return _Piece(escaped(character) + self._times())
        return _Piece(self._lark.marker(text), is_rule=True) if _TAG.search(text) else _Piece(escaped(text))

    def _part(self) -> _Piece:
        kind, text = self.parts.pop(0)
        if kind == "open":
            inner = self.either()
            if not self.parts:
                raise ValueError("a group does not end")
            self.parts.pop(0)
            opening = "(" if inner.is_rule else "(?:"
            return _Piece(f"{opening}{inner.text}){self._times()}", inner.is_rule)
        if kind == "times":
            raise ValueError(f"{text} repeats nothing")
        body = re.sub(r"\\[dws]", lambda found: _ASCII[found[0]], text)
        return _Piece((body if kind == "set" else f"[{body}]") + self._times())

    def _times(self) -> str:
        """How often what was read may come; as few as can be is no matter here."""
        if not self.parts or self.parts[0][0] != "times":
            return ""
        times = self.parts.pop(0)[1]
        times = times[:-1] if len(times) > 1 and times.endswith("?") else times
        return _OFTEN.get(times, times)
