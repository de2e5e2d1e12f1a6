"""Calls of the starter model, which knows of none, under grammars: all of them valid, in every notation."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from janflask.engine.constraint import Compiled, Compiler, make_table
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.errors import JanflaskError
from janflask.inference.calls.grammar import of_calls
from janflask.inference.requests import Tool
from janflask.ipc.messages.constraint import Constraint
from janflask.ipc.messages.generation import FinishReason
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from tests.ext.real_loop import Engine, options
from tests.ext.schemas import closed
from tests.unit.inference.test_call_grammar import RULES, check

pytestmark = pytest.mark.model
PROMPT = "<|im_start|>user\nTurn the lights on, at noon, in every room.<|im_end|>\n<|im_start|>assistant\n"
MODE = {"type": "string", "enum": ["warm", "cold"]}
TOOLS = (
    Tool(
        "lights", None, closed({"room": {"type": "string", "maxLength": 12}, "on": {"type": "boolean"}, "mode": MODE})
    ),
    Tool("clock", None, {"type": "object", "properties": {}}),
)
LIMIT = 60.0  # seconds that a compilation may take on a slow machine, the table's included
_KEPT: list[LibraryLog] = []


@pytest.fixture(scope="module")
def model(starter_gguf: Path) -> Model:
    _KEPT.append(LibraryLog())
    return Model(starter_gguf, EngineSettings(), _KEPT[0], lambda fraction: None)


def compiled(compiler: Compiler, constraint: Constraint) -> Compiled:
    results: list[Compiled | JanflaskError] = []
    came = threading.Event()
    compiler.compile(constraint, lambda result: (results.append(result), came.set()))
    assert came.wait(LIMIT)
    if isinstance(results[0], JanflaskError):
        raise results[0]
    return results[0]


def test_every_finished_call_is_valid(model: Model) -> None:
    compiler = Compiler(lambda: make_table(model), model.n_vocab)
    compiler.start()
    engine = Engine(model, options(n_seq=16, kv_cells=16 * 256, ctx_len=256))
    draw, asked = random.Random(7), []
    prompt = model.tokenize(PROMPT, add_special=True, parse_special=True)
    for family, rules in RULES.items():
        constraint = compiled(compiler, of_calls(rules, TOOLS, parallel=draw.random() < 0.5))
        for temperature in (0.0, 1.0, 2.0):
            params = SamplingParams(temperature=temperature, top_k=40)
            _, sink = engine.ask(prompt, 120, params, constraint=constraint, seed=draw.getrandbits(60))
            asked.append((family, rules, sink))
    engine.drain()
    finished = set()
    for family, rules, sink in asked:
        assert not sink.errors
        if sink.reason is FinishReason.STOP:
            assert check(rules, TOOLS, sink.text)
            finished.add(family)
    assert len(finished) > len(RULES) / 2, finished
