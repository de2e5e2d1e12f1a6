"""A loop over the fake context, and a sink that collects."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest

from janflask.engine.draft import Draft
from janflask.engine.echo import PromptEcho
from janflask.engine.loop import Loop
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.sequence import Sequence, tell_prompt
from janflask.engine.slices import Limits
from janflask.engine.snapshots import Snapshots
from janflask.errors import JanflaskError
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.deltas import TokenLogprob
from tests.fakes.fake_context import FakeContext, FakeSampler, FakeText, Model, next_token


@dataclass
class Collector:
    """A sink: texts by choice, reasons, errors."""

    texts: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, FinishReason] = field(default_factory=dict)
    errors: list[JanflaskError] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    told: list[TokenLogprob] = field(default_factory=list)  # of the prompt
    echoed: str = ""
    told_in_time: bool = True  # no choice said anything before its prompt was told

    def chunk(self, index: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.texts[index] = self.texts.get(index, "") + text
        self.logprobs.extend(logprobs)

    def echo(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.told_in_time = self.told_in_time and not self.texts
        self.echoed += text
        self.told.extend(logprobs)

    def finished(self, sequence: Sequence, reason: FinishReason) -> None:
        self.reasons[sequence.index] = reason

    def failed(self, sequence: Sequence, error: JanflaskError) -> None:
        self.errors.append(error)


@dataclass
class Bench:
    """A loop with its parts in reach."""

    context: FakeContext
    loop: Loop

    def sequence(
        self,
        prompt: bytes,
        *,
        max_tokens: int | None = 20,
        seed: int = 0,
        index: int = 0,
        sink: Collector | None = None,
        stop: tuple[str, ...] = (),
        cache_prompt: bool = True,
        wants_logprobs: bool = False,
        owner: str | None = None,
        conversation: str | None = None,
        is_lasting: bool | None = None,
        echo: bool = False,
        is_random: bool = False,
        prediction: bytes = b"",
    ) -> tuple[Sequence, Collector]:
        sink = sink or Collector()
        sequence = Sequence(
            tokens=array("i", list(prompt)),
            n_prompt=len(prompt),
            index=index,
            max_tokens=max_tokens,
            sampler=FakeSampler(seed, is_random=is_random),
            text=FakeText(stop),
            sink=sink,
            cache_prompt=cache_prompt,
            wants_logprobs=wants_logprobs,
            owner=owner,
            conversation=conversation,
            is_lasting=conversation is not None if is_lasting is None else is_lasting,
            draft=Draft(array("i", list(prompt)), array("i", list(prediction))),
        )
        if echo:
            tell_prompt([sequence], PromptEcho(prompt.decode(), sequence.tokens[:], self.context.vocab.piece))
        return sequence, sink

    def ask(self, prompt: bytes, **options: object) -> tuple[Sequence, Collector]:
        sequence, sink = self.sequence(prompt, **options)
        self.loop.submit([sequence])
        return sequence, sink

    def drain(self, most: int = 5000) -> None:
        for _ in range(most):
            if not self.loop.step():
                return
        raise AssertionError("the loop does not come to an end")


@pytest.fixture
def make_bench():
    def make(
        *,
        slots: int = 4,
        ctx_len: int = 256,
        kv_cells: int | None = None,
        chunk: int = 64,
        slice_size: int = 16,
        enabled: bool = True,
        can_trim: bool = True,
        min_copy: int = 1,
        scored_rows: int = 64,
        snapshots: Snapshots | None = None,
        state_bytes: int = 0,
        drafts: int = 0,
        model: Model = next_token,
    ) -> Bench:
        context = FakeContext(
            slots=slots, ctx_len=ctx_len, kv_cells=kv_cells, capacity=chunk + slots, can_trim=can_trim, model=model
        )
        cache = PrefixCache(slots, enabled=enabled, can_trim=can_trim, min_copy=min_copy)
        limits = Limits(
            kv_cells=kv_cells or slots * ctx_len,
            shared_cells=kv_cells is not None,
            chunk_size=chunk,
            slice_size=slice_size,
            scored_rows=scored_rows,
        )
        loop = Loop(context, cache, limits, snapshots=snapshots, state_bytes=state_bytes, longest_draft=drafts)
        return Bench(context, loop)

    return make
