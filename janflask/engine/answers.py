"""What becomes of the answers in a step: their next tokens drawn, made text and told, until each ends or fails.

How the rows came to be that they are drawn from is the loop's matter: ``loop.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from janflask.engine.constraining import Constraining
from janflask.engine.latencies import Latencies
from janflask.engine.scheduler import Scheduler
from janflask.engine.sequence import Sampler, Sequence
from janflask.engine.telling import Scorer, logprob_of, tell_prompt_part, token_logprob
from janflask.errors import EngineError, JanflaskError
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.deltas import TokenLogprob

log = logging.getLogger(__name__)


class Rows(Scorer, Protocol):
    """The logits of the decode before."""

    def sample(self, rows: list[int], samplers: list[Sampler], masks: list[Any] | None = None) -> list[int]: ...


class Answers:
    """Used by the loop's thread alone.

    Args:
        context: the model.
        scheduler: of the sequences; those that are over leave it.
        constraining: says what may be drawn.
        capacity: tokens of one sequence.
        clock: seconds.
    """

    def __init__(
        self,
        context: Rows,
        scheduler: Scheduler,
        constraining: Constraining,
        capacity: int,
        clock: Callable[[], float],
    ) -> None:
        self.context = context
        self.clock = clock
        self.latencies = Latencies()
        self.generated = 0  # tokens since the start, as is the next
        self.forced = 0
        self.abandoned = 0  # sequences
        self._scheduler = scheduler
        self._constraining = constraining
        self._capacity = capacity

    def tell_prompts(self, sequences: Iterable[Sequence]) -> None:
        """Each prompt's tokens that this step's rows predict, with their log-probabilities."""
        for sequence in sequences:
            try:
                tell_prompt_part(self.context, sequence)
            except Exception:
                _log_fault("a prompt could not be scored", sequence)
                self.fail(sequence, failed_here())

    def unless_over(self, sequences: list[Sequence]) -> list[Sequence]:
        """Those that go on; others only wanted their prompt told, or have nothing left to say, and are done."""
        self._constraining.wait(sequences)
        for sequence in sequences:
            guide = sequence.guide
            is_complete = guide is not None and guide.is_complete
            if guide is not None and guide.error is not None:
                self.fail(sequence, constraint_failed(guide.error), keep=True)
            elif is_complete or sequence.is_exhausted():
                sequence.last_token = self.clock()
                sequence.first_token = sequence.first_token or sequence.last_token
                self._finish(sequence, FinishReason.STOP if is_complete else FinishReason.LENGTH)
        return [sequence for sequence in sequences if sequence.slot is not None]

    def draw(self, sequences: list[Sequence]) -> None:
        """The next token of each, from its row, and what is forced behind it; told."""
        masks = [None if s.guide is None else s.guide.mask for s in sequences]
        drawn = self.context.sample([s.row for s in sequences], [s.sampler for s in sequences], masks)
        taken = self._constraining.take(sequences, drawn)
        now = self.clock()
        for sequence, token, tokens in zip(sequences, drawn, taken, strict=True):
            if token < 0:
                self.fail(sequence, EngineError("no token is allowed here: the model's logits leave nothing to draw"))
                continue
            if not tokens:
                self.fail(sequence, failed_here())
                continue
            if sequence.last_token is None:
                sequence.first_token = now
            else:
                self.latencies.gap(now - sequence.last_token)
            sequence.last_token = now
            try:
                self._go_on_with(sequence, token, tokens)
            except Exception:
                _log_fault("a sequence could not be continued", sequence)
                self.fail(sequence, failed_here())

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
            self.forced += place > 0
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
        sequence.draft.follow(token)
        self.generated += 1

    def _end_if_over(self, sequence: Sequence) -> None:
        """Behind a token that went on with the answer."""
        guide = sequence.guide
        if sequence.text.stopped:
            self._finish(sequence, FinishReason.STOP)
        elif guide is not None and guide.error is not None:
            self.fail(sequence, constraint_failed(guide.error), keep=True)
        elif guide is not None and guide.is_complete:
            self._finish(sequence, FinishReason.STOP)
        elif sequence.is_exhausted() or len(sequence.tokens) >= self._capacity:
            self._finish(sequence, FinishReason.LENGTH)

    # --- ends ---------------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        rest = sequence.text.finish()
        if rest:
            sequence.sink.chunk(sequence.index, rest, ())
        self._scheduler.finish(sequence)
        self.latencies.answered(sequence, reason)
        if log.isEnabledFor(logging.DEBUG):
            about = sequence.as_extra()
            log.debug("an answer ended: %s %s", reason, about, extra={"fields": about | {"reason": reason}})
        sequence.sink.finished(sequence, reason)

    def abandon(self, sequence: Sequence) -> None:
        """Ends one that nobody waits for any more, without a word."""
        self.abandoned += 1
        self.latencies.ended("abort")
        self._scheduler.finish(sequence)

    def fail(self, sequence: Sequence, error: JanflaskError, *, keep: bool = False) -> None:
        """Ends one with an error. ``keep``: what is computed is right, so whoever asks again goes on from there."""
        self._scheduler.finish(sequence, keep=keep)
        self.latencies.ended("error")
        sequence.sink.failed(sequence, error)


def _log_fault(what: str, sequence: Sequence) -> None:
    about = sequence.as_extra()
    log.exception("%s: %s", what, about, extra={"fields": about})


def failed_here() -> EngineError:
    """A fault of our own that spoils one request."""
    return EngineError("the engine failed on this request; its log says why")


def constraint_failed(reason: str) -> EngineError:
    """An answer that cannot be gone on with as it was asked for; it is no answer."""
    return EngineError(
        f"the answer could not be kept to its constraint ({reason}): make the schema or the grammar simpler",
        code="constraint_failed",
    )
