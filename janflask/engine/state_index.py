"""Which of the states on disk begin like a prompt: the tokens of all of them in memory, in order.

In the order of their bytes, those that share most with a prompt stand next to the place where it would stand itself.
So a question looks at a few of them, however many there are. Each owner's have an order of their own: nothing depends
on what another's begin like, not even how long a look takes.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from janflask.engine.checkpoints import reach
from janflask.engine.prefix_cache import common_prefix

WORTHWHILE = 128  # tokens that a state must save: fewer are computed sooner than read
READING = 8  # reading so many of a state's tokens takes as long as computing one, or less


class StateIndex:
    """The states of one model, by their files' names. For any thread."""

    def __init__(self) -> None:
        self._tokens: dict[str, bytes] = {}
        self._lengths: dict[str, Sequence[int]] = {}
        self._owners: dict[str, str | None] = {}
        self._orders: dict[str | None, list[tuple[bytes, str]]] = {}
        self._lock = threading.Lock()

    def put(
        self, name: str, tokens: array[int], lengths: Sequence[int] | None = None, owner: str | None = None
    ) -> None:
        """The file holds the state of these tokens of ``owner``, whatever it held before.

        ``lengths``: see ``reach``.
        """
        with self._lock:
            self._drop(name)
            if lengths is not None:
                self._lengths[name] = lengths
            self._tokens[name] = tokens.tobytes()
            self._owners[name] = owner
            insort(self._orders.setdefault(owner, []), (self._tokens[name], name))

    @property
    def n_tokens(self) -> int:
        """Of all of them together."""
        with self._lock:
            return sum(map(len, self._tokens.values())) // 4

    def drop(self, name: str) -> None:
        """There is no such file, or it is of no use."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        tokens = self._tokens.pop(name, None)
        self._lengths.pop(name, None)
        if tokens is None:
            return
        owner = self._owners.pop(name)
        order = self._orders[owner]
        del order[bisect_left(order, (tokens, name))]
        if not order:
            del self._orders[owner]

    def clear(self) -> None:
        """None of the files is of use."""
        with self._lock:
            self._tokens.clear()
            self._lengths.clear()
            self._owners.clear()
            self._orders.clear()

    def best(self, prompt: array[int], here: int, owner: str | None = None) -> str | None:
        """The owner's state that saves most beyond ``here`` tokens, which need not be computed anyway; None: none does.

        The last token of a prompt is always computed.
        """
        best, most = None, 0
        with self._lock:
            for side in self._neighbours(prompt, owner):
                for name, length, common in side:
                    if min(common, len(prompt) - 1) - here < max(WORTHWHILE, most + 1):
                        break  # further on they have even less in common
                    gain = self._reach(name, length, min(common, len(prompt) - 1)) - here
                    if gain >= WORTHWHILE and gain - length // READING > most:
                        best, most = name, gain - length // READING
        return best

    def held(self, tokens: array[int], owner: str | None = None) -> int:
        """How many of the tokens, from the first one on, can be had from some state of the owner."""
        with self._lock:
            nearest = chain.from_iterable(islice(side, 1) for side in self._neighbours(tokens, owner))
            return max((self._reach(*state) for state in nearest), default=0)

    def _reach(self, name: str, length: int, common: int) -> int:
        return reach(self._lengths.get(name), length, common)

    def is_at_odds(self, name: str, tokens: array[int]) -> bool:
        """Whether the file holds something that is not among these tokens."""
        with self._lock:
            own = self._tokens.get(name, b"")
        return common_prefix(own, tokens) < len(own) // 4

    def surpassed(self, tokens: array[int], owner: str | None = None) -> list[str]:
        """Those of the owner's that are hardly worth their place beside one of these tokens: it holds nearly all."""
        with self._lock:
            return [
                name
                for side in self._neighbours(tokens, owner)
                for name, length, common in side
                if length - common < WORTHWHILE
            ]

    def _neighbours(self, tokens: array[int], owner: str | None) -> tuple[Iterator[tuple[str, int, int]], ...]:
        """Name, tokens, tokens in common: of all that have some in common, going out from the place of ``tokens``."""
        order = self._orders.get(owner, [])
        place = bisect_left(order, (tokens.tobytes(), ""))
        return _walk(order, tokens, range(place - 1, -1, -1)), _walk(order, tokens, range(place, len(order)))


def _walk(order: Sequence[tuple[bytes, str]], tokens: array[int], places: range) -> Iterator[tuple[str, int, int]]:
    for place in places:
        other, name = order[place]
        common = common_prefix(other, tokens)
        if not common:
            return
        yield name, len(other) // 4, common
