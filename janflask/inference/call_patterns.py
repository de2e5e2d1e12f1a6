"""What a rule gives as a regular expression, as a grammar: its texts are markers, which may be control tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from janflask.inference.lark import Lark, choice, sequence

# The parts of an expression, as rules have them: a group's ends, alternatives, a class, an escape, a character, and
# how often.
_PART = re.compile(
    r"(?P<open>\((?:\?:|\?P<\w+>)?)|(?P<close>\))|(?P<either>\|)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<class>\\[sdwSDW])"
    r"|(?P<char>\\.|[^*+?{|()\[])|(?P<times>[*+?]\??|\{\d*,?\d*\}\??)",
    re.DOTALL,
)
_OFTEN = {"*": "{0,16}", "+": "{1,64}"}
_ASCII = {r"\d": "[0-9]", r"\w": "[A-Za-z0-9_]", r"\s": r"[ \t\r\n]"}  # rules mean no other digits and letters
_NONE_OR = re.compile(r"\{0,(\d+)\}")


def pattern(lark: Lark, expression: str) -> str:
    """Raises ValueError for an expression that is none, or more than rules need."""
    if not expression:
        return ""
    reader = _Reader(lark, expression)
    found = reader.either()
    if reader.parts:
        raise ValueError(f"{expression!r} cannot be made a grammar")
    return found


@dataclass(slots=True)
class _Piece:
    kind: str
    text: str


class _Reader:
    def __init__(self, lark: Lark, expression: str) -> None:
        self._lark = lark
        self.parts: list[_Piece] = []
        at = 0
        while at < len(expression):
            found = _PART.match(expression, at)
            if found is None:
                raise ValueError(f"{expression!r} cannot be read from {expression[at:][:20]!r} on")
            self.parts.append(_Piece(found.lastgroup or "", found.group()))
            at = found.end()

    def either(self) -> str:
        """Alternatives, up to the end of the group."""
        found = [self._run()]
        while self.parts and self.parts[0].kind == "either":
            self.parts.pop(0)
            found.append(self._run())
        return choice(found)

    def _run(self) -> str:
        written: list[str] = []
        text = ""
        while self.parts and self.parts[0].kind not in ("either", "close"):
            part = self.parts.pop(0)
            times = "" if part.kind == "open" else self._times()
            if part.kind == "char" and not times and part.text != ".":
                text += part.text[-1]
                continue
            written, text = [*written, self._lark.marker(text)], ""
            written.append(self._group() if part.kind == "open" else self._repeated(part, times))
        return sequence(*written, self._lark.marker(text))

    def _group(self) -> str:
        inner = self.either()
        if not self.parts:
            raise ValueError("a group does not end")
        self.parts.pop(0)
        return f"({inner}){self._times()}"

    def _times(self) -> str:
        """How often what was read may come; as few as can be is no matter here."""
        if not self.parts or self.parts[0].kind != "times":
            return ""
        times = self.parts.pop(0).text
        times = times[:-1] if len(times) > 1 and times.endswith("?") else times
        return _OFTEN.get(times, times)

    def _repeated(self, part: _Piece, times: str) -> str:
        if part.text == r"\s" and times == _OFTEN["*"]:
            return self._lark.blank
        body = re.sub(r"\\[dws]", lambda found: _inner(found.group(), part.kind), part.text)
        none_or = _NONE_OR.fullmatch(times)
        if times == "?" or none_or:
            often = f"{{1,{none_or[1]}}}" if none_or else ""
            return f"{self._lark.terminal(f'/{body}{often}/')}?"
        return self._lark.terminal(f"/{body}{times}/")


def _inner(escape: str, kind: str) -> str:
    """What an escape stands for, without its brackets where it is within a class."""
    return _ASCII[escape][1:-1] if kind == "set" else _ASCII[escape]
