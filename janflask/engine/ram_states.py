"""KV states in this process's memory, of what lost its slot: nearer than the disk, and within a budget of bytes.

The budget holds the slots' checkpoints, too; what was used the longest ago gives way to them.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import chain, count

from janflask.engine.slot import Origin, Slot
from janflask.engine.snapshots import Snapshot
from janflask.engine.state_index import StateIndex


class RamStates:
    """The states of one engine. All is the loop's thread's.

    Args:
        budget: bytes of all states here, and of the checkpoints of ``slots``.
    """

    def __init__(self, budget: int, slots: Sequence[Slot]) -> None:
        self.budget = budget
        self._slots = slots
        self._index = StateIndex()
        self._states: OrderedDict[str, Snapshot] = OrderedDict()  # the one used the longest ago first
        self._owed: dict[str, Origin] = {}  # of those that wait for the disk
        self._names = map(str, count())

    @property
    def held(self) -> int:
        """Bytes of the states, but for what slots hold, too."""
        return self._taken() - self._taken(())

    def unheld(self, tokens: array[int], owner: str | None = None) -> int:
        """How many of the tokens are in no state here of the owner."""
        return len(tokens) - self._index.held(tokens, owner)

    def best(self, prompt: array[int], here: int, owner: str | None = None) -> Snapshot | None:
        """The owner's state that saves most of computing the prompt, of which ``here`` tokens are there; None: none."""
        name = self._index.best(prompt, here, owner)
        if name is None:
            return None
        self._states.move_to_end(name)
        return self._states[name]

    def put(self, state: Snapshot) -> bool:
        """Keeps a state in place of those that it goes on from. False: it is too large, all is as it was."""
        if self._taken((state,)) > self.budget:
            return False
        for name in self._index.surpassed(state.tokens, state.owner):
            self._drop(name)
        while self._taken((*self._states.values(), state)) > self.budget:
            self._drop_oldest()
        name = next(self._names)
        self._states[name] = state
        self._index.put(name, state.tokens, state.lengths, state.owner)
        return True

    def owe(self, origin: Origin) -> None:
        """The state that was put last is to be written when the disk has time, if it is still here then."""
        self._owed[next(reversed(self._states))] = origin

    def next_owed(self) -> tuple[Snapshot, Origin] | None:
        """One of those, which is none any more then."""
        if not self._owed:
            return None
        name = next(iter(self._owed))
        return self._states[name], self._owed.pop(name)

    def forget(self, state: Snapshot) -> None:
        """llama.cpp does not take it, or nobody may have it any more."""
        for name, held in self._states.items():
            if held is state:
                self._drop(name)
                return

    def clear(self) -> None:
        """Forgets all: the memory is wanted, or the context is another one."""
        for name in list(self._states):
            self._drop(name)

    def make_room(self, size: int) -> bool:
        """Forgets states until ``size`` bytes more are within the budget. False: they cannot be, none is forgotten."""
        if self._taken(()) + size > self.budget:
            return False
        while self._taken() + size > self.budget:
            self._drop_oldest()
        return True

    def fit(self, slot: Slot) -> None:
        """Forgets the slot's oldest checkpoints, as many as do not fit: it may have got some from the disk."""
        while slot.checkpoints and not self.make_room(0):
            del slot.checkpoints[0]

    def _taken(self, states: Collection[Snapshot] | None = None) -> int:
        """Bytes of ``states`` (None: of all here) and the slots' checkpoints; what they share counts once."""
        states = self._states.values() if states is None else states
        points = chain(*(slot.checkpoints for slot in self._slots), *(state.checkpoints for state in states))
        shared = {id(point.state): point.nbytes for point in points}
        return sum(shared.values()) + sum(len(state.state) for state in states)

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._states)))

    def _drop(self, name: str) -> None:
        del self._states[name]
        self._owed.pop(name, None)
        self._index.drop(name)
