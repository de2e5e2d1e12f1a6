"""Conversations' KV state beyond the slots: put away before a slot is lost, brought back before a prompt is computed.

The loop's thread copies states out of and into llama.cpp's memory; files are read and written by a thread of their own,
so nobody's stream waits for a disk. A sequence whose state is being read waits in the queue and lets others pass.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol

from janflask.engine.prefix_cache import Slot, common_prefix
from janflask.engine.sequence import Sequence
from janflask.engine.snapshots import Snapshot, Snapshots

log = logging.getLogger(__name__)

WORTHWHILE = 128  # tokens that a snapshot must save: fewer are computed sooner than read
MAX_PENDING = 2  # states in memory that wait for the disk


class StateMemory(Protocol):
    """The KV memory's operations on whole states."""

    def state(self, slot: int) -> memoryview: ...
    def restore(self, slot: int, state: bytes, length: int) -> bool: ...


class Conversations:
    """All methods are the loop's thread's. ``post`` runs an action there, between two steps."""

    def __init__(self, snapshots: Snapshots, memory: StateMemory, post: Callable[[Callable[[], None]], None]) -> None:
        self._snapshots = snapshots
        self._memory = memory
        self._post = post
        self._disk = ThreadPoolExecutor(1, "snapshots")
        self._pending: set[Future[None]] = set()
        self.restored = 0  # conversations that were brought back

    # --- bringing back ------------------------------------------------------------------------------------------

    def look_up(self, sequence: Sequence, here: int) -> None:
        """Looks for a state that saves computing: ``here`` tokens of the prompt are in a slot already."""
        key = sequence.conversation
        if key is None or not sequence.cache_prompt or len(sequence.tokens) - here <= WORTHWHILE:
            return
        sequence.recalling = True
        prompt = array("i", sequence.tokens)

        def read() -> None:
            snapshot = None
            try:
                snapshot = self._snapshots.find(key, prompt, here + WORTHWHILE)
            finally:
                self._post(lambda: self._found(sequence, snapshot))

        self._disk.submit(read)

    @staticmethod
    def _found(sequence: Sequence, snapshot: Snapshot | None) -> None:
        sequence.recalling = False
        sequence.snapshot = snapshot

    def bring_back(self, slot: Slot, snapshot: Snapshot) -> bool:
        """The (empty) slot holds what was put away. False: it is empty still, llama.cpp does not take the state."""
        if not self._memory.restore(slot.id, snapshot.state, len(snapshot.tokens)):
            log.warning("a conversation's KV state of %d bytes was refused, it is computed again", len(snapshot.state))
            return False
        slot.tokens = array("i", snapshot.tokens)
        self.restored += 1
        return True

    # --- putting away -------------------------------------------------------------------------------------------

    def put_away(self, slot: Slot) -> None:
        """Writes what an idle slot holds, in the background, unless that is on the disk already or not worth it."""
        if slot.conversation is None or slot.kept or len(slot.tokens) < WORTHWHILE or len(self._pending) >= MAX_PENDING:
            return
        slot.kept = True
        key, tokens, state = slot.conversation, array("i", slot.tokens), self._memory.state(slot.id)
        writing = self._disk.submit(self._write, key, tokens, state)
        self._pending.add(writing)
        writing.add_done_callback(lambda done: self._post(lambda: self._pending.discard(done)))

    def _write(self, key: str, tokens: array[int], state: memoryview) -> None:
        try:
            self._snapshots.save(key, tokens, state)
        except OSError as error:
            log.warning("a conversation's KV state could not be kept: %s", error)

    def finish(self, slots: list[Slot], seconds: float) -> None:
        """The engine ends: puts away what is worth it, those used last first, for so long at most."""
        deadline = time.monotonic() + seconds
        for slot in sorted(slots, key=lambda slot: -slot.last_used):
            self._pending = wait(self._pending, max(0.0, deadline - time.monotonic())).not_done
            if self._pending:
                log.warning("the disk is too slow: not every conversation's KV state was kept")
                return
            self.put_away(slot)
        wait(self._pending, max(0.0, deadline - time.monotonic()))


def gain(snapshot: Snapshot, prompt: array[int], here: int) -> int:
    """How many tokens need not be computed thanks to it."""
    return min(common_prefix(snapshot.tokens, prompt), len(prompt) - 1) - here
