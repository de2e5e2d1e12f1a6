"""Where a memory that cannot be cut can go back to: states of its partial kind, taken at exact places of a prompt.

A sliding window has forgotten what is older than it, a recurrent state knows nothing but where it ends. Both can be put
back to a place of which a checkpoint was taken; what else the memory holds (attention over everything) is cut there.

Worth going back to is where a message ends: the next turn, an edited message, thoughts that are left out of a history
and another branch all begin there. Those are the places behind tokens that end an answer, as they stand in a prompt.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import numpy as np

from janflask.engine.slot import Checkpoint, Slot
from janflask.errors import EngineError

log = logging.getLogger(__name__)

GAP = 32  # tokens between two checkpoints: computing fewer again costs less than a step of their own
RECENT = 3  # of the newest checkpoints all are kept, of older ones one for each doubling of the distance


class PartialMemory(Protocol):
    """The KV memory's operation that checkpoints are made by."""

    def checkpoint(self, slot: int) -> memoryview: ...


class MakesRoom(Protocol):
    """Who gives memory back so that ``size`` more bytes are within the budget; false: it has too little to give."""

    def make_room(self, size: int) -> bool: ...


def reach(lengths: Sequence[int] | None, whole: int, common: int) -> int:
    """How many of ``common`` tokens can be had from a state of ``whole`` tokens.

    ``lengths``, ascending: those to which it can be cut, by its checkpoints; None: to any.
    """
    if lengths is None:
        return common
    if common >= whole:
        return whole
    place = bisect_right(lengths, common)
    return lengths[place - 1] if place else 0


def places(tokens: array[int], span: tuple[int, int], ends: Collection[int], last: int) -> list[int]:
    """Lengths at which to take checkpoints while ``tokens`` are computed.

    Args:
        tokens: the prompt, and perhaps what was generated after it.
        span: what is computed already, and how long the prompt is.
        ends: the tokens that end a message.
        last: the newest checkpoint there is, 0 if none.
    """
    done, n_prompt = span
    part = np.frombuffer(tokens, np.int32)[done : n_prompt - 1]
    behind = np.flatnonzero(np.isin(part, np.fromiter(ends, np.int32))) + done + 1
    chosen: list[int] = []
    for length in (
        *behind.tolist(),
        n_prompt - 1,
    ):  # the prompt's last token is computed for its logits, whoever asks again
        if length > done and length - last >= GAP:
            chosen.append(length)
            last = length
    return thinned(chosen, n_prompt)


def thinned(lengths: Iterable[int], end: int) -> list[int]:
    """Of ascending ``lengths`` the newest, and of each doubling of the distance to ``end`` the one furthest back."""
    ordered = list(lengths)
    old, recent = ordered[:-RECENT], ordered[-RECENT:]
    furthest: dict[int, int] = {}
    for length in old:
        furthest.setdefault((end - length).bit_length(), length)
    return [*furthest.values(), *recent]


class Checkpoints:
    """Takes the checkpoints of an engine's slots.

    Args:
        memory: the KV memory.
        slots: all slots; their checkpoints are what this keeps few.
        room: the budget of memory that states share.
    """

    def __init__(self, memory: PartialMemory, slots: Sequence[Slot], room: MakesRoom) -> None:
        self._memory = memory
        self._slots = slots
        self._room = room
        self.failed = 0  # that llama.cpp did not hand out

    def take(self, slot: Slot) -> None:
        """Takes one of what the slot holds now, if there is room for it."""
        length = len(slot.tokens)
        if slot.checkpoints and slot.checkpoints[-1].length >= length:
            return
        try:
            state = self._memory.checkpoint(slot.id)
        except EngineError as error:
            self.failed += 1
            log.warning("no checkpoint at %d tokens: %s", length, error)
            return
        while not self._room.make_room(state.nbytes):
            if not self._drop_one():
                return
        slot.checkpoints.append(Checkpoint(length, state))
        kept = set(thinned([checkpoint.length for checkpoint in slot.checkpoints], length))
        slot.checkpoints = [checkpoint for checkpoint in slot.checkpoints if checkpoint.length in kept]

    def _drop_one(self) -> bool:
        """The oldest checkpoint of whoever can spare one best: an idle slot used the longest ago, else a busy one."""
        holding = [slot for slot in self._slots if slot.checkpoints]
        if not holding:
            return False
        del min(holding, key=lambda slot: (slot.busy, slot.last_used)).checkpoints[0]
        return True
