"""The engine's loop: schedule -> one decode for everybody -> sample -> text -> sinks. One thread runs it.

``step`` is the map of it. Requests and cancellations come in through thread-safe calls and are taken between two steps,
so nothing here needs a lock while llama.cpp computes.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from typing import Any, Protocol

from janflask.engine.constraining import Constraining
from janflask.engine.conversations import Conversations, StateMemory
from janflask.engine.governor import Governor
from janflask.engine.matcher import Masker
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.scheduler import Limits, Memory, Scheduler, Slice
from janflask.engine.sequence import Sampler, Sequence
from janflask.engine.snapshots import Snapshots
from janflask.engine.telling import Scorer, logprob_of, tell_prompt_part, token_logprob
from janflask.engine.worker import Worker
from janflask.errors import EngineError, JanflaskError, UnavailableError
from janflask.ipc.messages.generation import FinishReason
from janflask.models.engine_info import EngineStats
from janflask.parsing.deltas import TokenLogprob

log = logging.getLogger(__name__)

REST_BEFORE_KEEPING = 3.0  # seconds: whoever talks on would only make it write the state again
FINISH_TIME = 2.0  # seconds that keeping conversations may hold up the engine's end

NO_ROOM = 1  # llama_decode's code: no cells for the batch


class Batch(Protocol):
    """The tokens of one decode."""

    def clear(self) -> None: ...
    def add(self, tokens: array[int], start: int, count: int, seq: int, outputs: int) -> int: ...


class Context(Memory, StateMemory, Scorer, Protocol):
    """What the loop asks of llama.cpp; ``LlamaContext``, or a fake in tests."""

    @property
    def batch(self) -> Batch: ...
    @property
    def ctx_len(self) -> int: ...
    def decode(self) -> int: ...
    def sample(self, rows: list[int], samplers: list[Sampler], masks: list[Any] | None = None) -> list[int]: ...


class Loop(Worker):
    """Owns scheduler and prefix cache; everything but ``submit``, ``cancel``, ``stop`` and ``stats`` is its thread's.

    Args:
        context: the model, and its KV memory.
        cache, limits: see ``Scheduler``.
        governor: sizes the slices.
        clock: seconds; a test's own.
        snapshots: keeps KV states on the disk.
        masker: computes the masks of sequences that are constrained; without one there are none.
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
    ) -> None:
        super().__init__(clock)
        self.context = context
        self.conversations = None if snapshots is None else Conversations(snapshots, context, self._post)
        self.scheduler = Scheduler(cache, context, limits, self.conversations)
        self.governor = governor or Governor(limits.slice_size, None)
        self.limits = limits
        self.capacity = min(context.ctx_len, limits.kv_cells)  # tokens of one sequence
        most_forced = limits.chunk_size // len(cache.slots)  # tokens of a sequence in one step
        self.constraining = Constraining(masker, most_forced, self.capacity, context.is_eog, clock)
        self._counts = {"requests": 0, "prompt": 0, "generated": 0, "forced": 0, "cancelled": 0, "steps": 0}

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
            requests=self._counts["requests"],
            prompt_tokens=self._counts["prompt"],
            cached_tokens=scheduler.cached_tokens,
            generated_tokens=self._counts["generated"],
            preempted=scheduler.preempted,
            cancelled=self._counts["cancelled"],
            steps=self._counts["steps"],
            idle_seconds=self.idle_seconds,
            forced_tokens=self._counts["forced"],
            mask_seconds=self.constraining.seconds,
        )

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """See ``Worker``; states are put away last, when nobody waits for an answer any more."""
        super().run()
        if self.conversations is not None:
            self.conversations.finish(self.scheduler.cache.unkept(), FINISH_TIME)

    def _wait(self) -> None:
        """Until there is work; after a moment without any, what is nowhere but here is put away, if it is much."""
        keeper = self.conversations
        due = [] if keeper is None else [slot for slot in self.scheduler.cache.unkept() if keeper.is_due_at_rest(slot)]
        if not self._wake.wait(REST_BEFORE_KEEPING if due else None) and keeper is not None:
            keeper.rest(due)

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
        started = self.clock()
        code = self._decode(slices)
        if code == NO_ROOM and self.scheduler.give_way():
            return True
        if code != 0:
            self._fail_step(slices, code)
            return True
        prompts = [part.count for part in slices if part.sequence.is_prefilling]
        forced = sum(part.count - 1 for part in slices if not part.sequence.is_prefilling)
        for part in slices:
            self.scheduler.computed(part)
        self._tell([part for part in slices if part.sequence.is_scoring])
        self._active_at = self.clock()
        step_ms = (self._active_at - started) * 1e3
        self._go_on([part.sequence for part in slices if part.sequence.n_left == 0 and part.sequence.slot is not None])
        # Booked after the tokens are out: whoever reads them works while this thread does.
        self._counts["steps"] += 1
        self._counts["prompt"] += sum(prompts)
        self.scheduler.slice_size = self.governor.observe(step_ms, sum(prompts) + forced, len(slices) - len(prompts))
        return True

    def _accept(self, sequences: list[Sequence]) -> None:
        self._counts["requests"] += 1
        self.scheduler.submit(sequences)

    def _cancel(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            if sequence.slot is not None or sequence in self.scheduler.waiting:
                self._counts["cancelled"] += 1
                self.scheduler.finish(sequence)

    def _decode(self, slices: list[Slice]) -> int:
        batch = self.context.batch
        batch.clear()
        for part in slices:
            sequence = part.sequence
            if sequence.slot is None:
                raise RuntimeError("a sequence without a slot in a step")
            sequence.row = batch.add(sequence.tokens, sequence.n_computed, part.count, sequence.slot, part.outputs)
        return self.context.decode()

    # --- prompts that are told ----------------------------------------------------------------------------------

    def _tell(self, parts: list[Slice]) -> None:
        """Each prompt's tokens that this step's rows predict, with their log-probabilities."""
        for part in parts:
            sequence = part.sequence
            try:
                tell_prompt_part(self.context, sequence)
            except Exception:
                log.exception("a prompt could not be scored: %s", sequence.as_extra())
                self._fail(sequence, failed_here())

    # --- tokens to text -----------------------------------------------------------------------------------------

    def _go_on(self, sequences: list[Sequence]) -> None:
        """The next token of each; those that only wanted their prompt told, or have nothing left to say, are done."""
        self.constraining.wait(sequences)
        for sequence in sequences:
            guide = sequence.guide
            is_complete = guide is not None and guide.is_complete
            if guide is not None and guide.error is not None:
                self._fail(sequence, constraint_failed(guide.error), keep=True)
            elif is_complete or sequence.is_exhausted():
                sequence.last_token = self.clock()
                sequence.first_token = sequence.first_token or sequence.last_token
                self._finish(sequence, FinishReason.STOP if is_complete else FinishReason.LENGTH)
        self._sample([sequence for sequence in sequences if sequence.slot is not None])

    def _sample(self, sequences: list[Sequence]) -> None:
        masks = [None if s.guide is None else s.guide.mask for s in sequences]
        drawn = self.context.sample([s.row for s in sequences], [s.sampler for s in sequences], masks)
        taken = self.constraining.take(sequences, drawn)
        now = self.clock()
        for sequence, token, tokens in zip(sequences, drawn, taken, strict=True):
            if token < 0:
                self._fail(sequence, EngineError("no token is allowed here: the model's logits leave nothing to draw"))
                continue
            if not tokens:
                self._fail(sequence, failed_here())
                continue
            sequence.first_token = sequence.first_token or now
            sequence.last_token = now
            try:
                self._go_on_with(sequence, token, tokens)
            except Exception:
                log.exception("a sequence could not be continued: %s", sequence.as_extra())
                self._fail(sequence, failed_here())

    def _go_on_with(self, sequence: Sequence, drawn: int, tokens: list[int]) -> None:
        """The text of the tokens that came of the one that was drawn, until a stop string ends it."""
        first = tokens[0]
        sequence.n_forced = len(tokens) - 1
        if self.context.is_eog(first):
            self._append(sequence, first)
            if sequence.tells_end:
                sequence.sink.chunk(sequence.index, "", (token_logprob(self.context, sequence, first),))
            self._finish(sequence, FinishReason.STOP)
            return
        logprobs = (self._logprob(sequence, drawn, first),) if sequence.wants_logprobs else ()
        text = ""
        for place, token in enumerate(tokens):
            if sequence.text.stopped:
                break
            if place or token != drawn:
                sequence.sampler.accept(token)
            self._append(sequence, token)
            self._counts["forced"] += place > 0
            text += sequence.text.push(token)
        if text or logprobs:
            sequence.sink.chunk(sequence.index, text, logprobs)
        self._end_if_over(sequence)

    def _logprob(self, sequence: Sequence, drawn: int, token: int) -> TokenLogprob:
        """Of the token drawn, or of the one that stands for it."""
        score = token_logprob if token == drawn else logprob_of
        return score(self.context, sequence, token)

    def _append(self, sequence: Sequence, token: int) -> None:
        sequence.tokens.append(token)
        self._counts["generated"] += 1

    def _end_if_over(self, sequence: Sequence) -> None:
        """Behind a token that went on with the answer."""
        guide = sequence.guide
        if sequence.text.stopped:
            self._finish(sequence, FinishReason.STOP)
        elif guide is not None and guide.error is not None:
            self._fail(sequence, constraint_failed(guide.error), keep=True)
        elif guide is not None and guide.is_complete:
            self._finish(sequence, FinishReason.STOP)
        elif sequence.is_exhausted() or len(sequence.tokens) >= self.capacity:
            self._finish(sequence, FinishReason.LENGTH)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        rest = sequence.text.finish()
        if rest:
            sequence.sink.chunk(sequence.index, rest, ())
        self.scheduler.finish(sequence)
        sequence.sink.finished(sequence, reason)

    # --- failing ------------------------------------------------------------------------------------------------

    def _fail(self, sequence: Sequence, error: JanflaskError, *, keep: bool = False) -> None:
        """``keep``: what is computed of it is right, so whoever asks again goes on from there."""
        self.scheduler.finish(sequence, keep=keep)
        sequence.sink.failed(sequence, error)

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
            self._fail(part.sequence, error)

    def _end(self, error: JanflaskError) -> None:
        for sequence in [*self.scheduler.running, *self.scheduler.waiting]:
            self._fail(sequence, error, keep=True)


def failed_here() -> EngineError:
    """A fault of our own that spoils one request."""
    return EngineError("the engine failed on this request; its log says why")


def constraint_failed(reason: str) -> EngineError:
    """An answer that cannot be gone on with as it was asked for; it is no answer."""
    return EngineError(
        f"the answer could not be kept to its constraint ({reason}): make the schema or the grammar simpler",
        code="constraint_failed",
    )
