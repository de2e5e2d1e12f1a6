"""A loop over a real llama.cpp, driven by the test's own thread."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from janflask.engine.builder import build_loop
from janflask.engine.constraint import Compiled
from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.draft import Draft
from janflask.engine.guide import Guide, Held
from janflask.engine.model import Model
from janflask.engine.plan import ContextPlan
from janflask.engine.sequence import Sequence
from janflask.engine.snapshots import Snapshots
from janflask.errors import JanflaskError
from janflask.ipc.messages.generation import FinishReason
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from janflask.parsing.deltas import TokenLogprob

GREEDY = SamplingParams(temperature=0.0)


def options(**changes: object) -> ContextOptions:
    fixed = {"ctx_len": 512, "n_seq": 3, "kv_cells": 1536, "kv_unified": False, "cpu_threads": 1, "batch_size": 64}
    return ContextOptions(**{"flash_attn": False, **fixed, **changes})


@dataclass
class Collector:
    """A sink for one choice."""

    text: str = ""
    reason: FinishReason | None = None
    errors: list[JanflaskError] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def chunk(self, index: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.text += text
        self.logprobs.extend(logprobs)

    def finished(self, sequence: Sequence, reason: FinishReason) -> None:
        self.reason = reason

    def failed(self, sequence: Sequence, error: JanflaskError) -> None:
        self.errors.append(error)


class Engine:
    """``loop`` with what it stands on."""

    def __init__(
        self,
        model: Model,
        made_with: ContextOptions | None = None,
        snapshots: Snapshots | None = None,
        *,
        settings: EngineSettings | None = None,
        state_bytes: int = 0,
    ) -> None:
        self.model = model
        self.options = made_with or options()
        self.context = LlamaContext(model, self.options)
        knobs = Knobs(
            flash_attn=self.options.flash_attn,
            kv_unified=self.options.kv_unified,
            slice_size=32,
            cpu_threads=1,
            source="pinned",
        )
        plan = ContextPlan(self.options, knobs, 1, ())
        self.loop = build_loop(self.context, plan, settings or EngineSettings(), snapshots, state_bytes)

    def ask(
        self,
        prompt: str | array[int],
        max_tokens: int,
        params: SamplingParams = GREEDY,
        *,
        cache: bool = True,
        conversation: str | None = None,
        constraint: Compiled | None = None,
        guide: Guide | None = None,
        seed: int = 0,
        stop: tuple[str, ...] = (),
        prediction: array[int] | None = None,
    ) -> tuple[Sequence, Collector]:
        """Queues a prompt."""
        if isinstance(prompt, str):
            prompt = self.model.tokenize(prompt, add_special=True, parse_special=False)
        sink = Collector()
        sequence = Sequence(
            tokens=array("i", prompt),
            n_prompt=len(prompt),
            index=0,
            max_tokens=max_tokens,
            sampler=self.model.make_sampler(params, seed, prompt, self.options.ctx_len),
            text=self.model.make_text(stop),
            sink=sink,
            cache_prompt=cache,
            conversation=conversation,
            is_lasting=conversation is not None,
            wants_logprobs=params.top_logprobs is not None,
            guide=guide if constraint is None else Held(constraint.matcher()),
            draft=Draft(prompt, prediction),
        )
        self.loop.submit([sequence])
        return sequence, sink

    def drain(self) -> None:
        """Until all is answered, prompts among it whose states are looked for on the disk."""
        while self.loop.step() or any(sequence.recalling for sequence in self.loop.scheduler.waiting):
            pass

    def keep_states(self, seconds: float) -> None:
        """As when it ends: what its slots hold is on the disk."""
        assert self.loop.conversations is not None
        self.loop.conversations.finish(self.loop.scheduler.cache.unkept(), seconds)

    def answer(
        self, prompt: str | array[int], max_tokens: int, params: SamplingParams = GREEDY, **how: object
    ) -> tuple[str, str]:
        """A prompt's answer, and why it ended."""
        _, sink = self.ask(prompt, max_tokens, params, **how)
        self.drain()
        assert not sink.errors, sink.errors
        assert sink.reason is not None
        return sink.text, sink.reason.value
