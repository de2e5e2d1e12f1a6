"""The chore of choosing the knobs again: when much was served, at rest, and remembered."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from janflask.engine.figures import ROUNDS, Figure, Figures
from janflask.engine.knob_cache import Memory, recall
from janflask.engine.knowledge import Knowledge
from janflask.engine.loop import Loop
from janflask.engine.retuning import ENOUGH, REST_BEFORE, Reconsidering, Retuning
from janflask.engine.sequence import Sequence
from janflask.engine.served import Served
from janflask.engine.slices import Slice
from janflask.engine.tuning import DEEP, KINDS, SHALLOW, Choices
from janflask.models.engine_info import Knobs
from tests.fakes.fake_context import FakeSampler, FakeText
from tests.unit.engine.conftest import Collector

GUESS = Knobs(flash_attn=True, kv_unified=False, slice_size=64, cpu_threads=2, source="guessed", sure=0.0)
OPEN = Choices(("flash_attn=1", "flash_attn=0"), ("2",), ("64",), deep=True)


class Engine:
    """Takes the knobs that it is given, unless somebody waits for an answer."""

    def __init__(self, kept: int = 0) -> None:
        self.knobs = GUESS
        self.is_busy = False
        self.tokens_kept = kept

    def apply(self, knobs: Knobs) -> bool:
        if not self.is_busy:
            self.knobs = knobs
        return not self.is_busy


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    """Flash attention is twice as quick at the beginning, and takes twice as long behind 1,024 tokens."""
    figures = Figures()
    for place, depth, on in ((SHALLOW, 64, 50.0), (DEEP, 1024, 200.0)):
        for kind in KINDS:
            figures[f"{kind}, {place}"] = Figure(depth, {"flash_attn=0": 100.0, "flash_attn=1": on}, ROUNDS, 1.1)
    return Knowledge(GUESS, OPEN, Memory(figures, Served(8)), tmp_path / "m.json", "mark")


def chore(knowledge: Knowledge, engine: Engine) -> Reconsidering:
    return Reconsidering(knowledge, cast(Retuning, engine), cast(Loop, SimpleNamespace(tokens_kept=engine.tokens_kept)))


def serve(knowledge: Knowledge, depth: int, tokens: int) -> None:
    sequence = Sequence(array("i"), 0, 0, None, FakeSampler(0), FakeText(()), Collector(), n_computed=depth)
    knowledge.served.note([Slice(sequence, tokens)], 1)


def test_it_is_due_at_rest_once_much_was_served(knowledge: Knowledge) -> None:
    reconsidering = chore(knowledge, Engine())
    serve(knowledge, 12_000, ENOUGH - 1)
    assert reconsidering.due(REST_BEFORE) is None
    serve(knowledge, 12_000, 1)
    assert (reconsidering.due(0.0), reconsidering.due(REST_BEFORE)) == (REST_BEFORE, 0.0)
    reconsidering.piece()
    assert reconsidering.due(REST_BEFORE) is None


def test_the_knobs_follow_what_is_served_and_a_later_start_begins_with_them(knowledge: Knowledge) -> None:
    engine = Engine()
    reconsidering = chore(knowledge, engine)
    serve(knowledge, 12_000, 5 * ENOUGH)
    reconsidering.piece()
    assert not engine.knobs.flash_attn
    again = recall(knowledge.file, "mark", 8)
    assert (again.flash, again.served.tokens) == ("flash_attn=0", knowledge.served.tokens)
    assert knowledge.choices.flash == ("flash_attn=0", "flash_attn=1"), "another must be clearly better than this one"
    serve(knowledge, 60, 500 * ENOUGH)
    reconsidering.piece()
    assert engine.knobs.flash_attn
    assert json.loads(knowledge.file.read_text())["mark"]["flash"] == "flash_attn=1"


def test_who_waits_for_an_answer_is_not_disturbed(knowledge: Knowledge) -> None:
    engine = Engine()
    engine.is_busy = True
    reconsidering = chore(knowledge, engine)
    serve(knowledge, 12_000, 5 * ENOUGH)
    reconsidering.piece()
    assert engine.knobs.flash_attn
    assert not knowledge.file.exists()
    assert reconsidering.due(REST_BEFORE) == 0.0, "as soon as there is rest"
    engine.is_busy = False
    reconsidering.piece()
    assert not engine.knobs.flash_attn


def test_many_states_are_not_given_up_for_little(knowledge: Knowledge) -> None:
    engine = Engine(kept=10**9)
    serve(knowledge, 12_000, 5 * ENOUGH)
    chore(knowledge, engine).piece()
    assert engine.knobs.flash_attn
