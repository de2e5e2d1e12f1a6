"""What an engine has served: how many tokens at which depth of context, as far as it tells what it will serve.

A token that is computed behind ten thousand others costs attention over all of them; one at the beginning of a chat
next to none. Knobs that are right for the one are wrong for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from janflask.engine.slices import Slice

HALF_LIFE = 500_000  # tokens after which what was served counts half


class Served:
    """One thread notes and asks. ``n_seq``: sequences of a full house.

    For each depth, by powers of two: prompt tokens, and generated ones by what they cost, as parts of a step for one
    and of a step for a full house.
    """

    def __init__(self, n_seq: int) -> None:
        self.n_seq = n_seq
        self._at: dict[int, list[float]] = {}  # bits of the depth -> prompt tokens, steps for one, steps for all
        self.tokens = 0.0  # of all, the older ones less
        self.new = 0  # since the older ones were last made to count less

    def note(self, slices: Iterable[Slice], decoding: int) -> None:
        """A step, behind it; ``decoding``: of its sequences generate."""
        house = (decoding - 1) / (self.n_seq - 1) if self.n_seq > 1 else 0.0
        count = 0
        for part in slices:
            at = self._at.setdefault(part.sequence.n_computed.bit_length(), [0.0, 0.0, 0.0])
            if part.sequence.is_prefilling or part.count > 1:
                at[0] += part.count
            else:
                at[1] += (1 - house) / decoding
                at[2] += house / decoding
            count += part.count
        self.tokens += count
        self.new += count

    def rows(self) -> Iterator[tuple[float, float, float, float]]:
        """Of each depth: tokens of context, prompt tokens, steps for one, steps for a full house."""
        for bits, (prompt, one, everybody) in self._at.items():
            yield 0.75 * 2**bits, prompt, one, everybody

    def fade(self) -> None:
        """What was served before counts less, by as much as was served since."""
        kept = 0.5 ** (self.new / HALF_LIFE)
        self.new = 0
        self.tokens *= kept
        for at in self._at.values():
            at[:] = [part * kept for part in at]

    def as_json(self) -> dict[str, Any]:
        """To be remembered."""
        return {"tokens": self.tokens, "at": {str(bits): at for bits, at in self._at.items()}}

    def take(self, content: Any) -> None:
        """What was remembered. Raises KeyError, ValueError, TypeError, AttributeError for what is none."""
        at = {int(bits): [float(part) for part in parts] for bits, parts in content["at"].items()}
        if any(len(parts) != 3 or min(parts) < 0 for parts in at.values()):
            raise ValueError("not what was served")
        self._at, self.tokens = at, float(content["tokens"])
