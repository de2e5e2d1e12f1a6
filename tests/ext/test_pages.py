"""KV memory that is resident only where it is used: what such contexts compute, and how pages are given back."""

from __future__ import annotations

import ctypes
import sys
import threading
from array import array
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.giving_back import GiveBack
from janflask.engine.model import Model
from janflask.engine.pages import KvPages
from janflask.engine.snapshots import Snapshots
from janflask_ext import pages as native
from janflask_ext.sampling import Sampler
from tests.ext.conftest import Load
from tests.ext.other_library import printed
from tests.ext.real_loop import Engine, options
from tests.models import tiny_memories

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux only")

LARGE = ContextOptions(
    ctx_len=8192, n_seq=8, kv_cells=8 * 8192, flash_attn=False, kv_unified=False, cpu_threads=1, batch_size=64
)
SMALL = replace(LARGE, ctx_len=512, n_seq=4, kv_cells=4 * 512)
MIB = 1 << 20
TEXTS = ("A story of a hen:", "The capital of France is", "One, two, three,", "Dear Sir or Madam,")


@pytest.fixture
def model(load: Load, starter_gguf: Path) -> Model:
    return load(starter_gguf)


@pytest.fixture
def context(model: Model) -> Iterator[LlamaContext]:
    context = LlamaContext(model, SMALL)
    yield context
    context.close()


def generate(context: LlamaContext, prompts: dict[int, array[int]], count: int) -> dict[int, list[int]]:
    """``count`` greedy tokens in each slot, all in the same decodes; what the slots hold before is gone on from."""
    sampler = Sampler(context.model.n_vocab, temperature=0.0, seed=0, n_ctx=512)
    out: dict[int, list[int]] = {slot: [] for slot in prompts}
    for _ in range(count):
        context.batch.clear()
        rows = []
        for slot, tokens in prompts.items():
            done = context.positions(slot)[1] + 1
            rows.append(context.batch.add(tokens, done, len(tokens) - done, slot, 1))
        assert context.decode() == 0
        for slot, token in zip(prompts, context.sample(rows, [sampler] * len(rows)), strict=True):
            out[slot].append(token)
            prompts[slot].append(token)
    return out


def prompts_of(model: Model) -> dict[int, array[int]]:
    return {i: model.tokenize(text, add_special=True, parse_special=False) for i, text in enumerate(TEXTS)}


def allocation() -> int | None:
    """The function by which ggml makes buffers in RAM."""
    buffer_type = lib._lib["ggml_backend_cpu_buffer_type"]  # an object of its own: the bindings' stays as it is
    buffer_type.restype = ctypes.c_void_p
    _, alloc_buffer = (ctypes.c_void_p * 2).from_address(buffer_type())
    return alloc_buffer


def rss() -> int:
    return int(psutil.Process().memory_info().rss)


# --- making ---------------------------------------------------------------------------------------------------------


def test_the_loaded_library_passes_the_self_test():
    assert native.why_not is None


@pytest.mark.parametrize("name", ["ggml_nbytes", "ggml_backend_buffer_clear", "ggml_tensor_overhead"])
def test_a_library_that_lacks_something_is_left_as_it_is(name: str):
    """It is looked at when the module is imported, and an engine has to start all the same."""
    code = "from janflask_ext import pages; print(pages.why_not)"
    assert printed(code, name) == f"the loaded llama.cpp has no {name}"


@pytest.mark.parametrize("kv_unified", [False, True])
def test_a_large_context_is_resident_where_it_is_used(model: Model, kv_unified: bool):
    before = rss()
    context = LlamaContext(model, replace(LARGE, kv_unified=kv_unified))
    try:
        assert context.pages.total_bytes >= 1400 * MIB
        assert context.pages.resident() < MIB
        assert rss() - before < 100 * MIB
        assert context.pages.is_by_slot is not kv_unified
        generate(context, {0: prompts_of(model)[0]}, 1)
        assert 0 < context.pages.resident() < 100 * MIB
    finally:
        context.close()
    assert (context.kv_bytes, context.pages.resident()) == (None, 0), "the addresses are somebody else's now"


def test_it_computes_what_a_context_computes_that_llama_cpp_cleared(model: Model, context: LlamaContext, monkeypatch):
    monkeypatch.setattr(native, "why_not", "a test wants a plain one")
    plain = LlamaContext(model, SMALL)
    try:
        assert plain.pages.total_bytes == 0
        expected = generate(plain, prompts_of(model), 20)
        assert generate(context, prompts_of(model), 20) == expected
        assert plain.pages.give_back(0) == 0
    finally:
        plain.close()


def test_buffers_that_another_thread_makes_meanwhile_are_not_noted(model: Model):
    made: list[LlamaContext] = []

    def elsewhere() -> None:
        other = threading.Thread(target=lambda: made.append(LlamaContext(model, SMALL)))
        # It would wait for the lock of ``lazily``: the plain call is what a decode that grows its buffers comes to.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "why_not", "a test wants a plain one")
            other.start()
            other.join()

    _, tensors = native.lazily(elsewhere)
    assert tensors == []
    made[0].close()


def test_an_error_while_making_leaves_nothing_behind(model: Model):
    ggmls = allocation()

    def fail() -> None:
        assert allocation() != ggmls
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        native.lazily(fail)
    assert allocation() == ggmls
    _, tensors = native.lazily(lambda: None)
    assert tensors == []


# --- giving back ----------------------------------------------------------------------------------------------------


def test_clearing_gives_everything_back_and_the_text_is_the_same_again(model: Model, context: LlamaContext):
    first = generate(context, prompts_of(model), 12)
    assert context.pages.resident() > MIB
    context.clear()
    assert context.pages.resident() == 0
    assert context.positions(0) == (-1, -1)
    assert generate(context, prompts_of(model), 12) == first


@pytest.mark.parametrize("given", [0, 2])
def test_a_slot_that_is_given_back_leaves_the_others_as_they_were(model: Model, context: LlamaContext, given: int):
    prompts = prompts_of(model)
    generate(context, prompts, 8)
    states = {slot: bytes(context.state(slot)) for slot in prompts if slot != given}
    assert context.pages.resident(given) > 0

    context.trim(given, 0)
    assert context.pages.give_back(given) > 0

    assert context.pages.resident(given) == 0
    assert {slot: bytes(context.state(slot)) for slot in states} == states
    again = prompts_of(model)[given]
    prompts[given] = again
    after = generate(context, prompts, 8)

    context.clear()
    fresh = prompts_of(model)
    before = generate(context, fresh, 16)
    assert {slot: after[slot] for slot in states} == {slot: before[slot][8:] for slot in states}
    assert after[given] == before[given][:8]


def test_a_slot_goes_in_pieces_that_are_no_larger_than_asked_for(model: Model, context: LlamaContext):
    generate(context, prompts_of(model), 8)
    context.trim(1, 0)
    for _ in range(context.pages.n_tensors):
        before = context.pages.resident(1)
        assert context.pages.give_back(1, most=1) == before - context.pages.resident(1) > 0
    assert context.pages.resident(1) == 0
    assert context.pages.resident(0) > 0


def test_tensors_that_slots_share_go_one_by_one(model: Model):
    context = LlamaContext(model, replace(SMALL, kv_unified=True))
    try:
        generate(context, prompts_of(model), 8)
        for slot in range(SMALL.n_seq):
            context.trim(slot, 0)
        for number in range(context.pages.n_tensors):
            before = context.pages.resident()
            context.pages.give_back_tensor(number)
            assert context.pages.resident() < before
        assert context.pages.resident() == 0
    finally:
        context.close()


def test_where_slots_share_their_memory_nothing_is_given_back_for_one(model: Model):
    context = LlamaContext(model, replace(SMALL, kv_unified=True))
    try:
        generate(context, prompts_of(model), 2)
        assert context.pages.give_back(1) == 0
        assert context.pages.resident(1) == 0  # nobody can say
    finally:
        context.close()


@pytest.mark.parametrize("write", [tiny_memories.write_recurrent, tiny_memories.write_windowed])
def test_other_kinds_of_memory_are_cleared_to_what_they_were(load: Load, tmp_path: Path, write):
    model = load(write(tmp_path / "model.gguf"))
    context = LlamaContext(model, replace(SMALL, kv_unified=False))
    try:
        assert context.pages.total_bytes > 0
        tokens = array("i", range(5, 25))
        first = generate(context, {1: tokens[:]}, 6)
        context.clear()
        assert generate(context, {1: tokens[:]}, 6) == first
    finally:
        context.close()


# --- raw memory -----------------------------------------------------------------------------------------------------


def test_zeros_reach_from_the_first_byte_to_the_last_and_no_further():
    page = 4096
    memory = bytearray(b"\x55" * (16 * page))
    start = ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
    first = -start % page + 100
    given = native.zero(start + first, 5 * page)
    assert given in (4 * page, 5 * page)
    assert memory[first : first + 5 * page] == bytes(5 * page)
    assert set(memory[:first]) == set(memory[first + 5 * page :]) == {0x55}
    assert native.zero(start + first + 8 * page, 10) == 0
    assert memory[first + 8 * page : first + 8 * page + 11] == bytes(10) + b"\x55"


def test_a_layout_that_is_not_understood_is_not_divided():
    k, view = ("cache_k_l0", 1000, 400), ("cache_k_l0 (view)", 1000, 200)
    assert KvPages([k, view, ("cache_k_l0 (view)", 1200, 200)], 2).is_by_slot
    assert not KvPages([k, view], 2).is_by_slot
    assert not KvPages([k, view, ("cache_k_l0 (view)", 1300, 100)], 2).is_by_slot
    assert not KvPages([k, view, ("cache_k_l0 (view)", 1200, 200), ("cache_r_l1", 9000, 80)], 2).is_by_slot
    assert not KvPages([], 2).is_by_slot


# --- an engine at rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_unified", [False, True])
def test_an_engine_at_rest_gives_all_back_and_goes_on_with_the_same_text(
    load: Load, starter_gguf: Path, tmp_path: Path, kv_unified: bool
):
    engine = Engine(
        load(starter_gguf), options(kv_unified=kv_unified), Snapshots(tmp_path / "kv", "m", "mark", 1 << 30)
    )
    prompt = "One two three four five six seven eight nine ten. " * 14
    try:
        first, _ = engine.answer(prompt, 8, conversation="talk")
        turn = prompt + first + " And then?"
        expected = engine.answer(turn, 8, conversation="talk")
        assert engine.context.kv_bytes > 4 * MIB

        conversations, cache = engine.loop.conversations, engine.loop.scheduler.cache
        for slot in cache.unkept():
            conversations.keep(slot)
        wait(conversations._pending)
        chore = GiveBack(engine.context, cache, conversations, rest=0.0, least_bytes=1)
        while chore.due(1.0) == 0.0:
            chore.piece()
        assert engine.context.kv_bytes == 0
        assert cache.tokens_held == 0

        sequence, sink = engine.ask(turn, 8, conversation="talk")
        while sink.reason is None:
            engine.loop.step()  # its state is read meanwhile
        assert (sink.text, sink.reason.value) == expected
        assert sequence.n_cached > 128
    finally:
        engine.context.close()
