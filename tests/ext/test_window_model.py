"""Gemma 3 270M, a real model with a window of 512 tokens: what is taken up is what was computed.

A window's cells are a ring, and where a token's cell lies in it decides in which order llama.cpp adds up: what goes on
from a checkpoint differs from what was computed in one go by rounding, as with flash attention, and no more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options

WORDS = "The keeper counted every ship that passed, and wrote its name into a heavy book before the night fell. "
ROUNDING = 0.05  # of a divergence: another place in the ring makes it 0.005 to 0.02, as flash attention does
TURN = "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
CELLS = 2048
LIMIT = 60.0  # seconds


@pytest.fixture(scope="module")
def loaded(window_gguf: Path) -> list[Model]:
    return []


@pytest.fixture
def model(loaded: list[Model], load: Load, window_gguf: Path) -> Model:
    if not loaded:
        loaded.append(load(window_gguf))
    return loaded[0]


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def unified(request: pytest.FixtureRequest) -> bool:
    return request.param


def started(model: Model, unified: bool, snapshots: Snapshots | None = None, slots: int = 1) -> Engine:
    sizes = options(n_seq=slots, ctx_len=CELLS, kv_cells=slots * CELLS, kv_unified=unified, batch_size=256)
    return Engine(model, sizes, snapshots, state_bytes=1 << 28)


def conversation(*turns: tuple[str, str], question: str) -> str:
    said = "".join(TURN.format(asked) + answer + "<end_of_turn>\n" for asked, answer in turns)
    return said + TURN.format(question)


def logits(engine: Engine) -> np.ndarray:
    """Of the last decode's last row."""
    row = lib.llama_get_logits_ith(engine.context._pointer, -1)
    return np.ctypeslib.as_array(row, (engine.model.n_vocab,)).astype(np.float64)


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    """Kullback and Leibler's, of what is drawn by these logits."""
    one, other = (row - row.max() - np.log(np.exp(row - row.max()).sum()) for row in (a, b))
    return float((np.exp(one) * (one - other)).sum())


def asked(engine: Engine, text: str, conversation: str | None = None) -> tuple[np.ndarray, int]:
    """What may come next, and how many prompt tokens were computed for it."""
    prompt = engine.model.tokenize(text, add_special=True, parse_special=True)
    sequence, sink = engine.ask(prompt, 1, conversation=conversation)
    while sink.reason is None and not sink.errors:
        engine.loop.step()
    assert not sink.errors
    return logits(engine), len(prompt) - sequence.n_cached


def test_every_way_back_gives_what_computing_it_all_gives(model: Model, unified: bool, tmp_path: Path) -> None:
    """The last message edited, another conversation in between, the next turn, a restart.

    What is edited is so long that the window has lost what is before it: only the checkpoint has that. Without the
    checkpoint put back the state is refused later on; without what is behind it cut off the divergence is 0.08.
    """

    def snapshots() -> Snapshots:
        return Snapshots(tmp_path / "kv", "m", "f", 1 << 30, can_trim=False)

    first = (WORDS * 26, "He wrote them all down.")  # more than the window
    texts = [
        conversation(first, question="Who wrote the names? " + WORDS * 26),
        conversation(first, question="What did the keeper count?"),
        "Quite another text, and short.",
        conversation(first, question="Where did he write?"),
        conversation(first, ("Where did he write?", "Here."), question="And then?"),
    ]
    engine = started(model, unified, snapshots())
    given = [asked(engine, text, "another" if text == texts[2] else "one") for text in texts[:-1]]
    engine.keep_states(LIMIT)
    engine.context.close()
    again = started(model, unified, snapshots())
    given.append(asked(again, texts[-1], "one"))
    again.context.close()
    assert [computed < 40 for _, computed in given] == [False, True, True, True, True]

    alone = started(model, unified)
    alone.loop.scheduler.cache.enabled = False
    for text, (row, _) in zip(texts, given, strict=True):
        assert divergence(asked(alone, text)[0], row) < ROUNDING
    alone.context.close()
