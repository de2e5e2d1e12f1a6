"""What llama.cpp's KV memory does that one would not guess, on real (small) models: no state and no answer is wrong.

The KV is written with ``kv_unified`` false where every slot has a stream of its own, and true where all share cells.
"""

from __future__ import annotations

import random
import time
from array import array
from pathlib import Path

import pytest

from janflask.engine.backend import LlamaBackend
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from janflask.models.engine_settings import EngineSettings
from janflask_ext.sampling import Sampler
from tests.ext.real_loop import Engine, options
from tests.models.tiny import TinyModels

LIMIT = 60.0  # seconds that anything here may take
LOG = LibraryLog()  # llama.cpp holds its address
STORY = "the cat sat on the mat and the dog ran on the hill and " * 4
OTHER = "hello world, red and blue and green are what they are: " * 4


@pytest.fixture(scope="module")
def model(tiny_models: TinyModels) -> Model:
    return Model(tiny_models.chat, EngineSettings(), LOG, lambda fraction: None)


def tokens_of(model: Model, text: str) -> array[int]:
    return model.tokenize(text, add_special=True, parse_special=False)


def compute(backend: LlamaBackend, slot: int, tokens: array[int], start: int = 0) -> None:
    for at in range(start, len(tokens), 64):
        backend.batch.clear()
        backend.batch.add(tokens, at, min(64, len(tokens) - at), slot, False)
        assert backend.decode() == 0


def greedy(model: Model, backend: LlamaBackend, slot: int, tokens: array[int], done: int, count: int = 16) -> list[int]:
    """What the slot says next, of which the first ``done`` tokens are computed; what it holds beyond is forgotten."""
    assert backend.trim(slot, done)
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=512)
    tokens = array("i", tokens)
    compute(backend, slot, tokens[:-1], done)
    said: list[int] = []
    while len(said) < count:
        backend.batch.clear()
        row = backend.batch.add(tokens, len(tokens) - 1, 1, slot, True)
        assert backend.decode() == 0
        said += backend.sample([row], [sampler])
        tokens.append(said[-1])
    return said


@pytest.fixture(params=[False, True], ids=["streams", "unified"])
def backend(model: Model, request: pytest.FixtureRequest):
    backend = LlamaBackend(model, options(kv_unified=request.param))
    yield backend
    backend.close()


def expected(model: Model, tokens: array[int]) -> list[int]:
    alone = LlamaBackend(model, options(n_seq=1, kv_cells=512))
    said = greedy(model, alone, 0, tokens, 0)
    alone.close()
    return said


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_is_there_at_once(model: Model, backend: LlamaBackend) -> None:
    """llama_memory_seq_cp between streams moves the data at the next decode; a state taken before is an empty one."""
    tokens = tokens_of(model, STORY)
    compute(backend, 0, tokens)
    backend.copy(0, 1, len(tokens) - 1)
    state = bytes(backend.state(1))
    assert backend.restore(2, state, len(tokens) - 1)
    assert greedy(model, backend, 2, tokens, len(tokens) - 1) == expected(model, tokens)


def test_a_copy_does_not_follow_what_its_source_becomes(model: Model, backend: LlamaBackend) -> None:
    """... and what is put into the source meanwhile would be what is moved."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(backend, 0, tokens)
    compute(backend, 2, other)
    state = bytes(backend.state(2))
    backend.copy(0, 1, len(tokens) - 1)
    backend.trim(0, 0)
    assert backend.restore(0, state, len(other))
    assert greedy(model, backend, 1, tokens, len(tokens) - 1) == expected(model, tokens)
    assert greedy(model, backend, 0, other, len(other) - 1) == expected(model, other)


def test_a_copy_is_overwritten_by_what_is_put_in_its_place(model: Model, backend: LlamaBackend) -> None:
    """... or what was put into the target would be overwritten by it."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(backend, 0, tokens)
    compute(backend, 2, other)
    state = bytes(backend.state(2))
    backend.copy(0, 1, len(tokens) - 1)
    backend.trim(1, 0)
    assert backend.restore(1, state, len(other))
    assert greedy(model, backend, 1, other, len(other) - 1) == expected(model, other)


def test_a_copy_of_a_part_is_that_part(model: Model, backend: LlamaBackend) -> None:
    tokens = tokens_of(model, STORY)
    compute(backend, 0, tokens)
    backend.copy(0, 1, 20)
    fork = tokens[:20] + tokens_of(model, OTHER)
    assert greedy(model, backend, 1, fork, 20) == expected(model, fork)
    assert greedy(model, backend, 0, tokens, len(tokens) - 1) == expected(model, tokens)


def test_in_a_unified_cache_a_copy_takes_the_place_of_what_was_there(model: Model) -> None:
    """There llama_memory_seq_cp onto a slot that is used mixes both: the loop empties it before."""
    backend = LlamaBackend(model, options(kv_unified=True))
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    compute(backend, 0, tokens)
    compute(backend, 1, other)
    backend.trim(1, 0)
    backend.copy(0, 1, len(tokens) - 1)
    assert greedy(model, backend, 1, tokens, len(tokens) - 1) == expected(model, tokens)
    backend.close()


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_state_that_is_refused_leaves_the_slot_empty_and_of_use(model: Model, backend: LlamaBackend) -> None:
    """llama_state_seq_set_data has emptied the target when it fails."""
    tokens, other = tokens_of(model, STORY), tokens_of(model, OTHER)
    strange = LlamaBackend(model, options(kv_unified=not backend.options.kv_unified, flash_attn=True))
    compute(strange, 0, tokens)
    states = [bytes(strange.state(0)), b"", b"x" * 100]
    strange.close()
    compute(backend, 1, other)
    states.append(bytes(backend.state(1))[:-1])
    for state in states:
        assert not backend.restore(0, state, len(tokens))
        assert backend.positions(0) == (-1, -1)
    assert greedy(model, backend, 0, tokens, 0) == expected(model, tokens)
    assert greedy(model, backend, 1, other, len(other) - 1) == expected(model, other)


def test_a_state_of_nothing_does_not_pass_for_one_of_something(model: Model, backend: LlamaBackend) -> None:
    """llama_state_seq_set_data takes it, and leaves whatever the slot held."""
    nothing = bytes(backend.state(2))
    assert not backend.restore(0, nothing, 5)
    tokens = tokens_of(model, STORY)
    compute(backend, 0, tokens)
    assert not backend.restore(0, nothing, 5)
    assert backend.positions(0) == (-1, -1)
    assert greedy(model, backend, 0, tokens, 0) == expected(model, tokens)


@pytest.mark.parametrize("lie", [-1, 1])
def test_a_state_of_another_length_is_refused(model: Model, backend: LlamaBackend, lie: int) -> None:
    tokens = tokens_of(model, STORY)
    compute(backend, 0, tokens)
    state = bytes(backend.state(0))
    assert not backend.restore(1, state, len(tokens) + lie)
    assert backend.restore(1, state, len(tokens))


@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
def test_a_state_is_used_where_there_are_as_many_slots(model: Model, unified: bool) -> None:
    """One of a context with another number of streams is refused, not misread; the fingerprint tells them apart."""
    tokens = tokens_of(model, STORY)
    two = LlamaBackend(model, options(n_seq=2, kv_cells=1024, kv_unified=unified))
    compute(two, 0, tokens)
    state = bytes(two.state(0))
    two.close()
    three = LlamaBackend(model, options(kv_unified=unified))
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
