"""Who is computed: admission into slots, with what is held of each prompt, and what gives way when cells run short.

How a step of those admitted is divided is another matter: ``slices.py``.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections import deque
from collections.abc import Collection, Iterable
from typing import Protocol

from janflask.engine.checkpoints import Checkpoints, PartialMemory, places
from janflask.engine.conversations import Conversations
from janflask.engine.prefix_cache import Placement, PrefixCache, common_prefix
from janflask.engine.sequence import Sequence
from janflask.engine.slices import Limits, Slice, sliced
from janflask.engine.slot import Slot
from janflask.errors import EngineError

log = logging.getLogger(__name__)

SHARE_AT_LEAST = 16  # tokens: below this, waiting for another's prefix costs more than it saves


class Memory(PartialMemory, Protocol):
    """The KV memory's operations that admission needs."""

    def copy(self, source: int, target: int, length: int) -> None: ...
    def trim(self, slot: int, length: int) -> bool: ...
    def rewind(self, slot: int, state: bytes | memoryview, length: int) -> bool: ...
    def fork(self, source: int, target: int) -> bool: ...
    @property
    def eog(self) -> Collection[int]: ...


class Scheduler:
    """Keeps ``waiting`` (in order of arrival) and ``running`` (in order of admission)."""

    def __init__(
        self,
        cache: PrefixCache,
        memory: Memory,
        limits: Limits,
        conversations: Conversations | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.cache = cache
        self.conversations = conversations
        self.checkpoints = checkpoints
        self.memory = memory
        self.limits = limits
        self.slice_size = limits.slice_size  # the governor moves it
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preempted = 0
        self.cached_tokens = 0
        self.asked_tokens = 0  # of prompts, cached or not
        self.looked_up_tokens = 0  # of them, those that were looked for in the cache
        self.rewound = 0  # slots that went back to a checkpoint
        self.refused = 0  # states and checkpoints that llama.cpp did not take

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Queues sequences."""
        self.waiting.extend(sequences)

    def _here(self, sequence: Sequence) -> int:
        """Tokens of its prompt that some slot holds."""
        return max(self.cache.usable_prefix(slot, sequence.tokens, sequence.owner) for slot in self.cache.slots)

    # --- admission ----------------------------------------------------------------------------------------------

    def admit(self, now: float) -> None:
        """Moves waiting sequences into free slots, in order of arrival.

        One that would share a prefix which a running sequence is computing waits for it, and lets others pass.
        """
        if not self.waiting:
            return
        held: list[Sequence] = []
        while self.waiting and self.cache.free:
            sequence = self.waiting.popleft()
            if self._should_wait(sequence) or self._is_recalled_first(sequence, held):
                held.append(sequence)
            elif self.running and not self._has_room(sequence):
                self.waiting.appendleft(sequence)
                break
            else:
                self._admit(sequence, now)
        self.waiting.extendleft(reversed(held))

    def _should_wait(self, sequence: Sequence) -> bool:
        """True while something is on its way that saves computing its prompt, or has to be told before its answer.

        What saves is a state on the disk, or a running sequence that computes more than any slot holds.
        """
        if sequence.recalling or (sequence.waits_for is not None and sequence.waits_for.is_scoring):
            return True
        if not (sequence.cache_prompt and self.cache.enabled):
            return False
        prompt = sequence.tokens
        begun = [other for other in self.running if other.is_prefilling and other.owner == sequence.owner]
        others = [(min(common_prefix(other.tokens, prompt), len(prompt) - 1), other) for other in begun]
        if not self.cache.can_trim:
            others = [(common, other) for common, other in others if common > other.n_computed]
        coming, other = max(others, key=lambda pair: pair[0], default=(0, sequence))
        if coming < SHARE_AT_LEAST:
            return False
        saves = coming - self._here(sequence) >= max(SHARE_AT_LEAST, self.cache.min_copy)
        return saves and (self.cache.can_trim or self._leaves_a_checkpoint(other, coming))

    def _leaves_a_checkpoint(self, sequence: Sequence, length: int) -> bool:
        """Has a running sequence leave one where another prompt parts from its own."""
        if self.checkpoints is None or not sequence.cache_prompt:
            return False
        if length not in sequence.bounds and length < len(sequence.tokens):
            insort(sequence.bounds, length)
        return True

    def _is_recalled_first(self, sequence: Sequence, held: list[Sequence]) -> bool:
        """True if a state on the disk saves computing its prompt. No more are read than there are slots for them."""
        if self.conversations is None or not self.cache.enabled or sequence.recalled:
            return False
        coming = sum(other.recalling or other.snapshot is not None for other in (*held, *self.waiting))
        here = self._here(sequence)
        return self.conversations.look_up(sequence, here, read=coming < self.cache.free)

    def _has_room(self, sequence: Sequence) -> bool:
        """Free cells for what the prompt still needs and some growth, idle slots given up for it if need be.

        One that was preempted asks for more growth, so that it is not preempted again at once.
        """
        if not self.limits.shared_cells:
            return True
        slack = len(self.running) + (64 if sequence.preempted else 1)
        idle = [slot for slot in self.cache.slots if not slot.busy]
        lengths = [self.cache.usable_prefix(slot, sequence.tokens, sequence.owner) for slot in idle]
        source = idle[lengths.index(max(lengths))]
        reuse = max(lengths) if sequence.cache_prompt else 0
        return self._make_room(len(sequence.tokens) - reuse + slack, spare=source if reuse else None)

    def _make_room(self, need: int, spare: Slot | None = None) -> bool:
        """Gives up idle slots but ``spare``, the longest unused first, until ``need`` cells are free."""
        while self.limits.kv_cells - self.cache.tokens_held < need:
            victim = self.cache.oldest_idle(spare)
            if victim is None:
                return False
            self._forget(victim)
        return True

    def _forget(self, slot: Slot) -> None:
        if self.conversations is not None:
            self.conversations.put_away(slot)
        self.memory.trim(slot.id, 0)
        self.cache.clear(slot.id)

    def _admit(self, sequence: Sequence, now: float) -> None:
        cells = self.limits.kv_cells if self.limits.shared_cells else None
        placement = self._recalled(sequence) or self.cache.place(
            sequence.tokens, sequence.owner, use_cache=sequence.cache_prompt, cells=cells
        )
        if placement is None:
            raise RuntimeError("admitted without a free slot")
        self._put_away_unless_continued(placement, sequence)
        source = self.cache.slots[placement.slot if placement.copy_from is None else placement.copy_from]
        went_on = source.origin is not None and placement.reuse > source.origin.n_prompt
        whole = placement.reuse == len(source.tokens)
        slot = self.cache.take(placement, sequence.owner)
        if not self._carry_out(placement, slot, whole=whole):
            self.memory.trim(slot.id, 0)
            slot.empty()
        if self.conversations is not None:
            self.conversations.ram.fit(slot)
        sequence.slot = slot.id
        sequence.n_computed = len(slot.tokens)
        sequence.bounds = self._bounds(sequence, slot)
        if sequence.admitted is None:
            sequence.admitted = now
            sequence.went_on = went_on
            sequence.n_cached = min(sequence.n_computed, sequence.n_prompt)
            self.cached_tokens += sequence.n_cached
            self.asked_tokens += sequence.n_prompt
            self.looked_up_tokens += sequence.n_prompt if sequence.cache_prompt and self.cache.enabled else 0
        self.running.append(sequence)

    def _carry_out(self, placement: Placement, slot: Slot, *, whole: bool) -> bool:
        """Has the KV memory hold what was booked, the ``whole`` of what was there or a beginning. False: it cannot."""
        if self.cache.can_trim or not placement.reuse:
            if placement.copy_from is None:
                return self.memory.trim(slot.id, placement.reuse)
            return self._copied(placement.copy_from, slot.id, placement.reuse)
        point = None if whole else slot.checkpoint(placement.reuse)
        there = True
        if placement.copy_from is not None:
            self.memory.trim(slot.id, 0)
            source = self.cache.slots[placement.copy_from]
            if self.limits.shared_cells and not self._make_room(len(source.tokens) - placement.reuse, spare=source):
                return False  # it is copied whole first
            there = self.memory.fork(placement.copy_from, slot.id)
        if there and point is not None:
            there = self.memory.rewind(slot.id, point.state, point.length)
        self.rewound += there and point is not None
        self.refused += not there
        return there

    def _copied(self, source: int, target: int, length: int) -> bool:
        """Has ``target`` hold the beginning of another slot. False: llama.cpp does not do it."""
        self.memory.trim(target, 0)
        try:
            self.memory.copy(source, target, length)
        except EngineError as error:
            log.warning("%d tokens are computed again: %s", length, error)
            self.refused += 1
            return False
        return True

    def _bounds(self, sequence: Sequence, slot: Slot) -> list[int]:
        """Where its slices are to end, for a checkpoint."""
        if self.checkpoints is None or not sequence.cache_prompt:
            return []
        last = slot.checkpoints[-1].length if slot.checkpoints else 0
        span = (sequence.n_computed, sequence.n_prompt)
        return places(sequence.tokens, span, self.memory.eog, last)

    def _recalled(self, sequence: Sequence) -> Placement | None:
        """Puts the state that was read for the sequence into a slot, if that still saves something."""
        if self.conversations is None or not self.cache.enabled:
            return None
        snapshot = self.conversations.best(sequence, self._here(sequence))
        if snapshot is None:
            return None
        slot = self.cache.least_useful()
        self._forget(slot)
        if self.limits.shared_cells and not self._make_room(len(snapshot.tokens)):
            return None
        if not self.conversations.bring_back(slot, snapshot):
            self.refused += 1
            return None
        return Placement(slot.id, self.cache.usable_prefix(slot, sequence.tokens, sequence.owner))

    def _put_away_unless_continued(self, placement: Placement, sequence: Sequence) -> None:
        """What a slot holds is lost, unless the sequence goes on with nearly all of it, and will be put away itself."""
        slot = self.cache.slots[placement.slot]
        if self.conversations is None or slot.origin is None:
            return
        reuse = placement.reuse if placement.copy_from is None else 0
        goes_on = slot.origin.conversation in (None, sequence.conversation) and sequence.is_lasting
        if not goes_on or len(slot.tokens) - reuse >= SHARE_AT_LEAST:
            self.conversations.put_away(slot, reuse)

    # --- a step -------------------------------------------------------------------------------------------------

    def plan(self) -> list[Slice]:
        """The next step."""
        return sliced(self.running, self.limits, self.slice_size)

    def secure_room(self, slices: list[Slice]) -> bool:
        """Makes sure that the step's tokens find cells. False: something gave way, plan again."""
        if not self.limits.shared_cells:
            return True
        need = sum(part.count for part in slices)
        return self._make_room(need) or not self.give_way()

    def give_way(self) -> bool:
        """Frees cells: an idle slot's, else those of the sequence admitted last, which waits to be computed again.

        False when the only running sequence has nobody left to give way.
        """
        victim = self.cache.oldest_idle()
        if victim is not None:
            self._forget(victim)
            return True
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preempted += 1
        sequence.preempted = True
        sequence.recalled = False
        self._leave(sequence, keep=False)
        sequence.n_computed = 0
        self.waiting.appendleft(sequence)

    def computed(self, part: Slice) -> None:
        """Books a slice that the step has computed."""
        sequence = part.sequence
        self.advance(sequence, part.count)
        end = sequence.n_computed
        if sequence.slot is not None and sequence.bounds and end >= sequence.bounds[0]:
            if self.checkpoints is not None and end in sequence.bounds:
                self.checkpoints.take(self.cache.slots[sequence.slot])
            sequence.bounds = [length for length in sequence.bounds if length > end]

    def advance(self, sequence: Sequence, count: int) -> None:
        """Books that so many more of a sequence's tokens are computed."""
        start = sequence.n_computed
        if sequence.slot is None:
            raise RuntimeError("computed without a slot")
        self.cache.append(sequence.slot, sequence.tokens[start : start + count])
        sequence.n_computed = start + count

    def compute_again(self, slot: int, sequence: Sequence) -> None:
        """What a slot holds is not what was booked: it is emptied, and its sequence goes on from the beginning."""
        self.memory.trim(slot, 0)
        self.cache.clear(slot)
        if sequence.slot == slot:
            sequence.n_computed = 0

    # --- leaving ------------------------------------------------------------------------------------------------

    def finish(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Takes a sequence out, wherever it is; its computed tokens stay as a prefix for others if ``keep``."""
        if sequence.slot is not None:
            self._leave(sequence, keep=keep)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _leave(self, sequence: Sequence, *, keep: bool) -> None:
        slot = sequence.slot
        if slot is None:
            raise RuntimeError("left without a slot")
        self.running.remove(sequence)
        self.cache.release(slot, keep=keep, origin=sequence.origin)
        if not keep:
            self.memory.trim(slot, 0)
        sequence.slot = None

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting
