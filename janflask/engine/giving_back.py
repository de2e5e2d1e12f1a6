"""The chore of giving back: what an engine at rest holds that is on the disk, too, or that nobody will miss.

Giving a slot back costs its next turn the reading of its state, or the computing of its tokens. So it is done after a
while only, later where tokens would have to be computed, and not for a few megabytes.
"""

from __future__ import annotations

import logging
from typing import Protocol

from janflask.engine.conversations import Conversations
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.slot import Slot
from janflask.models.memory_estimate import in_gib

log = logging.getLogger(__name__)

REST = 60.0  # seconds: who is in the middle of a talk answers sooner, and waits for no disk
LONG_REST = 600.0  # the same for tokens that are nowhere else
DISK = 0.5  # seconds after which it is asked again whether the disk has taken what it was given
LEAST_BYTES = 64 << 20  # less is not worth a slower turn
PIECE_BYTES = 256 << 20  # the system takes some 25 ms for them


class Pages(Protocol):
    """Where the KV memory lies; ``KvPages``, or a fake in tests."""

    @property
    def total_bytes(self) -> int: ...
    @property
    def is_by_slot(self) -> bool: ...
    @property
    def n_tensors(self) -> int: ...
    def resident(self, slot: int | None = None) -> int: ...
    def give_back(self, slot: int, most: int | None = None) -> int: ...
    def give_back_tensor(self, number: int) -> None: ...


class Owner(Protocol):
    """The KV memory."""

    @property
    def pages(self) -> Pages: ...
    def trim(self, slot: int, length: int) -> bool: ...
    def clear(self) -> None: ...


class GiveBack:
    """See ``Chore``. A piece gives back a slot (or a part of it), or a tensor where slots share them.

    Args:
        conversations: tells whether a slot's state can be brought back; None: none can.
        rest, long_rest, least_bytes: see the constants.
    """

    def __init__(
        self,
        memory: Owner,
        cache: PrefixCache,
        conversations: Conversations | None,
        *,
        rest: float = REST,
        long_rest: float = LONG_REST,
        least_bytes: int = LEAST_BYTES,
    ) -> None:
        self._memory = memory
        self._cache = cache
        self._conversations = conversations
        self._rests = (rest, long_rest)
        self._least_bytes = least_bytes
        self._rested = 0.0
        self._looks = 0  # of this rest, at which of the two moments all that can be has been given back
        self._begun = False
        self._tensors = 0  # that this look has given back
        self._again = 0.0  # seconds of this rest before which nothing is to be done

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        if rested < self._rested:
            self._looks, self._begun, self._tensors, self._again = 0, False, 0, 0.0
        self._rested = rested
        if self._looks == len(self._rests) or not self._memory.pages.total_bytes:
            return None
        return max(0.0, self._rests[self._looks] - rested, self._again - rested)

    def piece(self) -> None:
        """See ``Chore``."""
        if not self._begun and self._gain() < self._least_bytes:
            self._looks += 1
            return
        if not self._has_settled():
            self._again = self._rested + DISK
            return
        if not (self._give_slot() if self._memory.pages.is_by_slot else self._give_tensor()):
            self._looks += 1
            self._begun = False
            if not self._cache.tokens_held:
                self._memory.clear()  # what is left, at the edges of the slots; so it takes no time
            if self._looks == len(self._rests) and self._conversations is not None:
                self._conversations.ram.clear()
            log.info("at rest: %s of the KV cache are in use", in_gib(self._memory.pages.resident()))

    def _has_settled(self) -> bool:
        """Nothing is on its way to the disk; what nobody would have any more goes there first."""
        conversations, had_begun = self._conversations, self._begun
        self._begun = True
        if conversations is None:
            return True
        if not had_begun:
            conversations.try_again()
        return conversations.settle(self._cache.slots if self._is_last else ())

    def _gain(self) -> int:
        """Bytes that this look can bring at most."""
        ram = self._conversations.ram.held if self._conversations is not None and self._is_last else 0
        return self._memory.pages.resident() + ram

    @property
    def _is_last(self) -> bool:
        """Of the two moments this is the second."""
        return self._looks == len(self._rests) - 1

    def _give_slot(self) -> bool:
        """False: there is none."""
        pages = self._memory.pages
        for slot in self._cache.slots:
            if self._may_go(slot) and pages.resident(slot.id):
                self._empty(slot)
                pages.give_back(slot.id, PIECE_BYTES)
                return True
        return False

    def _give_tensor(self) -> bool:
        """Only when all slots can go. False: there is none."""
        if not all(map(self._may_go, self._cache.slots)):
            return False
        for slot in self._cache.slots:
            self._empty(slot)
        if self._tensors < self._memory.pages.n_tensors:
            self._memory.pages.give_back_tensor(self._tensors)
            self._tensors += 1
            return True
        self._tensors = 0
        return False

    def _may_go(self, slot: Slot) -> bool:
        if slot.busy:
            return False
        if not slot.tokens:
            return True
        if self._is_last:
            return self._conversations is None or not self._conversations.would_be_lost(slot)  # the disk failed
        return self._conversations is not None and self._conversations.is_on_disk(slot)

    def _empty(self, slot: Slot) -> None:
        if slot.tokens:
            self._memory.trim(slot.id, 0)
            self._cache.clear(slot.id)
