"""A character that stands for places in texts while they are laid out, and is taken out of the prompt again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import accumulate, pairwise

from janflask.errors import InvalidRequestError

# CJK Extension B: letters without capitals, no blanks, printable (Python's and JSON's own forms of a text keep them).
RARE = range(0x20000, 0x2A6E0)
# Such a letter, and the way in which JSON in ASCII writes it.
_RARE_ONES = re.compile(rf"[{chr(RARE.start)}-{chr(RARE.stop - 1)}]|\\ud8[4-6][0-9a-f]\\ud[c-f][0-9a-f]{{2}}")


class Signs:
    """One character, which occurs nowhere else."""

    def __init__(self, texts: Iterable[str]) -> None:
        """One that is in none of ``texts``. Raises InvalidRequestError if these have them all."""
        taken = {found for text in texts for found in _RARE_ONES.findall(text)}
        sign = next((sign for sign in map(chr, RARE) if sign not in taken and _escaped(sign) not in taken), "")
        if not sign:
            raise InvalidRequestError(
                f"the messages hold every character from U+{RARE.start:X} to U+{RARE.stop - 1:X}, and words that look "
                "like the model's special tokens: leave some of them out",
                param="messages",
            )
        self.sign = sign
        self._pattern = re.compile(f"{sign}|{re.escape(_escaped(sign))}")  # JSON in ASCII has its own way to write it

    def put(self, text: str, places: Iterable[int]) -> str:
        """``text`` with the sign at places in it."""
        bounds = [0, *sorted(set(places)), len(text)]
        return self.sign.join(text[start:end] for start, end in pairwise(bounds))

    def taken(self, text: str) -> tuple[str, list[int]]:
        """A text without the sign, and the places where it was."""
        pieces = self._pattern.split(text)
        return "".join(pieces), list(accumulate(map(len, pieces[:-1])))


def _escaped(sign: str) -> str:
    return json.dumps(sign)[1:-1]
