"""One continuation being generated: its tokens, how far they are computed, and what it still may do."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, Protocol

from janflask.engine.draft import Draft
from janflask.engine.echo import PromptEcho
from janflask.engine.guide import Guide
from janflask.engine.slot import Origin
from janflask.engine.snapshots import Snapshot
from janflask.errors import JanflaskError
from janflask.ipc.messages.generation import FinishReason
from janflask.models.engine_info import OpenAnswer
from janflask.parsing.deltas import TokenLogprob


class Sampler(Protocol):
    """Chooses tokens; the extension's, or a test's."""

    def accept(self, token: int) -> None: ...
    def logprobs(self) -> tuple[float, list[tuple[int, float]]]: ...


class TextStream(Protocol):
    """Turns tokens into text that may be shown; the extension's, or a test's."""

    @property
    def stopped(self) -> bool: ...
    @property
    def stop(self) -> str | None: ...
    @property
    def held(self) -> bytes: ...
    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class Sink(Protocol):
    """Where a sequence's output goes. Called from the loop's thread; must not block."""

    def chunk(self, index: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None: ...
    def echo(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None: ...
    def finished(self, sequence: Sequence, reason: FinishReason) -> None: ...
    def failed(self, sequence: Sequence, error: JanflaskError) -> None: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and what was generated after it.

    ``tokens`` holds both; the first ``n_computed`` of them are in the KV memory of ``slot``. While ``n_computed`` lags
    behind by more than the last step brought the sequence is in prefill, else in decode. After a preemption the
    generated tokens are computed again like a prompt.
    """

    tokens: array[int]
    n_prompt: int
    index: int  # which of the request's n choices
    max_tokens: int | None
    sampler: Sampler
    text: TextStream
    sink: Sink
    cache_prompt: bool = True
    wants_logprobs: bool = False
    owner: str | None = None  # who shares computed beginnings with it; see ``GenerateRequest``
    conversation: str | None = None  # which one it goes on with
    is_lasting: bool = False  # its KV state outlives its slot
    echo: PromptEcho | None = None  # its prompt is told with log-probabilities, and computed whole for that
    waits_for: Sequence | None = None  # the choice that tells the prompt, which comes before what the others say
    guide: Guide | None = None  # what its answer is held to, and what has to be seen in it
    draft: Draft = field(default_factory=Draft)  # what it is guessed to say next
    tells_end: bool = False  # a token that ends the answer is told, too: who counts tokens behind a prompt's needs it

    request_id: str | None = None  # of who asked for it, for the logs
    slot: int | None = None
    n_computed: int = 0
    n_cached: int = 0  # prompt tokens taken from the prefix cache at first admission
    went_on: bool = False  # what it took from the cache had been generated, in part: a conversation goes on
    preempted: bool = False
    recalling: bool = False  # a state that saves computing is being read from the disk
    recalled: bool = False  # the disk has been asked, once is enough
    snapshot: Snapshot | None = None  # the state that was read
    n_forced: int = 0  # newest tokens that were not drawn: they came with the last one that was
    bounds: list[int] = field(default_factory=list)  # lengths at which a slice ends, for a checkpoint; ascending
    row: int = -1  # the batch row of its logits in the step under way

    arrived: float = 0.0  # clock readings, seconds
    admitted: float | None = None
    first_token: float | None = None
    last_token: float | None = None

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def n_left(self) -> int:
        """Tokens that are not computed yet; while it decodes, the newest that was drawn and those forced behind it."""
        return len(self.tokens) - self.n_computed

    @property
    def n_to_bound(self) -> int:
        """Tokens that a slice may have: up to where a checkpoint is to be taken, or all that are left."""
        return min(self.n_left, self.bounds[0] - self.n_computed) if self.bounds else self.n_left

    @property
    def is_prefilling(self) -> bool:
        """There is more to compute than the last step has brought."""
        return self.n_left > 1 + self.n_forced

    @property
    def is_scoring(self) -> bool:
        """Prompt tokens are left whose log-probabilities were not told."""
        return self.echo is not None and not self.echo.is_done

    @property
    def origin(self) -> Origin:
        """Whose the tokens are that it leaves in its slot."""
        return Origin(self.n_prompt, self.conversation, self.is_lasting, self.went_on)

    def is_exhausted(self) -> bool:
        return self.max_tokens is not None and self.n_generated >= self.max_tokens

    def told(self, now: float) -> OpenAnswer:
        """For who wants to know what the engine does; each number is right, together they may be one step apart."""
        first, last = self.first_token, self.last_token
        seconds = last - first if first is not None and last is not None else 0.0
        is_in_prompt = first is None or self.is_prefilling
        return OpenAnswer(
            request_id=self.request_id,
            conversation=self.conversation,
            state="waiting" if self.slot is None else "prompt" if is_in_prompt else "answering",
            age_seconds=max(0.0, now - self.arrived),
            prompt_tokens=self.n_prompt,
            cached_tokens=self.n_cached,
            computed_tokens=max(0, min(self.n_computed, self.n_prompt) - self.n_cached),
            answer_tokens=self.n_generated,
            tokens_per_second=(self.n_generated - 1) / seconds if seconds > 0 else 0.0,
        )

    def as_extra(self) -> dict[str, Any]:
        """For a log line."""
        counts = {"slot": self.slot, "prompt": self.n_prompt, "generated": self.n_generated}
        return {"request_id": self.request_id, **counts, "computed": self.n_computed}


def tell_prompt(choices: list[Sequence], echo: PromptEcho) -> None:
    """Makes the first of a request's choices compute and tell all of the prompt; the others come after it."""
    first, *others = choices
    first.echo = echo
    first.cache_prompt = False
    for other in others:
        other.waits_for = first
    for choice in choices:
        choice.tells_end = True
