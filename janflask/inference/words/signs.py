"""Characters that stand for places in a text while it is laid out, and are taken out of the prompt again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from janflask.errors import InvalidRequestError

# CJK Extension B: letters without capitals, no blanks, printable (Python's and JSON's own forms of a text keep them).
RARE = range(0x20000, 0x2A6E0)


@dataclass(frozen=True, slots=True)
class Found:
    """A text without its signs, and where each kind of them was."""

    text: str
    inside: list[int]
    edges: list[int]


@dataclass(frozen=True, slots=True)
class Signs:
    """One for places inside of words, one for those at an edge; they occur nowhere else."""

    inside: str
    edge: str

    @classmethod
    def unused(cls, texts: Iterable[str]) -> Self:
        """Two that are in none of ``texts``. Raises InvalidRequestError if these have them all."""
        everything = "\n".join(texts)
        free = (sign for sign in map(chr, RARE) if sign not in everything and _escaped(sign) not in everything)
        inside, edge = next(free, ""), next(free, "")
        if not edge:
            raise InvalidRequestError(
                f"the messages hold every character from U+{RARE.start:X} to U+{RARE.stop - 1:X}, and words that look "
                "like the model's special tokens: leave some of them out",
                param="messages",
            )
        return cls(inside, edge)

    def put(self, text: str, inside: Iterable[int], edges: Iterable[int]) -> str:
        """``text`` with signs at places in it."""
        signs = sorted([(place, self.inside) for place in inside] + [(place, self.edge) for place in edges])
        pieces, done = [], 0
        for place, sign in signs:
            pieces += [text[done:place], sign]
            done = place
        return "".join((*pieces, text[done:]))

    def taken(self, text: str) -> Found:
        """JSON in ASCII has its own way to write them."""
        forms = {form: sign for sign in (self.inside, self.edge) for form in (sign, _escaped(sign))}
        pieces = re.split(f"({'|'.join(map(re.escape, forms))})", text)
        places: dict[str, list[int]] = {self.inside: [], self.edge: []}
        length = 0
        for number, piece in enumerate(pieces):
            if number % 2:
                places[forms[piece]].append(length)
            else:
                length += len(piece)
        return Found("".join(pieces[::2]), places[self.inside], places[self.edge])


def _escaped(sign: str) -> str:
    return json.dumps(sign)[1:-1]
