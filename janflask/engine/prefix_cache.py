"""What every sequence slot of the KV memory holds, and which slot serves a prompt best.

llama.cpp owns the cells; this module keeps, for each of its sequence ids ("slots"), the tokens whose KV state is there.
A finished sequence leaves its tokens behind, so that a later prompt with the same beginning continues from them: in
place when the slot is free to take, or as a copy (``llama_memory_seq_cp``) when it is busy or worth keeping.

A prompt goes on from what its own owner left (``GenerateRequest.owner``), and from nothing else: how soon the first
token comes must not tell what others have asked.

Some memories cannot forget a part of a sequence (recurrent ones) or have already forgotten the beginning (sliding
windows): with ``can_trim`` false a slot is only continued where it ends, or where a checkpoint was taken of it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from janflask.engine.checkpoints import reach
from janflask.engine.slot import Origin, Slot

SHORT_TAIL = 128  # tokens that a slot may lose to a prompt that begins like it, also where another slot is free
APART = 128.0  # prompt tokens: less than it costs an answer to be computed apart from the others


def common_prefix(a: array[int] | bytes, b: array[int] | bytes) -> int:
    """Length of the longest common prefix of two token arrays, or of their bytes; in tokens."""
    if not a or not b:
        return 0
    one, other = np.frombuffer(a, dtype=np.int32), np.frombuffer(b, dtype=np.int32)
    n = min(len(one), len(other))
    differ = one[:n] != other[:n]
    first = int(differ.argmax())
    return first if differ[first] else n


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes: keep ``reuse`` tokens in ``slot``, after copying them from ``copy_from`` if that is set."""

    slot: int
    reuse: int
    copy_from: int | None = None


class PrefixCache:
    """The book of slots. It decides; the loop carries the decision out on the KV memory.

    Args:
        n_slots: sequence ids.
        enabled: false: every prompt is computed whole.
        can_trim: the memory can forget the end of a sequence; else it only goes back to checkpoints.
        min_copy: a copy (which costs time unless slots share cells) must save this many tokens.
        streams: every slot has one: llama.cpp computes those of neighbouring numbers together.
    """

    def __init__(
        self, n_slots: int, *, enabled: bool = True, can_trim: bool = True, min_copy: int = 1, streams: bool = False
    ) -> None:
        self.slots = [Slot(i) for i in range(n_slots)]
        self.enabled = enabled
        self.can_trim = can_trim
        self.min_copy = min_copy
        self.streams = streams
        self._clock = 0

    @property
    def free(self) -> int:
        return sum(not slot.busy for slot in self.slots)

    @property
    def tokens_held(self) -> int:
        return sum(len(slot.tokens) for slot in self.slots)

    def usable_prefix(self, slot: Slot, prompt: array[int], owner: str | None = None) -> int:
        """How many tokens of ``owner``'s ``prompt`` the slot's KV state can stand for.

        Never all of them: the last one is computed for its logits.
        """
        if not self.enabled or slot.owner != owner:
            return 0
        lengths = None if self.can_trim else [point.length for point in slot.checkpoints]
        return reach(lengths, len(slot.tokens), min(common_prefix(slot.tokens, prompt), len(prompt) - 1))

    def place(
        self, prompt: array[int], owner: str | None = None, *, use_cache: bool = True, cells: int | None = None
    ) -> Placement | None:
        """Chooses a slot for ``owner``'s prompt; None while all are busy. Takes nothing: see ``take``.

        ``cells``: tokens that all slots together may hold; None: as many as fit into each. Here those that two of them
        share count twice, so a copy may cost another slot.
        """
        idle = [slot for slot in self.slots if not slot.busy]
        if not idle:
            return None
        lengths = {slot.id: self.usable_prefix(slot, prompt, owner) if use_cache else 0 for slot in self.slots}
        best_idle = max(idle, key=lambda slot: (lengths[slot.id], -len(slot.tokens), -slot.id))
        best = max(self.slots, key=lambda slot: (lengths[slot.id], not slot.busy))
        in_place = lengths[best_idle.id]
        target = self.least_useful()

        need = len(prompt) if self.can_trim else max(len(prompt), len(best.tokens))  # else it is copied whole first
        fits = cells is None or self.tokens_held - len(target.tokens) + need <= cells
        copying_saves = lengths[best.id] - in_place >= self.min_copy
        if (
            in_place
            and not copying_saves
            and (len(idle) == 1 or self._is_right_in_place(best_idle, in_place, target, fits))
        ):
            return Placement(best_idle.id, in_place)
        gain = lengths[best.id] - lengths[target.id]
        if best.id != target.id and gain >= self.min_copy:
            return Placement(target.id, lengths[best.id], copy_from=best.id)
        return Placement(target.id, lengths[target.id])

    def least_useful(self) -> Slot:
        """The slot to give up: the one whose loss costs least. There must be an idle one."""
        idle = (slot for slot in self.slots if not slot.busy)
        return min(idle, key=lambda slot: (self._loss(slot, 0) + self._apart(slot), slot.id))

    def _apart(self, slot: Slot) -> float:
        """What it costs, as a loss, that no busy slot is beside it; there the next one should find a place as well."""
        beside = [other for other in self.slots[max(0, slot.id - 1) : slot.id + 2] if other is not slot]
        if not self.streams or any(other.busy for other in beside):
            return 0.0
        alone = all(not other.busy for other in self.slots)
        return (0.0 if alone else APART) + min((self._loss(other, 0) for other in beside), default=0.0) / 2

    def _loss(self, slot: Slot, kept: int) -> float:
        """What it costs to lose all but ``kept`` of a slot's tokens, if they are asked for with every turn of others.

        So a long conversation outlives many short ones, but not for ever.
        """
        return (len(slot.tokens) - kept) / (self._clock - slot.last_used + 1)

    def _is_right_in_place(self, slot: Slot, length: int, target: Slot, fits: bool) -> bool:
        """Most of the slot is shared, and what would be lost of it is little, or less than by a copy in ``target``."""
        if 2 * length < len(slot.tokens):
            return False
        tail = len(slot.tokens) - length
        return not fits or tail < max(SHORT_TAIL, self.min_copy) or self._loss(slot, length) <= self._loss(target, 0)

    def take(self, placement: Placement, owner: str | None = None) -> Slot:
        """Marks the slot busy and books what it holds from now on."""
        slot = self.slots[placement.slot]
        source = slot if placement.copy_from is None else self.slots[placement.copy_from]
        if placement.reuse and source.owner != owner:
            raise RuntimeError("a prompt cannot go on from what is another's")
        slot.owner = owner
        slot.checkpoints = [point for point in source.checkpoints if point.length <= placement.reuse]
        slot.tokens = source.tokens[: placement.reuse]
        slot.busy = True
        slot.origin = None
        return slot

    def append(self, slot: int, tokens: array[int]) -> None:
        """The step computed these tokens at the slot's end."""
        self.slots[slot].tokens.extend(tokens)

    def release(self, slot: int, *, keep: bool = True, origin: Origin | None = None) -> None:
        """The sequence is done; what it computed stays for others unless ``keep`` is false."""
        self._clock += 1
        entry = self.slots[slot]
        entry.busy = False
        entry.last_used = self._clock
        entry.origin = origin if keep else None
        entry.kept = False
        if not keep:
            entry.empty()

    def oldest_idle(self, spare: Slot | None = None) -> Slot | None:
        """The idle slot used the longest ago, but not ``spare``: the first to go when cells run short."""
        held = [slot for slot in self.slots if not slot.busy and slot.tokens and slot is not spare]
        return min(held, key=lambda slot: slot.last_used, default=None)

    def unkept(self) -> list[Slot]:
        """The idle slots that hold what is to outlive them, and is nowhere but here."""
        return [slot for slot in self.slots if slot.origin is not None and slot.origin.is_lasting and not slot.kept]

    def clear(self, slot: int) -> None:
        self.slots[slot].empty()
        self.slots[slot].origin = None
