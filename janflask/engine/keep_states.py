"""The chore of putting away what is nowhere but in a slot: an engine may be killed at any time."""

from __future__ import annotations

from janflask.engine.conversations import Conversations
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.slot import Slot

REST = 3.0  # seconds: whoever talks on would only make it write the state again


class KeepStates:
    """See ``Chore``. Only what is much is written.

    What the disk did not take waits as long again: where it is behind for a moment, where it fails twice as long.
    """

    def __init__(self, conversations: Conversations, cache: PrefixCache) -> None:
        self._conversations = conversations
        self._cache = cache
        self._after = REST  # seconds of this rest
        self._rested = 0.0

    def due(self, rested: float) -> float | None:
        """See ``Chore``."""
        if rested < self._rested:
            self._after = REST
        self._rested = rested
        return max(0.0, self._after - rested) if self._conversations.is_writing or self._slots() else None

    def piece(self) -> None:
        """See ``Chore``."""
        self._after += self._after if self._conversations.disk_fails else REST
        for slot in self._slots():
            self._conversations.keep(slot)

    def _slots(self) -> list[Slot]:
        return [slot for slot in self._cache.unkept() if self._conversations.is_due_at_rest(slot)]
