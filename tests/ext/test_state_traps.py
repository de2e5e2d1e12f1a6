"""What llama.cpp's KV memory does that one would not guess, on real (small) models: no state and no answer is wrong.

The KV is written with ``kv_unified`` false where every slot has a stream of its own, and true where all share cells.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.engine.context import LlamaContext
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from janflask.models.engine_settings import EngineSettings
from janflask_ext.sampling import Sampler
from tests.ext.real_loop import Engine, options
from tests.models.tiny import TinyModels
from tests.models.tiny_memories import WINDOW, write_hybrid, write_recurrent, write_windowed

LIMIT = 60.0  # seconds that anything here may take
LOG = LibraryLog()  # llama.cpp holds its address
STORY = "the cat sat on the mat and the dog ran on the hill and " * 4
OTHER = "hello world, red and blue and green are what they are: " * 4


@pytest.fixture(scope="module")
def model(tiny_models: TinyModels) -> Model:
    return Model(tiny_models.chat, EngineSettings(), LOG, lambda fraction: None)


def tokens_of(model: Model, text: str) -> array[int]:
    return model.tokenize(text, add_special=True, parse_special=False)


def compute(context: LlamaContext, slot: int, tokens: array[int], start: int = 0) -> None:
    for at in range(start, len(tokens), 64):
        context.batch.clear()
        context.batch.add(tokens, at, min(64, len(tokens) - at), slot, False)
        assert context.decode() == 0


def greedy(model: Model, context: LlamaContext, slot: int, tokens: array[int], done: int, count: int = 16) -> list[int]:
    """What the slot says next, of which the first ``done`` tokens are computed; what it holds beyond is forgotten."""
    assert context.trim(slot, done)
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=512)
    tokens = array("i", tokens)
    compute(context, slot, tokens[:-1], done)
    said: list[int] = []
    while len(said) < count:
        context.batch.clear()
        row = context.batch.add(tokens, len(tokens) - 1, 1, slot, True)
        assert context.decode() == 0
        said += context.sample([row], [sampler])
        tokens.append(said[-1])
    return said


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def context(model: Model, request: pytest.FixtureRequest):
    context = LlamaContext(model, options(kv_unified=request.param))
    yield context
    context.close()


def expected(model: Model, tokens: array[int]) -> list[int]:
    alone = LlamaContext(model, options(n_seq=1, kv_cells=512))
    said = greedy(model, alone, 0, tokens, 0)
    alone.close()
    return said


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_is_there_at_once(model: Model, context: LlamaContext) -> None:
    """llama_memory_seq_cp between streams moves the data at the next decode; a state taken before is an empty one."""
    tokens = tokens_of(model, STORY)
    compute(context, 0, tokens)
    context.copy(0, 1, len(tokens) - 1)
    state = bytes(context.state(1))
    assert context.restore(2, state, len(tokens) - 1)
    assert greedy(model, context, 2, tokens, len(tokens) - 1) == expected(model, tokens)


def test_a_copy_does_not_follow_what_its_source_becomes(model: Model, context: LlamaContext) -> None:
    """... and what is put into the source meanwhile would be what is moved."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(context, 0, tokens)
    compute(context, 2, other)
    state = bytes(context.state(2))
    context.copy(0, 1, len(tokens) - 1)
    context.trim(0, 0)
    assert context.restore(0, state, len(other))
    assert greedy(model, context, 1, tokens, len(tokens) - 1) == expected(model, tokens)
    assert greedy(model, context, 0, other, len(other) - 1) == expected(model, other)


def test_a_copy_is_overwritten_by_what_is_put_in_its_place(model: Model, context: LlamaContext) -> None:
    """... or what was put into the target would be overwritten by it."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(context, 0, tokens)
    compute(context, 2, other)
    state = bytes(context.state(2))
    context.copy(0, 1, len(tokens) - 1)
    context.trim(1, 0)
    assert context.restore(1, state, len(other))
    assert greedy(model, context, 1, other, len(other) - 1) == expected(model, other)


def test_a_copy_of_a_part_is_that_part(model: Model, context: LlamaContext) -> None:
    tokens = tokens_of(model, STORY)
    compute(context, 0, tokens)
    context.copy(0, 1, 20)
    fork = tokens[:20] + tokens_of(model, OTHER)
    assert greedy(model, context, 1, fork, 20) == expected(model, fork)
    assert greedy(model, context, 0, tokens, len(tokens) - 1) == expected(model, tokens)


def test_in_a_unified_cache_a_copy_takes_the_place_of_what_was_there(model: Model) -> None:
    """There llama_memory_seq_cp onto a slot that is used mixes both: the loop empties it before."""
    context = LlamaContext(model, options(kv_unified=True))
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(context, 0, tokens)
    compute(context, 1, other)
    context.trim(1, 0)
    context.copy(0, 1, len(tokens) - 1)
    assert greedy(model, context, 1, tokens, len(tokens) - 1) == expected(model, tokens)
    context.close()


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_state_that_is_refused_leaves_the_slot_empty_and_of_use(model: Model, context: LlamaContext) -> None:
    """llama_state_seq_set_data has emptied the target when it fails."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    strange = LlamaContext(model, options(kv_unified=not context.options.kv_unified, flash_attn=True))
    compute(strange, 0, tokens)
    states = [bytes(strange.state(0)), b"", b"x" * 100]
    strange.close()
    compute(context, 1, other)
    states.append(bytes(context.state(1))[:-1])
    for state in states:
        assert not context.restore(0, state, len(tokens))
        assert context.positions(0) == (-1, -1)
    assert greedy(model, context, 0, tokens, 0) == expected(model, tokens)
    assert greedy(model, context, 1, other, len(other) - 1) == expected(model, other)


def test_a_state_of_nothing_does_not_pass_for_one_of_something(model: Model, context: LlamaContext) -> None:
    """llama_state_seq_set_data takes it, and leaves whatever the slot held."""
    nothing = bytes(context.state(2))
    assert not context.restore(0, nothing, 5)
    tokens = tokens_of(model, STORY)
    compute(context, 0, tokens)
    assert not context.restore(0, nothing, 5)
    assert context.positions(0) == (-1, -1)
    assert greedy(model, context, 0, tokens, 0) == expected(model, tokens)


@pytest.mark.parametrize("lie", [-1, 1])
def test_a_state_of_another_length_is_refused(model: Model, context: LlamaContext, lie: int) -> None:
    tokens = tokens_of(model, STORY)
    compute(context, 0, tokens)
    state = bytes(context.state(0))
    assert not context.restore(1, state, len(tokens) + lie)
    assert context.restore(1, state, len(tokens))


@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
def test_a_state_is_used_where_there_are_as_many_slots(model: Model, unified: bool) -> None:
    """One of a context with another number of streams is refused, not misread; the fingerprint tells them apart."""
    tokens = tokens_of(model, STORY)
    two = LlamaContext(model, options(n_seq=2, kv_cells=1024, kv_unified=unified))
    compute(two, 0, tokens)
    state = bytes(two.state(0))
    two.close()
    three = LlamaContext(model, options(kv_unified=unified))
    if three.restore(0, state, len(tokens)):
        assert unified
        assert greedy(model, three, 0, tokens, len(tokens) - 1) == expected(model, tokens)
    else:
        assert not unified
        assert greedy(model, three, 0, tokens, 0) == expected(model, tokens)
    three.close()


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
def test_conversations_that_come_and_go_say_what_each_says_alone(model: Model, unified: bool, tmp_path: Path) -> None:
    """Two slots, five conversations with a common beginning: copied, put away, brought back, continued."""
    snapshots = Snapshots(tmp_path, "m", "f", 1 << 28)
    engine = Engine(model, options(n_seq=2, kv_cells=1024, kv_unified=unified), snapshots)
    alone = Engine(model, options(n_seq=1, kv_cells=512))
    rng = random.Random(7)
    said = {name: STORY[:120] + "".join(rng.choices("abcdefgh ", k=200)) for name in "abcde"}
    for _ in range(6):
        asked = {}
        for name in rng.sample("abcde", 3):
            said[name] += rng.choice(["and the cat ", "but the dog ", "hello "])
            asked[name] = engine.ask(said[name], 6, conversation=name)[1]
        deadline = time.monotonic() + LIMIT
        while not all(sink.reason or sink.errors for sink in asked.values()):
            assert time.monotonic() < deadline
            engine.loop.step()
        for name, sink in asked.items():
            assert not sink.errors
            assert (sink.text, sink.reason) == alone.answer(said[name], 6, cache=False), name
            said[name] += sink.text
    conversations = engine.loop.conversations
    assert conversations is not None
    assert conversations.restored > 2
    assert engine.loop.scheduler.cached_tokens > 1000


# --- states of the partial kind -----------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def windowed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LlamaContext]:
    """A context over a model whose first layer has a window."""
    model = Model(write_windowed(tmp_path / "m.gguf"), EngineSettings(), LOG, lambda fraction: None)
    context = LlamaContext(model, options(n_seq=2, kv_cells=1024, kv_unified=request.param))
    yield context
    context.close()


def test_a_checkpoint_needs_the_rest_of_its_sequence(windowed: LlamaContext) -> None:
    """llama.cpp takes one into an empty slot and decodes: the layers without a window would have seen nothing."""
    tokens = tokens_of(windowed.model, STORY)
    compute(windowed, 0, tokens)
    checkpoint = windowed.checkpoint(0)
    assert not windowed.rewind(1, checkpoint, len(tokens))
    compute(windowed, 1, tokens[:-20])
    assert not windowed.rewind(1, checkpoint, len(tokens))
    assert windowed.positions(1) == (-1, -1)


def test_what_is_behind_a_checkpoint_is_gone(windowed: LlamaContext) -> None:
    model, tokens = windowed.model, tokens_of(windowed.model, STORY)
    compute(windowed, 0, tokens)
    checkpoint = windowed.checkpoint(0)
    right = greedy(model, windowed, 1, tokens, 0)
    compute(windowed, 0, tokens + tokens_of(model, OTHER), len(tokens))
    assert windowed.rewind(0, checkpoint, len(tokens))
    assert windowed.positions(0)[1] == len(tokens) - 1
    behind = tokens + tokens_of(model, "and ")[1:]
    assert greedy(model, windowed, 0, behind, len(tokens)) == greedy(model, windowed, 1, behind, 0)
    assert greedy(model, windowed, 1, tokens, 0) == right


def test_a_whole_state_is_no_checkpoint_and_a_checkpoint_no_state(windowed: LlamaContext) -> None:
    tokens = tokens_of(windowed.model, STORY)
    compute(windowed, 0, tokens)
    whole, checkpoint = windowed.state(0), windowed.checkpoint(0)
    assert len(checkpoint) < len(whole)
    assert not windowed.restore(1, checkpoint, len(tokens))
    compute(windowed, 1, tokens)
    assert not windowed.rewind(1, whole, len(tokens))


# --- what cannot be cut -----------------------------------------------------------------------------------------------


def test_a_window_that_was_brought_back_has_nothing_before_it(windowed: LlamaContext) -> None:
    """The live slot may still have had it. llama.cpp cuts what was brought back, says yes, and computes noise."""
    model, tokens = windowed.model, tokens_of(windowed.model, STORY)
    compute(windowed, 0, tokens)
    assert windowed.restore(1, windowed.state(0), len(tokens))
    shorter = len(tokens) - WINDOW // 2
    assert windowed.trim(1, shorter), "it says yes"
    assert not windowed._holds(1, shorter)
    windowed.trim(1, 0)
    compute(windowed, 1, tokens[:shorter])
    checkpoint = windowed.checkpoint(1)
    windowed.trim(1, 0)
    assert windowed.restore(1, windowed.state(0), len(tokens))
    assert windowed.rewind(1, checkpoint, shorter), "with what it has lost it can be cut"
    fork = tokens[:shorter] + tokens_of(model, OTHER)
    said = greedy(model, windowed, 1, fork, shorter)
    windowed.trim(0, 0)
    assert said == greedy(model, windowed, 0, fork, 0)


@pytest.fixture(params=[write_recurrent, write_hybrid], ids=["recurrent", "hybrid"])
def recurrent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LlamaContext]:
    model = Model(request.param(tmp_path / "m.gguf"), EngineSettings(), LOG, lambda fraction: None)
    context = LlamaContext(model, options(n_seq=2, kv_cells=1024))
    yield context
    context.close()


def test_a_recurrent_state_is_where_it_is(recurrent: LlamaContext) -> None:
    """Cut or copied in part it stays whole, whatever llama.cpp says: only a checkpoint leads back."""
    model, tokens = recurrent.model, tokens_of(recurrent.model, STORY)
    shorter = len(tokens) - 20
    compute(recurrent, 0, tokens[:shorter])
    checkpoint = recurrent.checkpoint(0)
    compute(recurrent, 0, tokens, shorter)
    recurrent.trim(0, shorter)
    assert not recurrent._holds(0, shorter)
    recurrent.trim(0, 0)
    compute(recurrent, 0, tokens)
    assert recurrent.fork(0, 1)
    assert recurrent.rewind(1, checkpoint, shorter)
    fork = tokens[:shorter] + tokens_of(model, OTHER)
    said = greedy(model, recurrent, 1, fork, shorter)
    assert recurrent.rewind(0, checkpoint, shorter)
    recurrent.trim(0, 0)
    assert said == greedy(model, recurrent, 0, fork, 0)
