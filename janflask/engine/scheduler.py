"""Who is computed in the next step: admission, prompt slices, and what gives way when the KV memory runs short.

A step is one ``llama_decode`` for everybody: each decoding sequence brings its newest token (and those that its
constraint forces behind it), and what is left of the step's budget is filled with slices of the prompts in prefill.
While somebody decodes, a step brings at most ``slice_size`` prompt tokens, so that nobody's stream stalls behind a long
prompt; while nobody does, ``chunk_size``.

Half of the budget goes to the prompt that was admitted first, the rest to those with the fewest tokens left: a long
prompt cannot hold a short one back, and is itself never starved.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from janflask.engine.conversations import Conversations, gain
from janflask.engine.prefix_cache import Placement, PrefixCache, Slot, common_prefix
from janflask.engine.sequence import Sequence
from janflask.engine.state_index import WORTHWHILE

SHARE_AT_LEAST = 16  # tokens: below this, waiting for another's prefix costs more than it saves


class Memory(Protocol):
    """The KV memory's operations that admission needs."""

    def copy(self, source: int, target: int, length: int) -> None: ...
    def trim(self, slot: int, length: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step and the KV memory may hold, in tokens."""

    kv_cells: int
    shared_cells: bool  # one pool for all slots (unified KV); false: every slot has its own ctx_len
    chunk_size: int  # prompt tokens of a step in which nobody decodes
    slice_size: int  # prompt tokens of a step in which somebody does
    scored_rows: int = 64  # of a step's prompt tokens, those that get logits: each is a row as long as the vocabulary


@dataclass(frozen=True, slots=True)
class Slice:
    """``count`` tokens of a sequence, from its first uncomputed one, in one step."""

    sequence: Sequence
    count: int

    @property
    def outputs(self) -> int:
        """How many of the tokens, the last ones, get logits: all that predict a token not yet told, or the newest."""
        sequence = self.sequence
        if sequence.echo is not None and sequence.is_scoring:
            return max(0, min(self.count, sequence.n_computed + self.count + 1 - max(1, sequence.echo.done)))
        return int(self.count == sequence.n_left)


class Scheduler:
    """Keeps ``waiting`` (in order of arrival) and ``running`` (in order of admission)."""

    def __init__(
        self, cache: PrefixCache, memory: Memory, limits: Limits, conversations: Conversations | None = None
    ) -> None:
        self.cache = cache
        self.conversations = conversations
        self.memory = memory
        self.limits = limits
        self.slice_size = limits.slice_size  # the governor moves it
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preempted = 0
        self.cached_tokens = 0

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Queues sequences."""
        self.waiting.extend(sequences)

    def _here(self, sequence: Sequence) -> int:
        """Tokens of its prompt that some slot holds."""
        return max(self.cache.usable_prefix(slot, sequence.tokens) for slot in self.cache.slots)

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
        if not (sequence.cache_prompt and self.cache.enabled and self.cache.can_trim):
            return False
        prompt = sequence.tokens
        coming = 0
        for other in self.running:
            if other.is_prefilling:
                coming = max(coming, min(common_prefix(other.tokens, prompt), len(prompt) - 1))
        if coming < SHARE_AT_LEAST:
            return False
        return coming - self._here(sequence) >= max(SHARE_AT_LEAST, self.cache.min_copy)

    def _is_recalled_first(self, sequence: Sequence, held: list[Sequence]) -> bool:
        """True if a state on the disk saves computing its prompt. No more are read than there are slots for them."""
        if self.conversations is None or not self.cache.enabled or sequence.recalled:
            return False
        coming = sum(other.recalling or other.snapshot is not None for other in (*held, *self.waiting))
        return self.conversations.look_up(sequence, self._here(sequence), read=coming < self.cache.free)

    def _has_room(self, sequence: Sequence) -> bool:
        """Free cells for what the prompt still needs and some growth, idle slots given up for it if need be.

        One that was preempted asks for more growth, so that it is not preempted again at once.
        """
        if not self.limits.shared_cells:
            return True
        slack = len(self.running) + (64 if sequence.preempted else 1)
        idle = [slot for slot in self.cache.slots if not slot.busy]
        source = max(idle, key=lambda slot: self.cache.usable_prefix(slot, sequence.tokens))
        reuse = self.cache.usable_prefix(source, sequence.tokens) if sequence.cache_prompt else 0
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
            sequence.tokens, use_cache=sequence.cache_prompt, cells=cells
        )
        if placement is None:
            raise RuntimeError("admitted without a free slot")
        self._put_away_unless_continued(placement, sequence)
        source = self.cache.slots[placement.slot if placement.copy_from is None else placement.copy_from]
        went_on = source.origin is not None and placement.reuse > source.origin.n_prompt
        slot = self.cache.take(placement)
        if placement.copy_from is not None:
            self.memory.trim(slot.id, 0)
            self.memory.copy(placement.copy_from, slot.id, placement.reuse)
        elif not self.memory.trim(slot.id, placement.reuse):
            self.memory.trim(slot.id, 0)
            slot.tokens = array("i")
        sequence.slot = slot.id
        sequence.n_computed = len(slot.tokens)
        if sequence.admitted is None:
            sequence.admitted = now
            sequence.went_on = went_on
            sequence.n_cached = min(sequence.n_computed, sequence.n_prompt)
            self.cached_tokens += sequence.n_cached
        self.running.append(sequence)

    def _recalled(self, sequence: Sequence) -> Placement | None:
        """Puts the state that was read for the sequence into a slot, if that still saves something."""
        snapshot, sequence.snapshot = sequence.snapshot, None
        if snapshot is None or self.conversations is None:
            return None
        if gain(snapshot, sequence.tokens, self._here(sequence)) < WORTHWHILE:
            return None
        slot = self.cache.least_useful()
        self._forget(slot)
        if self.limits.shared_cells and not self._make_room(len(snapshot.tokens)):
            return None
        if not self.conversations.bring_back(slot, snapshot):
            return None
        return Placement(slot.id, self.cache.usable_prefix(slot, sequence.tokens))

    def _put_away_unless_continued(self, placement: Placement, sequence: Sequence) -> None:
        """What a slot holds is lost, unless the sequence goes on with nearly all of it, and will be put away itself."""
        slot = self.cache.slots[placement.slot]
        if self.conversations is None or slot.origin is None:
            return
        reuse = placement.reuse if placement.copy_from is None else 0
        goes_on = slot.origin.conversation in (None, sequence.conversation) and sequence.is_lasting
        if not goes_on or len(slot.tokens) - reuse >= SHARE_AT_LEAST:
            self.conversations.put_away(slot)

    # --- a step -------------------------------------------------------------------------------------------------

    def plan(self) -> list[Slice]:
        """The next step, ordered by slot (llama.cpp computes neighbouring streams together)."""
        slices = [
            Slice(sequence, sequence.n_left)
            for sequence in self.running
            if sequence.n_left and not sequence.is_prefilling
        ]
        prefills = [sequence for sequence in self.running if sequence.is_prefilling]
        budget = self.slice_size if slices else self.limits.chunk_size
        budget = min(budget, self.limits.chunk_size - sum(part.count - 1 for part in slices))
        if prefills and budget > 0:
            slices += self._divide(budget, prefills)
        slices.sort(key=lambda part: part.sequence.slot or 0)
        return slices

    def _divide(self, budget: int, prefills: list[Sequence]) -> list[Slice]:
        first, *others = prefills
        shares = _Shares(budget, self.limits.scored_rows)
        if others:
            shares.give(first, (budget + 1) // 2, (self.limits.scored_rows + 1) // 2)
        for sequence in sorted(others, key=lambda other: other.n_left):
            shares.give(sequence)
        shares.give(first)
        return [Slice(sequence, count) for sequence in prefills if (count := shares.of(sequence))]

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
        start = sequence.n_computed
        end = start + part.count
        if sequence.slot is None:
            raise RuntimeError("computed without a slot")
        self.cache.append(sequence.slot, sequence.tokens[start:end])
        sequence.n_computed = end

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


class _Shares:
    """A step's prompt tokens, and those of them that are scored, as they are given out."""

    def __init__(self, tokens: int, scored: int) -> None:
        self._tokens = tokens
        self._scored = scored
        self._given: dict[Sequence, int] = {}

    def of(self, sequence: Sequence) -> int:
        """Tokens that it has got."""
        return self._given.get(sequence, 0)

    def give(self, sequence: Sequence, tokens: int | None = None, scored: int | None = None) -> None:
        """As many as it needs and there are, at most ``tokens``, or ``scored`` if its prompt is."""
        count = min(self._tokens if tokens is None else tokens, sequence.n_left - self.of(sequence))
        if sequence.is_scoring:
            count = min(count, self._scored if scored is None else scored)
            self._scored -= count
        self._tokens -= count
        self._given[sequence] = self.of(sequence) + count
