"""The markers in a grammar, as a vocabulary has them: control tokens, text, or some of both.

A grammar is text, and a control token is none: where a model writes ``<|call|>`` as one, a grammar has to name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from janflask.ipc.messages.constraint import Constraint
from janflask.parsing.lark import literal

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_UNTIL = re.compile(r"(?m)^(\w+) until marker_(\d+): (.*)$")


class MarkerRules:
    """Makes rules for markers.

    Args:
        controls: the texts of control tokens, and which they are.
        ends: those that end an answer.
    """

    def __init__(self, controls: Mapping[str, int], ends: frozenset[int]) -> None:
        self._controls = controls
        self._ends = ends
        found = sorted(filter(None, controls), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found)) or r"(?!)")

    @classmethod
    def of_table(cls, table: LLTokenizer) -> MarkerRules:
        """Those of a vocabulary. Of several tokens with one text, the first counts."""
        special = filter(table.is_special_token, range(table.vocab_size - 1, -1, -1))
        return cls({table.decode_str([token]): token for token in special}, frozenset(table.eos_tokens))

    def filled(self, constraint: Constraint) -> str:
        """The grammar with a rule for each marker."""
        if not constraint.markers:
            return constraint.text
        rules = [list(self._pieces(marker)) for marker in constraint.markers]
        text = _UNTIL.sub(lambda found: _until(found[1], found[3], rules[int(found[2])]), constraint.text)
        return text + "".join(f"marker_{i}: {' '.join(pieces) or literal('')}\n" for i, pieces in enumerate(rules))

    def _pieces(self, marker: str) -> Iterator[str]:
        """In Lark. What ends an answer is left out, and what is behind it: the end comes by itself."""
        at = 0
        for found in self._pattern.finditer(marker):
            if found.start() > at:
                yield literal(marker[at : found.start()])
            token = self._controls[found.group()]
            if token in self._ends:
                return
            yield f"<[{token}]>"
            at = found.end()
        if at < len(marker):
            yield literal(marker[at:])


def _until(name: str, expression: str, pieces: list[str]) -> str:
    """What ``expression`` stands for, up to the marker.

    A text is ended by a control token, which it cannot hold. A marker of text has to be read together with it: it would
    be taken for more of it.
    """
    if not pieces or pieces[0].startswith("<["):
        return f"{name}: {' '.join([f'{name.upper()}_TEXT', *pieces])}\n{name.upper()}_TEXT: {expression}"
    return f"{name}: {' '.join([f'{name}_text', *pieces[1:]])}\n{name}_text[lazy]: ({expression}) {pieces[0]}"
