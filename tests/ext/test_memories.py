"""Models whose memory forgets (a sliding window) or cannot be cut (a recurrent state) go on only where it is right.

llama.cpp says "done" to cuts after which a window's logits are noise, and to some of a recurrent state that remove
nothing, or everything. So such a slot is only gone on with where it ends, or where a checkpoint was taken of it
(``test_checkpoints.py``).
"""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest

from janflask.engine.builder import build
from janflask.engine.context import LlamaContext
from janflask.engine.model import Model
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_header import read_header
from janflask.models.memory_estimate import estimate
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options
from tests.models.tiny import write_chat
from tests.models.tiny_memories import WINDOW, write_hybrid, write_recurrent, write_windowed

TEXT = "the cat sat on the mat and the dog ran on the hill and "
WRITERS = {"window": write_windowed, "recurrent": write_recurrent, "hybrid": write_hybrid}


@pytest.fixture(params=sorted(WRITERS))
def model(load: Load, tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    return load(WRITERS[request.param](tmp_path / "m.gguf"))


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def engine(model: Model, request: pytest.FixtureRequest) -> Engine:
    return Engine(model, options(n_seq=2, kv_cells=1024, kv_unified=request.param))


def alone(model: Model, prompt: str | array[int], count: int = 12) -> tuple[str, str]:
    """The answer of an engine that has seen nothing else."""
    fresh = Engine(model, options(n_seq=1, kv_cells=512))
    answer = fresh.answer(prompt, count)
    fresh.context.close()
    return answer


def cached(engine: Engine) -> int:
    return engine.loop.scheduler.cached_tokens


def test_the_models_differ_from_plain_attention(load: Load, tmp_path: Path, model: Model) -> None:
    assert not model.can_trim
    assert load(write_chat(tmp_path / "plain.gguf")).can_trim


def test_a_conversation_goes_on_where_it_ends(model: Model, engine: Engine) -> None:
    said = model.tokenize(TEXT * 3, add_special=True, parse_special=False)
    assert len(said) > 3 * WINDOW
    for _ in range(3):
        sequence, sink = engine.ask(said, 12)
        engine.drain()
        assert (sink.text, sink.reason) == alone(model, said)
        said = sequence.tokens + model.tokenize(" but ", add_special=False, parse_special=False)
    assert cached(engine) > 2 * len(TEXT)


@pytest.mark.parametrize("keep", [1, 20, 100, 160])
def test_a_history_that_was_changed_is_computed_again(model: Model, engine: Engine, keep: int) -> None:
    said = TEXT * 3
    engine.answer(said, 12)
    changed = said[:keep] + "hello world " + said[keep + 12 :]
    assert engine.answer(changed, 12) == alone(model, changed)
    assert cached(engine) == 0


def test_the_same_again_and_a_beginning_are_computed_again(model: Model, engine: Engine) -> None:
    for prompt in (TEXT * 3, TEXT * 3, (TEXT * 3)[:100], TEXT * 3):
        assert engine.answer(prompt, 12) == alone(model, prompt)


def test_requests_at_once_with_a_common_beginning(model: Model, engine: Engine) -> None:
    prompts = [TEXT * 2 + name for name in ("red", "green", "blue", "red and green")]
    asked = [engine.ask(prompt, 12)[1] for prompt in prompts]
    engine.drain()
    assert [(sink.text, sink.reason) for sink in asked] == [alone(model, prompt) for prompt in prompts]


def test_requests_that_break_off_leave_nothing_wrong(model: Model, engine: Engine) -> None:
    rng = random.Random(3)
    for _ in range(12):
        prompt = TEXT * 2 + rng.choice(["a", "b", "a and b"])
        sequence, _ = engine.ask(prompt, 30)
        for _ in range(rng.randrange(1, 8)):
            engine.loop.step()
        engine.loop.cancel([sequence])
    assert engine.answer(TEXT * 2 + "a", 12) == alone(model, TEXT * 2 + "a")


@pytest.mark.parametrize("write", [write_chat, *WRITERS.values()], ids=["plain", *WRITERS])
@pytest.mark.parametrize(("n_seq", "ctx_len"), [(1, 2048), (3, 512), (8, 1024)])
@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
def test_what_is_promised_for_its_cells_is_what_they_take(
    load: Load, tmp_path: Path, write, n_seq: int, ctx_len: int, unified: bool
) -> None:
    path = write(tmp_path / "m.gguf")
    told = estimate(read_header(path), 0, ctx_len=ctx_len, n_parallel=n_seq, batch=64).kv
    sizes = options(n_seq=n_seq, ctx_len=ctx_len, kv_cells=n_seq * ctx_len, kv_unified=unified)
    context = LlamaContext(load(path), sizes)
    taken = context.pages.total_bytes
    context.close()
    if write is write_windowed and unified and n_seq > 1:  # one window of cells for all
        assert taken < told < 2 * taken
    else:
        assert told == taken > 0


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_its_states_are_kept(load: Load, tmp_path: Path, write) -> None:
    settings = EngineSettings(ctx_len=256, n_parallel=2)
    path = write(tmp_path / "m.gguf")
    spec = EngineSpec(
        model_id="m",
        model_path=str(path),
        socket_path="none",
        cache_dir=str(tmp_path),
        settings=settings,
        snapshot_bytes=1 << 20,
    )
    engine = build(load(path), spec, lambda stage, part: None)
    assert not engine.info.can_share_prefix
    assert engine.loop is not None
    assert engine.loop.conversations is not None
    assert not any("computed again" in note for note in engine.notes)
