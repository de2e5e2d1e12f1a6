"""KV states beyond the slots: put away before a slot is lost, brought back before a prompt is computed.

What lost its slot goes to this process's memory (``ram_states.py``) and to the disk (``snapshots.py``). The loop's
thread copies states out of and into llama.cpp's memory; files are read and written by a thread of their own, so
nobody's stream waits for a disk. A sequence whose state is being read waits in the queue and lets others pass.

A state is found by the tokens of a prompt, wherever its owner left it. Writing one costs its whole length, so what
is on the disk already, but for a few tokens, is not written again.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from janflask.engine.ram_states import RamStates
from janflask.engine.sequence import Sequence
from janflask.engine.slot import Origin, Slot
from janflask.engine.snapshots import Snapshot, Snapshots
from janflask.engine.state_index import WORTHWHILE
from janflask.errors import EngineError

log = logging.getLogger(__name__)

LEAST_NAMELESS = 256  # tokens of a state that belongs to no conversation
LEAST_LOST = 16  # tokens that are nowhere else: fewer may get lost with a slot
LOST_SHARE = 64  # ... and fewer than this part of the slot
RESTING_SHARE = 8  # the same while the slot is not lost yet: so all writing of one that grows is this times its length
MAX_PENDING = 2  # states in memory that wait for the disk


class StateMemory(Protocol):
    """The KV memory's operations on whole states."""

    def state(self, slot: int) -> memoryview: ...
    def state_size(self, slot: int) -> int: ...
    def restore(self, slot: int, state: bytes | memoryview, length: int) -> bool: ...


class Conversations:
    """All methods are the loop's thread's. ``post`` runs an action there, between two steps."""

    def __init__(
        self,
        snapshots: Snapshots | None,
        ram: RamStates,
        memory: StateMemory,
        post: Callable[[Callable[[], None]], None],
        *,
        can_trim: bool,
    ) -> None:
        self._snapshots = snapshots
        self.ram = ram
        self._memory = memory
        self._post = post
        self._can_trim = can_trim
        self._disk = ThreadPoolExecutor(1, "snapshots")
        self._pending: dict[Future[bool], tuple[Slot | None, array[int]]] = {}  # of which slot, and what that held
        self._failing = False  # the disk did not take the state that was written last
        self.restored = 0  # conversations that were brought back

    # --- bringing back ------------------------------------------------------------------------------------------

    def look_up(self, sequence: Sequence, here: int, *, read: bool) -> bool:
        """Whether a state on the disk saves computing, beyond ``here`` tokens in a slot and what is in memory.

        It is ``read``.
        """
        if not sequence.cache_prompt or self._snapshots is None:
            return False
        held = self.ram.best(sequence.tokens, here, sequence.owner)
        if held is not None:
            here = held.usable(sequence.tokens)
        if self._snapshots.index.best(sequence.tokens, here, sequence.owner) is None:
            return False
        if read:
            self._read(self._snapshots, sequence, here)
        return True

    def _read(self, snapshots: Snapshots, sequence: Sequence, here: int) -> None:
        sequence.recalling = True
        prompt = array("i", sequence.tokens)

        def find() -> None:
            snapshot = None
            try:
                snapshot = snapshots.find(prompt, here, sequence.owner)
            except Exception:
                log.exception("KV states could not be looked for, a prompt is computed")
            finally:
                self._post(lambda: self._found(sequence, snapshot))

        self._disk.submit(find)

    @staticmethod
    def _found(sequence: Sequence, snapshot: Snapshot | None) -> None:
        sequence.recalling = False
        sequence.recalled = True
        sequence.snapshot = snapshot

    def best(self, sequence: Sequence, here: int) -> Snapshot | None:
        """The state that saves most of computing, beyond ``here`` tokens in a slot: the one read, or one in memory."""
        snapshot, sequence.snapshot = sequence.snapshot, None
        if not sequence.cache_prompt:
            return None
        there = here if snapshot is None else snapshot.usable(sequence.tokens)
        if there - here < WORTHWHILE:
            there, snapshot = here, None
        held = self.ram.best(sequence.tokens, there, sequence.owner)
        if held is not None and self._is_gone(held.conversation):
            self.ram.forget(held)
            held = None
        return held or snapshot

    def _is_gone(self, conversation: str | None) -> bool:
        return conversation is not None and self._snapshots is not None and self._snapshots.is_gone(conversation)

    def bring_back(self, slot: Slot, snapshot: Snapshot) -> bool:
        """The (empty) slot holds what was put away. False: it is empty still, llama.cpp does not take the state."""
        if not self._memory.restore(slot.id, snapshot.state, len(snapshot.tokens)):
            log.warning("a KV state of %d bytes was refused, its tokens are computed again", len(snapshot.state))
            self.ram.forget(snapshot)
            if self._snapshots is not None and snapshot.file is not None:
                self._snapshots.index.drop(snapshot.file)  # or each request would read it
            return False
        slot.owner = snapshot.owner
        slot.tokens = array("i", snapshot.tokens)
        slot.checkpoints = list(snapshot.checkpoints)
        slot.origin = Origin(snapshot.n_prompt)
        self.restored += 1
        return True

    # --- putting away -------------------------------------------------------------------------------------------

    def is_due_at_rest(self, slot: Slot) -> bool:
        """Whether much would have to be computed again if the engine were killed now."""
        return self._unwritten(slot) >= max(WORTHWHILE, len(slot.tokens) // RESTING_SHARE)

    def keep(self, slot: Slot) -> None:
        """Writes what a slot holds, in the background; it stays there."""
        self._write_behind(slot)

    def put_away(self, slot: Slot, kept_here: int = 0) -> None:
        """Keeps what a slot holds that is about to be lost, but for its first ``kept_here`` tokens, where it pays.

        It goes into memory, and in the background onto the disk.
        """
        if slot.origin is None:
            return
        to_disk, to_ram = self._is_worth_the_disk(slot), self._is_worth_the_memory(slot, kept_here)
        if not to_disk and not to_ram:
            return
        state = self._taken(slot, slot.origin)
        if state is None:
            return
        if to_ram and self.ram.put(state) and to_disk and self.is_behind:
            self.ram.owe(slot.origin)
        elif to_disk:
            self._write_behind(slot, state)

    def _is_worth_the_memory(self, slot: Slot, kept_here: int) -> bool:
        length = len(slot.tokens)
        lost = min(length - kept_here, self.ram.unheld(slot.tokens, slot.owner))
        if length < WORTHWHILE or lost < _least_lost(length):
            return False
        return self._memory.state_size(slot.id) <= self.ram.budget

    def _is_worth_the_disk(self, slot: Slot) -> bool:
        origin, unwritten = slot.origin, self._unwritten(slot)
        if unwritten >= _least_lost(len(slot.tokens)):
            return True
        if origin is None or slot.kept or self._snapshots is None:
            return False
        return self._snapshots.is_outdated(slot.tokens, origin, slot.owner)

    def _unwritten(self, slot: Slot) -> int:
        """How many tokens of a slot that is worth keeping on the disk are not there."""
        origin, length = slot.origin, len(slot.tokens)
        if self._snapshots is None or origin is None or not origin.is_lasting or slot.kept:
            return 0
        if length < (LEAST_NAMELESS if origin.conversation is None else WORTHWHILE):
            return 0
        return length - self._snapshots.index.held(slot.tokens, slot.owner)

    def _taken(self, slot: Slot, origin: Origin) -> Snapshot | None:
        """All that a slot holds; None where it cannot be had."""
        tokens, points = array("i", slot.tokens), tuple(slot.checkpoints)
        try:
            state = self._memory.state(slot.id)
        except EngineError as error:
            log.warning("a KV state of %d tokens is not kept: %s", len(tokens), error)
            return None
        return Snapshot(tokens, state, origin.n_prompt, points, self._can_trim, origin.conversation, owner=slot.owner)

    def _write_behind(self, slot: Slot, state: Snapshot | None = None) -> None:
        if slot.origin is None or self._snapshots is None:
            return
        if self.is_behind:
            log.info("the disk is behind: a KV state of %d tokens is not kept", len(slot.tokens))
            return
        slot.kept = True  # or it would be tried again and again
        state = state or self._taken(slot, slot.origin)
        if state is not None:
            self._submit(self._snapshots, state, slot.origin, slot)

    def _submit(self, snapshots: Snapshots, state: Snapshot, origin: Origin, slot: Slot | None) -> None:
        snapshot = state.as_file()
        name = snapshots.announce(snapshot, origin)
        writing = self._disk.submit(self._write, snapshots, name, snapshot)
        self._pending[writing] = slot, state.tokens if slot is None else slot.tokens

    def _look_after(self) -> None:
        """What became of what was to be written. A slot that still holds what the disk did not take is not kept.

        Then those follow that wait in memory.
        """
        for writing, (slot, tokens) in list(self._pending.items()):
            if writing.done():
                del self._pending[writing]
                self._failing = not writing.result()
                if self._failing and slot is not None and slot.tokens is tokens:
                    slot.kept = False
        while self._snapshots is not None and len(self._pending) < MAX_PENDING and (owed := self.ram.next_owed()):
            self._submit(self._snapshots, *owed, None)

    @staticmethod
    def _write(snapshots: Snapshots, name: str, snapshot: Snapshot) -> bool:
        """False: the disk does not take it."""
        try:
            snapshots.save(name, snapshot)
        except OSError as error:
            log.warning("a KV state could not be kept: %s", error)
            return False
        except Exception:
            log.exception("a KV state could not be kept")
            return False
        return True

    def turn_to(self, fingerprint: str) -> None:
        """The context has other settings: what was kept so far is of no use to it. Written behind what is under way."""
        self.ram.clear()
        if self._snapshots is not None:
            self._snapshots.index.clear()  # at once: nobody waits for them, nor leaves a state unwritten for them
            self._disk.submit(self._turn_to, self._snapshots, fingerprint)

    @staticmethod
    def _turn_to(snapshots: Snapshots, fingerprint: str) -> None:
        try:
            snapshots.turn_to(fingerprint)
        except OSError as error:
            log.warning("KV states kept earlier are not looked at: %s", error)
        except Exception:
            log.exception("KV states kept earlier are not looked at")

    @property
    def tokens_on_disk(self) -> int:
        """Whose states could be read."""
        return 0 if self._snapshots is None else self._snapshots.index.n_tokens

    def is_on_disk(self, slot: Slot) -> bool:
        """Whether hardly a token would have to be computed again if the slot were lost, and all in memory."""
        if self._snapshots is None:
            return False
        length = len(slot.tokens)
        return length - self._snapshots.index.held(slot.tokens, slot.owner) < _least_lost(length)

    @property
    def is_behind(self) -> bool:
        """The disk has as much to write as may wait for it."""
        self._look_after()
        return len(self._pending) >= MAX_PENDING

    @property
    def is_writing(self) -> bool:
        """States are on their way to the disk."""
        self._look_after()
        return bool(self._pending)

    @property
    def disk_fails(self) -> bool:
        """It did not take the last state that was to be written."""
        self._look_after()
        return self._failing

    def try_again(self) -> None:
        """A disk that failed may have room again."""
        self._failing = False

    def settle(self, slots: Collection[Slot]) -> bool:
        """Has the disk take what of the slots is worth it and nowhere else. True: that is done, or the disk fails."""
        self._look_after()
        for slot in slots:
            if self.would_be_lost(slot) and not self._failing and len(self._pending) < MAX_PENDING:
                self._write_behind(slot)
        return not self._pending and (self._failing or not any(map(self.would_be_lost, slots)))

    def would_be_lost(self, slot: Slot) -> bool:
        """Whether a slot holds what is to outlive it, and is not on its way to the disk."""
        return not slot.busy and self._is_worth_the_disk(slot)

    def finish(self, slots: list[Slot], seconds: float) -> None:
        """The engine ends: puts away what is worth it, those used last first, for so long at most."""
        deadline = time.monotonic() + seconds
        for slot in sorted(slots, key=lambda slot: -slot.last_used):
            if not self._has_written(deadline):
                log.warning("the disk is too slow: not every KV state was kept")
                return
            if self.would_be_lost(slot):
                self._write_behind(slot)
        self._has_written(deadline)

    def _has_written(self, deadline: float) -> bool:
        """Waits. False: time is up."""
        while self.is_writing:
            if not wait(self._pending, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED).done:
                return False
        return True


def _least_lost(length: int) -> int:
    """Fewer tokens may get lost with a slot that holds so many."""
    return max(LEAST_LOST, length // LOST_SHARE)
