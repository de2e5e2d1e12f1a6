"""KV states beyond the slots: put away before a slot is lost, brought back before a prompt is computed.

The loop's thread copies states out of and into llama.cpp's memory; files are read and written by a thread of their own,
so nobody's stream waits for a disk. A sequence whose state is being read waits in the queue and lets others pass.

A state is found by the tokens of a prompt, whoever left it there. Writing one costs its whole length, so what is on the
disk already, but for a few tokens, is not written again.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol

from janflask.engine.prefix_cache import Origin, Slot, common_prefix
from janflask.engine.sequence import Sequence
from janflask.engine.snapshots import Snapshot, Snapshots
from janflask.engine.state_index import WORTHWHILE

log = logging.getLogger(__name__)

LEAST_NAMELESS = 256  # tokens of a state that belongs to no conversation
LEAST_LOST = 16  # tokens that are nowhere else: fewer may get lost with a slot
LOST_SHARE = 64  # ... and fewer than this part of the slot
RESTING_SHARE = 8  # the same while the slot is not lost yet: so all writing of one that grows is this times its length
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

    def look_up(self, sequence: Sequence, here: int, *, read: bool) -> bool:
        """Whether there is a state that saves computing, beyond ``here`` tokens that are in a slot; it is ``read``."""
        if not sequence.cache_prompt or self._snapshots.index.best(sequence.tokens, here) is None:
            return False
        if not read:
            return True
        sequence.recalling = True
        prompt = array("i", sequence.tokens)

        def find() -> None:
            snapshot = None
            try:
                snapshot = self._snapshots.find(prompt, here)
            except Exception:
                log.exception("KV states could not be looked for, a prompt is computed")
            finally:
                self._post(lambda: self._found(sequence, snapshot))

        self._disk.submit(find)
        return True

    @staticmethod
    def _found(sequence: Sequence, snapshot: Snapshot | None) -> None:
        sequence.recalling = False
        sequence.recalled = True
        sequence.snapshot = snapshot

    def bring_back(self, slot: Slot, snapshot: Snapshot) -> bool:
        """The (empty) slot holds what was put away. False: it is empty still, llama.cpp does not take the state."""
        if not self._memory.restore(slot.id, snapshot.state, len(snapshot.tokens)):
            log.warning("a KV state of %d bytes was refused, its tokens are computed again", len(snapshot.state))
            return False
        slot.tokens = array("i", snapshot.tokens)
        slot.origin = Origin(snapshot.n_prompt)
        self.restored += 1
        return True

    # --- putting away -------------------------------------------------------------------------------------------

    def is_due_at_rest(self, slot: Slot) -> bool:
        """Whether much would have to be computed again if the engine were killed now."""
        return self._unwritten(slot) >= max(WORTHWHILE, len(slot.tokens) // RESTING_SHARE)

    def rest(self, slots: list[Slot]) -> None:
        """Nothing has been asked for a moment: puts away what is due."""
        for slot in slots:
            self._write_behind(slot)

    def put_away(self, slot: Slot) -> None:
        """Writes what a slot holds that is about to be lost, in the background, unless that is not worth it."""
        origin = slot.origin
        is_much = self._unwritten(slot) >= max(LEAST_LOST, len(slot.tokens) // LOST_SHARE)
        if is_much or (origin is not None and not slot.kept and self._snapshots.is_outdated(slot.tokens, origin)):
            self._write_behind(slot)

    def _unwritten(self, slot: Slot) -> int:
        """How many tokens of a slot that is worth keeping are nowhere else."""
        origin, length = slot.origin, len(slot.tokens)
        if origin is None or not origin.is_lasting or slot.kept:
            return 0
        if length < (LEAST_NAMELESS if origin.conversation is None else WORTHWHILE):
            return 0
        return length - self._snapshots.index.held(slot.tokens)

    def _write_behind(self, slot: Slot) -> None:
        if slot.origin is None:
            return
        if len(self._pending) >= MAX_PENDING:
            log.info("the disk is behind: a KV state of %d tokens is not kept", len(slot.tokens))
            return
        slot.kept = True
        tokens, state = array("i", slot.tokens), self._memory.state(slot.id)
        name = self._snapshots.announce(tokens, slot.origin)
        writing = self._disk.submit(self._write, name, tokens, slot.origin.n_prompt, state)
        self._pending.add(writing)
        writing.add_done_callback(lambda done: self._post(lambda: self._pending.discard(done)))

    def _write(self, name: str, tokens: array[int], n_prompt: int, state: memoryview) -> None:
        try:
            self._snapshots.save(name, tokens, n_prompt, state)
        except OSError as error:
            log.warning("a KV state could not be kept: %s", error)

    def finish(self, slots: list[Slot], seconds: float) -> None:
        """The engine ends: puts away what is worth it, those used last first, for so long at most."""
        deadline = time.monotonic() + seconds
        for slot in sorted(slots, key=lambda slot: -slot.last_used):
            self._pending = wait(self._pending, max(0.0, deadline - time.monotonic())).not_done
            if self._pending:
                log.warning("the disk is too slow: not every KV state was kept")
                return
            self.put_away(slot)
        wait(self._pending, max(0.0, deadline - time.monotonic()))


def gain(snapshot: Snapshot, prompt: array[int], here: int) -> int:
    """How many tokens need not be computed thanks to it."""
    return min(common_prefix(snapshot.tokens, prompt), len(prompt) - 1) - here
