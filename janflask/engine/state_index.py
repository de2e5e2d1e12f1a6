"""Which of the states on disk begin like a prompt: the tokens of all of them in memory, in order.

In the order of their bytes, those that share most with a prompt stand next to the place where it would stand itself.
So a question looks at a few of them, however many there are.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from janflask.engine.prefix_cache import common_prefix

WORTHWHILE = 128  # tokens that a state must save: fewer are computed sooner than read
READING = 8  # reading so many of a state's tokens takes as long as computing one, or less


class StateIndex:
    """The states of one model, by their files' names. For any thread."""

    def __init__(self) -> None:
        self._tokens: dict[str, bytes] = {}
        self._order: list[tuple[bytes, str]] = []
        self._lock = threading.Lock()

    def put(self, name: str, tokens: array[int]) -> None:
        """The file holds the state of these tokens, whatever it held before."""
        with self._lock:
            self._drop(name)
            self._tokens[name] = tokens.tobytes()
            insort(self._order, (self._tokens[name], name))

    def drop(self, name: str) -> None:
        """There is no such file, or it is of no use."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        tokens = self._tokens.pop(name, None)
        if tokens is not None:
            del self._order[bisect_left(self._order, (tokens, name))]

    def best(self, prompt: array[int], here: int) -> str | None:
        """The state that saves most, beyond ``here`` tokens that need not be computed anyway; None: none is worth it.

        The last token of a prompt is always computed.
        """
        best, most = None, 0
        with self._lock:
            for side in self._neighbours(prompt):
                for name, length, common in side:
                    gain = min(common, len(prompt) - 1) - here
                    if gain < WORTHWHILE or gain <= most:
                        break  # further on they have even less in common
                    if gain - length // READING > most:
                        best, most = name, gain - length // READING
        return best

    def held(self, tokens: array[int]) -> int:
        """How many of the tokens, from the first one on, some state holds."""
        with self._lock:
            nearest = (islice(side, 1) for side in self._neighbours(tokens))
            return max((common for side in nearest for _, _, common in side), default=0)

    def is_at_odds(self, name: str, tokens: array[int]) -> bool:
        """Whether the file holds something that is not among these tokens."""
        with self._lock:
            own = self._tokens.get(name, b"")
        return common_prefix(own, tokens) < len(own) // 4

    def surpassed(self, tokens: array[int]) -> list[str]:
        """The states that are hardly worth their place beside one of these tokens: it holds nearly all of each."""
        with self._lock:
            return [
                name
                for side in self._neighbours(tokens)
                for name, length, common in side
                if length - common < WORTHWHILE
            ]

    def _neighbours(self, tokens: array[int]) -> tuple[Iterator[tuple[str, int, int]], ...]:
        """Name, tokens, tokens in common: of all that have some in common, going out from the place of ``tokens``."""
        place = bisect_left(self._order, (tokens.tobytes(), ""))
        return self._walk(tokens, range(place - 1, -1, -1)), self._walk(tokens, range(place, len(self._order)))

    def _walk(self, tokens: array[int], places: range) -> Iterator[tuple[str, int, int]]:
        for place in places:
            other, name = self._order[place]
            common = common_prefix(other, tokens)
            if not common:
                return
            yield name, len(other) // 4, common
