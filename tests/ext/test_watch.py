"""Answers of the starter model that are read along: valid calls, thoughts that end, free text left free."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from janflask.engine.constraint import Compiled, Compiler
from janflask.engine.guides import Guides
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.generation import FinishReason, GenerateRequest, Watch
from janflask.models.sampling import SamplingParams
from janflask.parsing.calls import GENERIC
from janflask.parsing.rules import AnswerRules, Reasoning
from tests.ext.real_loop import Collector, Engine
from tests.ext.test_constraint import compiled, compiler, engine, model  # noqa: F401

pytestmark = pytest.mark.model

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"enum": [1, 2, 3]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
ARGUMENTS = json.dumps({**SCHEMA, "x-guidance": {"whitespace_flexible": False}})
CALLS = Constraint(
    kind=ConstraintKind.GRAMMAR,
    text=f'start: "<tool_call>" call "</tool_call>" | call\n'
    f'call: "\\n"? "{{\\"name\\": \\"get_weather\\", \\"arguments\\": " args "}}" "\\n"?\nargs: %json {ARGUMENTS}',
)
TOOLS = ("get_weather",)
RULES = AnswerRules(calls=GENERIC)
THINKS = AnswerRules(Reasoning("<think>", "</think>", "<think>\n", "\n</think>\n\n"))
PROMPT = "<|im_start|>user\nWhat is the weather in Oslo?<|im_end|>\n<|im_start|>assistant\n"


def ask(engine: Engine, compiler: Compiler, watch: Watch | None, max_tokens: int = 60, begun: str = "", **how: Any):  # noqa: F811
    request = GenerateRequest(prompt="", watch=watch)
    wanted = [] if watch is None else [c for c in (watch.calls, watch.answer) if c is not None]
    sources: dict[Constraint, Compiled] = {constraint: compiled(compiler, constraint) for constraint in wanted}
    tokens = engine.model.tokenize(PROMPT + begun, add_special=True, parse_special=True)
    params = SamplingParams(**{"temperature": 0.0, **how.pop("sampling", {})})
    return engine.ask(tokens, max_tokens, params, guide=Guides(engine.model).make(request, sources), **how)


def answer(engine: Engine, *args: Any, **how: Any) -> Collector:  # noqa: F811
    _, sink = ask(engine, *args, **how)
    engine.drain()
    assert not sink.errors, sink.errors
    return sink


def call_of(text: str) -> dict[str, Any]:
    return json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))


BEGUN = ("<tool_call>", "Let me see: <tool_call>", '{"name": "get_weather", "arguments": {', "<tool_call")


@pytest.mark.parametrize("begun", BEGUN)
def test_a_call_that_begins_is_valid_whatever_is_drawn(engine: Engine, compiler: Compiler, begun: str) -> None:  # noqa: F811
    watch = Watch(rules=RULES, begun=begun, tools=TOOLS, calls=CALLS)
    rng = random.Random(2)
    asked = []
    for seed in range(24):
        how = {"temperature": rng.uniform(0.5, 2.0), "top_k": 0, "top_logprobs": 1 if seed % 3 == 0 else None}
        if begun.endswith("call"):  # the marker's end is the model's own
            how["logit_bias"] = ((engine.model.pieces.index(b">"), 50.0),)
        asked.append(ask(engine, compiler, watch, 80, begun, sampling=how, seed=seed)[1])
    engine.drain()
    for sink in asked:
        assert not sink.errors
        said = begun + sink.text
        assert sink.reason is FinishReason.STOP
        call = call_of(said[max(said.find("<tool_call>"), 0) :])
        assert call["name"] == "get_weather"
        assert set(call["arguments"]) == {"city", "days"}
        assert call["arguments"]["days"] in (1, 2, 3)


def test_greedy_text_without_a_call_is_what_it_is_without_a_watch(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    watch = Watch(rules=RULES, tools=TOOLS, calls=CALLS)
    for max_tokens in (5, 60):
        free, watched = (answer(engine, compiler, w, max_tokens) for w in (None, watch))
        assert (watched.text, watched.reason) == (free.text, free.reason)
        assert watched.text


@pytest.mark.parametrize("top_logprobs", [None, 2])
def test_thoughts_end_after_their_tokens_and_the_form_follows(
    engine: Engine,  # noqa: F811
    compiler: Compiler,  # noqa: F811
    top_logprobs: int | None,
) -> None:
    form = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=json.dumps(SCHEMA))
    watch = Watch(rules=THINKS, prompt_end="<think>\n", answer=form, thought_tokens=10)
    how = {"temperature": 1.0, "top_logprobs": top_logprobs}
    sequence, sink = ask(engine, compiler, watch, 100, "<think>\n", sampling=how)
    engine.drain()
    thought, _, said = sink.text.partition("</think>")
    assert set(json.loads(said)) == {"city", "days"}
    assert said.startswith("\n\n{")
    assert len(engine.model.tokenize(thought, add_special=False, parse_special=False)) <= 12
    if top_logprobs:
        assert len(sink.logprobs) == sequence.n_generated


def test_an_answer_under_a_form_may_think_first(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    """The model does not know these markers: it chooses to, where it is told to often enough."""
    form = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=json.dumps(SCHEMA))
    watch = Watch(rules=THINKS, answer=form, thought_tokens=10)
    said = set()
    for bias in (-100.0, 100.0):
        (first, *_) = engine.model.tokenize("<think>\n", add_special=False, parse_special=True)
        how = {"temperature": 1.0, "logit_bias": ((first, bias),)}
        text = answer(engine, compiler, watch, 100, sampling=how).text
        said.add(text.startswith("<think>\n"))
        assert set(json.loads(text.partition("</think>")[2] or text)) == {"city", "days"}
    assert said == {True, False}


def test_a_stop_string_and_a_limit_end_a_call_as_anything(engine: Engine, compiler: Compiler) -> None:  # noqa: F811
    watch = Watch(rules=RULES, begun="<tool_call>", tools=TOOLS, calls=CALLS)
    cut = answer(engine, compiler, watch, 3, "<tool_call>")
    assert cut.reason is FinishReason.LENGTH
    stopped = answer(engine, compiler, watch, 60, "<tool_call>", stop=('"arguments"',))
    assert (stopped.reason, stopped.text.strip()) == (FinishReason.STOP, '{"name": "get_weather",')
