"""Drafts on the starter model: an answer is the same with them, and takes fewer decodes.

A row of it has the same bits alone and among others, by our hooks in ggml's library (docs/speculation.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from janflask.engine.constraint import Compiler, make_table
from janflask.engine.drafting import Drafting
from janflask.engine.exact_rows import ExactRows
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.inference.forms.constrained import Constrained, of_schema
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from tests.ext.real_loop import GREEDY, Collector, Engine, options
from tests.ext.test_constraint import compiled

SIZE = {"ctx_len": 512, "n_seq": 8, "kv_cells": 8 * 512}
LIST = "".join(f"- item {number}: the {word} is on shelf {number}\n" for number, word in enumerate(["cup", "pen"] * 5))
COPY = f"<|im_start|>user\nRepeat this list:\n{LIST}<|im_end|>\n<|im_start|>assistant\n- item 0: the"
PROMPTS = [COPY, "1 2 3 4 5 6 1 2 3 4 5 6 1 2 3", f"{LIST}\n{LIST[:200]}", "The cat sat on the mat. The cat sat on"]
PARAMS = {
    "greedy": GREEDY,
    "seeded": SamplingParams(temperature=1.0, top_k=40),
    "penalties": SamplingParams(temperature=0.5, repeat_penalty=1.05, frequency_penalty=0.1, dry_multiplier=0.2),
    "mirostat": SamplingParams(mirostat=2, mirostat_tau=3.0),
    "logprobs": SamplingParams(temperature=0.7, top_logprobs=2),
    "biased": SamplingParams(temperature=0.0, logit_bias=((30, -100.0), (216, 2.0))),
}
_KEPT: list[LibraryLog] = []  # llama.cpp logs to it as long as it lives


class Cheap:
    """Costs by which a draft pays whenever it may come true."""

    def of(self, tokens: int) -> float | None:
        return 10.0 + 0.1 * tokens

    def observe(self, tokens: int, ms: float) -> None:
        pass


@pytest.fixture(scope="module")
def model(starter_gguf: Path) -> Model:
    _KEPT.append(LibraryLog())
    return Model(starter_gguf, EngineSettings(), _KEPT[0], lambda fraction: None)


@pytest.fixture(scope="module")
def exact_rows(model: Model) -> int:
    """As the engine finds it at rest."""
    engine = Engine(model, options(**SIZE))
    (chore,) = (chore for chore in engine.loop.chores if isinstance(chore, ExactRows))
    assert engine.loop.drafting.exact is not None
    assert engine.loop.drafting.exact() == 1
    while chore.due(0.0) is not None:
        chore.piece()
    engine.context.close()
    return engine.loop.drafting.exact()


@pytest.fixture
def engines(model: Model, exact_rows: int, request: pytest.FixtureRequest):
    """Without drafts, and with them; a test can ask for a unified cache."""
    unified = getattr(request, "param", False)
    made = [Engine(model, options(**SIZE, kv_unified=unified)) for _ in range(2)]
    for engine, most in zip(made, (0, 16), strict=True):
        loop = engine.loop
        loop.drafting = Drafting(loop.scheduler, Cheap(), most, loop.capacity)
        loop.drafting.exact = lambda: exact_rows
    yield made
    for engine in made:
        engine.context.close()


def told(sink: Collector) -> tuple[object, ...]:
    assert not sink.errors
    return sink.text, sink.reason, tuple(sink.logprobs)


def check_books(engine: Engine) -> None:
    """The memory holds what the books say."""
    for slot in engine.loop.scheduler.cache.slots:
        assert engine.context.positions(slot.id)[1] == len(slot.tokens) - 1


@pytest.mark.parametrize("engines", [False, True], ids=["streams", "unified"], indirect=True)
def test_a_row_has_the_same_bits_alone_and_among_others(engines: list[Engine]) -> None:
    """What all tests here stand on."""
    context, model = engines[0].context, engines[0].model
    tokens = model.tokenize(COPY, add_special=True, parse_special=True)

    def rows(start: int, count: int, slot: int) -> list[NDArray[np.float32]]:
        context.batch.clear()
        last = context.batch.add(tokens, start, count, slot, count)
        assert context.decode() == 0
        return [context.logits(last - back) for back in reversed(range(count))]

    rows(0, 64, 0)
    rows(64, 40, 0)
    alone = [rows(104 + number, 1, 0)[0] for number in range(8)]
    for count in (2, 5, 8):
        assert context.trim(0, 104)
        assert all(np.array_equal(*pair) for pair in zip(alone, rows(104, count, 0), strict=False))


@pytest.mark.parametrize("name", PARAMS)
def test_answers_are_the_same_with_drafts(engines: list[Engine], name: str) -> None:
    answers = []
    for engine in engines:
        sinks = [engine.ask(prompt, 40, PARAMS[name], seed=number)[1] for number, prompt in enumerate(PROMPTS)]
        engine.drain()
        check_books(engine)
        answers.append([told(sink) for sink in sinks])
    assert answers[0] == answers[1]
    stats = engines[1].loop.stats()
    assert stats.drafted_tokens > 0
    assert stats.accepted_tokens > 0 or name in ("seeded", "mirostat")


def test_a_copied_list_takes_a_third_of_the_decodes(engines: list[Engine]) -> None:
    steps = []
    for engine in engines:
        before = engine.loop.stats().steps
        engine.answer(COPY, 100)
        steps.append(engine.loop.stats().steps - before)
    assert steps[1] < steps[0] / 3


def test_sixteen_at_once_some_of_which_leave_say_the_same(engines: list[Engine]) -> None:
    answers = []
    for engine in engines:
        asked = [
            engine.ask(PROMPTS[number % 4] + " " * (number // 4), 24, PARAMS["greedy"], seed=number, stop=("shelf 7",))
            for number in range(16)
        ]
        for _ in range(12):
            engine.loop.step()
        engine.loop.cancel([sequence for sequence, _ in asked[1:16:5]])
        engine.drain()
        check_books(engine)
        answers.append([told(sink) for _, sink in asked])
    for before, after in zip(*answers, strict=True):
        if before[1] is None:  # cancelled
            assert after[0].startswith(before[0])
        else:
            assert before == after


def test_answers_under_a_schema_are_the_same_with_drafts(model: Model, engines: list[Engine]) -> None:
    compiler = Compiler(lambda: make_table(model), model.n_vocab)
    compiler.start()
    row = {"type": "object", "properties": {"shelf": {"type": "integer"}, "item": {"enum": ["cup", "pen"]}}}
    row |= {"required": ["shelf", "item"], "additionalProperties": False}
    schema = {"type": "array", "items": row, "minItems": 4, "maxItems": 6}
    constrained: Constrained = of_schema(schema, "schema")
    form = compiled(compiler, constrained)
    answers = []
    for engine in engines:
        sinks = [engine.ask(COPY[:-15], 150, PARAMS[name], constraint=form)[1] for name in ("greedy", "seeded")]
        engine.drain()
        check_books(engine)
        answers.append([told(sink) for sink in sinks])
    assert answers[0] == answers[1]
    stats = engines[1].loop.stats()
    assert stats.forced_tokens > 0
    assert stats.accepted_tokens > 0


def test_a_prediction_that_is_right_is_taken_up_from_its_beginning(engines: list[Engine]) -> None:
    plain, drafting = engines
    prompt = "<|im_start|>user\nWrite a haiku about the sea.<|im_end|>\n<|im_start|>assistant\n"
    answer, _ = plain.answer(prompt, 40)
    prediction = plain.model.tokenize(answer, add_special=False, parse_special=False)
    tokens = plain.model.tokenize(prompt, add_special=True, parse_special=False)
    sequence, sink = drafting.ask(tokens, 40, prediction=prediction)
    drafting.drain()
    assert sink.text == answer
    assert sequence.draft.accepted > 25
