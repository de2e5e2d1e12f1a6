"""The engine's loop: schedule -> one decode for everybody -> sample -> text -> sinks. One thread runs it.

``step`` is the map of it; what comes behind the decode is in ``answers.py``. Requests and cancellations come in through
thread-safe calls and are taken between two steps, so nothing here needs a lock while llama.cpp computes.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from typing import Protocol

from janflask.engine.answers import Answers, Rows
from janflask.engine.checkpoints import Checkpoints
from janflask.engine.chores import Chore, rest
from janflask.engine.constraining import Constraining
from janflask.engine.conversations import Conversations, StateMemory
from janflask.engine.drafting import MOST, Drafting
from janflask.engine.governor import Governor
from janflask.engine.keep_states import KeepStates
from janflask.engine.matcher import Masker
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.ram_states import RamStates
from janflask.engine.scheduler import Memory, Scheduler
from janflask.engine.sequence import Sequence
from janflask.engine.served import Served
from janflask.engine.slices import Limits, Slice
from janflask.engine.snapshots import Snapshots
from janflask.engine.step_costs import StepCosts
from janflask.engine.worker import Worker
from janflask.errors import EngineError, JanflaskError, UnavailableError
from janflask.models.engine_info import EngineStats, OpenAnswer

log = logging.getLogger(__name__)

FINISH_TIME = 2.0  # seconds that keeping conversations may hold up the engine's end

NO_ROOM = 1  # llama_decode's code: no cells for the batch


class Batch(Protocol):
    """The tokens of one decode."""

    def clear(self) -> None: ...
    def add(self, tokens: array[int], start: int, count: int, seq: int, outputs: int) -> int: ...


class Context(Memory, StateMemory, Rows, Protocol):
    """What the loop asks of llama.cpp; ``LlamaContext``, or a fake in tests."""

    @property
    def batch(self) -> Batch: ...
    @property
    def ctx_len(self) -> int: ...
    @property
    def kv_bytes(self) -> int | None: ...
    def decode(self) -> int: ...


class Loop(Worker):
    """Owns scheduler and prefix cache; everything but ``submit``, ``cancel``, ``stop`` and ``stats`` is its thread's.

    Args:
        context: the model, and its KV memory.
        cache, limits: see ``Scheduler``.
        governor: sizes the slices.
        clock: seconds; a test's own.
        snapshots: keeps KV states on the disk.
        state_bytes: of KV states in memory beside the slots', of checkpoints, too.
        masker: computes the masks of sequences that are constrained; without one there are none.
        longest_draft: tokens that are guessed ahead at most; 0: none.
        first_ms: what the context's first token took.
    """

    def __init__(
        self,
        context: Context,
        cache: PrefixCache,
        limits: Limits,
        governor: Governor | None = None,
        clock: Callable[[], float] = time.monotonic,
        snapshots: Snapshots | None = None,
        masker: Masker | None = None,
        state_bytes: int = 0,
        longest_draft: int = MOST,
        first_ms: float = 0.0,
    ) -> None:
        super().__init__(clock)
        self.context = context
        ram = RamStates(state_bytes, cache.slots)
        keeps = snapshots is not None or state_bytes > 0
        self.conversations = (
            Conversations(snapshots, ram, context, self._post, can_trim=cache.can_trim) if keeps else None
        )
        checkpoints = None if cache.can_trim or not cache.enabled else Checkpoints(context, cache.slots, ram)
        self.scheduler = Scheduler(cache, context, limits, self.conversations, checkpoints)
        self.governor = governor or Governor(limits.slice_size, None)
        self.costs = StepCosts(first_ms)
        self._step_tokens = 0  # of the newest step
        self.served = Served(len(cache.slots))
        self.chores: list[Chore] = []
        self.on_step: Callable[[float], None] | None = None  # told of each step's milliseconds
        if self.conversations is not None:
            self.chores.append(KeepStates(self.conversations, self.scheduler.cache))
        self.limits = limits
        self.capacity = min(context.ctx_len, limits.kv_cells)  # tokens of one sequence
        self.drafting = Drafting(self.scheduler, self.costs, longest_draft, self.capacity)
        most_forced = limits.chunk_size // len(cache.slots)  # tokens of a sequence in one step
        self.constraining = Constraining(masker, most_forced, self.capacity, context.is_eog, clock)
        self.answers = Answers(context, self.scheduler, self.constraining, self.capacity, clock)
        self._requests = 0  # since the start, as are the next
        self._prompt_tokens = 0
        self._steps = 0

    # --- from other threads -------------------------------------------------------------------------------------

    def submit(self, sequences: list[Sequence]) -> None:
        """Queues the choices of one request."""
        self._post(lambda: self._accept(sequences))

    def cancel(self, sequences: list[Sequence]) -> None:
        """Ends sequences without a word to their sinks (the client is gone); unknown or finished ones are ignored."""
        self._post(lambda: self._cancel(sequences))

    def is_resting(self) -> bool:
        """See ``Worker``."""
        return super().is_resting() and self.scheduler.idle

    def stats(self) -> EngineStats:
        """Counters and load at this moment; each number is right, together they may be one step apart."""
        scheduler = self.scheduler
        return EngineStats(
            slots=len(scheduler.cache.slots),
            busy=len(scheduler.running),
            waiting=len(scheduler.waiting),
            kv_cells=self.limits.kv_cells,
            kv_used=scheduler.cache.tokens_held,
            kv_bytes=self.context.kv_bytes,
            kv_busy=sum(len(slot.tokens) for slot in scheduler.cache.slots if slot.busy),
            requests=self._requests,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=scheduler.cached_tokens,
            asked_tokens=scheduler.asked_tokens,
            looked_up_tokens=scheduler.looked_up_tokens,
            generated_tokens=self.answers.generated,
            preempted=scheduler.preempted,
            cancelled=self.answers.abandoned,
            steps=self._steps,
            idle_seconds=self.idle_seconds,
            stalled_seconds=self.stalled_seconds,
            longest_step_seconds=self.costs.surely(self._step_tokens),
            forced_tokens=self.answers.forced,
            mask_seconds=self.constraining.seconds,
            states_restored=scheduler.rewound + (0 if self.conversations is None else self.conversations.restored),
            states_refused=scheduler.refused + (0 if scheduler.checkpoints is None else scheduler.checkpoints.failed),
            drafted_tokens=self.drafting.drafted,
            accepted_tokens=self.drafting.accepted,
        )

    def open_answers(self) -> list[OpenAnswer]:
        """Those it computes, then those that wait; what was submitted since the last step is not among them."""
        now = self.clock()
        return [s.told(now) for s in (*self.scheduler.running, *self.scheduler.waiting)]

    # --- at rest, from its own thread ---------------------------------------------------------------------------

    def adopt(self, limits: Limits, governor: Governor, min_copy: int) -> None:
        """Goes on with other limits."""
        self.limits = self.scheduler.limits = limits
        self.governor = governor
        self.scheduler.slice_size = limits.slice_size
        self.scheduler.cache.min_copy = min_copy
        self.scheduler.cache.streams = not limits.shared_cells

    @property
    def tokens_kept(self) -> int:
        """Whose KV states are in slots or on the disk."""
        kept = 0 if self.conversations is None else self.conversations.tokens_on_disk
        return self.scheduler.cache.tokens_held + kept

    def forget_all(self) -> None:
        """The context was made anew: no slot holds anything."""
        for slot in self.scheduler.cache.slots:
            self.scheduler.cache.clear(slot.id)
        self.costs.forget()

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """See ``Worker``; states are put away last, when nobody waits for an answer any more."""
        super().run()
        if self.conversations is not None:
            self.conversations.finish(self.scheduler.cache.unkept(), FINISH_TIME)

    def _wait(self) -> None:
        # One whose state is read from the disk has nothing to be computed yet, but waits for an answer all the same.
        rest(self._wake, self.chores if self.scheduler.idle else (), self.clock)

    def step(self) -> bool:
        """One decode for everybody. False: there is nothing to do.

        A decode that llama.cpp refuses fails its requests; anything else ends the process.
        """
        self._take_inbox()
        self.scheduler.admit(self.clock())
        slices = self.scheduler.plan()
        if not slices:
            return False
        if not self.scheduler.secure_room(slices):
            return True
        drafted = self.drafting.propose(slices)
        self._step_tokens = sum(part.count for part in slices) + drafted
        started = self.clock()
        code = self._decode(slices)
        if code == NO_ROOM and (self.drafting.drop() or self.scheduler.give_way()):
            return True
        if code != 0:
            self.drafting.drop()
            self._fail_step(slices, code)
            return True
        prompts = [part.count for part in slices if part.sequence.is_prefilling]
        forced = sum(part.count - 1 for part in slices if not part.sequence.is_prefilling)
        self.served.note(slices, len(slices) - len(prompts))
        for part in slices:
            self.scheduler.computed(part)
        self.answers.tell_prompts([part.sequence for part in slices if part.sequence.is_scoring])
        self._active_at = self.clock()
        step_ms = (self._active_at - started) * 1e3
        self._go_on([part.sequence for part in slices if part.sequence.n_left == 0 and part.sequence.slot is not None])
        self.drafting.settle()
        # Booked after the tokens are out: whoever reads them works while this thread does.
        self._steps += 1
        self.costs.observe(self._step_tokens, step_ms)
        if self.on_step is not None:
            self.on_step(step_ms)
        self._prompt_tokens += sum(prompts)
        if not drafted:
            self.scheduler.slice_size = self.governor.observe(
                step_ms, sum(prompts) + forced, len(slices) - len(prompts)
            )
        return True

    def _accept(self, sequences: list[Sequence]) -> None:
        self._requests += 1
        self.scheduler.submit(sequences)

    def _cancel(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            if sequence.slot is not None or sequence in self.scheduler.waiting:
                self.answers.abandon(sequence)

    def _decode(self, slices: list[Slice]) -> int:
        batch = self.context.batch
        batch.clear()
        for part in slices:
            sequence = part.sequence
            if sequence.slot is None:
                raise RuntimeError("a sequence without a slot in a step")
            draft = sequence.draft.tokens
            more = len(draft)
            tokens = sequence.tokens + draft if more else sequence.tokens
            last = batch.add(tokens, sequence.n_computed, part.count + more, sequence.slot, part.outputs + more)
            sequence.row = last - more
        return self.context.decode()

    def _go_on(self, sequences: list[Sequence]) -> None:
        """The next tokens of each: as many as its draft has rows for, drawn as if each had been computed alone."""
        while sequences:
            going = self.answers.unless_over(sequences)
            self.answers.draw(going)
            sequences = [sequence for sequence in going if self.drafting.take_up(sequence)]

    # --- failing ------------------------------------------------------------------------------------------------

    def _fail_step(self, slices: list[Slice], code: int) -> None:
        """llama.cpp refused the batch: what its memory holds of these sequences is unknown, so they go, whole."""
        if code == NO_ROOM:
            error: JanflaskError = UnavailableError(
                "the KV cache has no room for this request: raise kv_cells or lower n_parallel",
                code="kv_cache_full",
                retry_after=5,
            )
        else:
            error = EngineError(f"llama.cpp could not compute this request (llama_decode gave {code})")
        log.error("llama_decode gave %d for %d sequences", code, len(slices))
        for part in slices:
            self.answers.fail(part.sequence, error)

    def _end(self, error: JanflaskError) -> None:
        for sequence in [*self.scheduler.running, *self.scheduler.waiting]:
            self.answers.fail(sequence, error, keep=True)
