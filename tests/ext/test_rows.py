"""Rows that have the same bits alone and among others, by our hooks in ggml's library."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from janflask.engine.context import LlamaContext
from janflask.engine.exact_rows import FEW, ExactRows
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.engine.trial import Trial
from janflask.models.engine_settings import EngineSettings
from janflask_ext import rows
from tests.ext.other_library import printed
from tests.ext.real_loop import options

pytestmark = pytest.mark.skipif(rows.install() is not None, reason=f"ggml computes rows as it does: {rows.install()}")

DEPTH = 520  # cells of one sequence: with flash attention ggml computes a row in pieces from 512 on
TEXT = "The quick brown fox jumps over the lazy dog, and then it sat down to rest by the river. " * 40
_KEPT = [LibraryLog()]  # llama.cpp logs to it as long as it lives


@pytest.fixture(scope="module")
def model(starter_gguf: Path) -> Model:
    return Model(starter_gguf, EngineSettings(), _KEPT[0], lambda fraction: None)


@pytest.fixture
def few_alike() -> Iterator[None]:
    before = rows.mode()
    rows.set_mode(rows.FEW_ALIKE)
    yield
    rows.set_mode(before)


def computed(context: LlamaContext, parts: list[tuple[int, int, int]], tokens: array[int]) -> list[NDArray[np.float32]]:
    """The logits of all rows of a decode of (slot, start, count) parts."""
    context.batch.clear()
    total = sum(count for _, _, count in parts)
    for slot, start, count in parts:
        context.batch.add(tokens, start, count, slot, count)
    assert context.decode() == 0
    return [context.logits(row) for row in range(total)]


@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
@pytest.mark.parametrize("flash", [False, True], ids=["plain", "flash"])
@pytest.mark.parametrize("depth", [40, DEPTH])
@pytest.mark.usefixtures("few_alike")
def test_rows_have_the_same_bits_alone_and_among_others(model: Model, flash: bool, unified: bool, depth: int) -> None:
    made = options(flash_attn=flash, kv_unified=unified, ctx_len=768, n_seq=4, kv_cells=4 * 768)
    context, tokens = LlamaContext(model, made), model.tokenize(TEXT, add_special=True, parse_special=False)
    try:
        for slot in range(4):
            for start in range(0, depth, 52):
                computed(context, [(slot, start, min(52, depth - start))], tokens)
        alone = [computed(context, [(0, depth + place, 1)], tokens)[0] for place in range(8)]
        for parts in (
            [(0, 2)],
            [(0, 8)],
            [(0, 5), (1, 1), (2, 3)],
            [(0, 1), (1, 1), (2, 1), (3, 1)],
            [(0, 8), (1, 15)],
        ):
            for slot in range(4):
                assert context.trim(slot, depth)
            found = computed(context, [(slot, depth, count) for slot, count in parts], tokens)
            for place in range(parts[0][1]):
                assert np.array_equal(found[place], alone[place]), (parts, place)
    finally:
        context.close()


@pytest.mark.usefixtures("few_alike")
def test_as_ggml_computes_them_they_have_other_bits(model: Model) -> None:
    """What all this is for; were it not so, the hooks could go."""
    rows.set_mode(rows.AS_IT_IS)
    context, tokens = LlamaContext(model, options()), model.tokenize(TEXT, add_special=True, parse_special=False)
    try:
        computed(context, [(0, 0, 40)], tokens)
        alone = [computed(context, [(0, 40 + place, 1)], tokens)[0] for place in range(8)]
        assert context.trim(0, 40)
        together = computed(context, [(0, 40, 8)], tokens)
        assert not all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))  # some are, by chance
    finally:
        context.close()


@pytest.mark.parametrize("flash", [False, True], ids=["plain", "flash"])
def test_where_all_are_alike_any_slicing_of_a_prompt_gives_the_same_bits(starter_gguf: Path, flash: bool) -> None:
    before = rows.mode()
    model = Model(starter_gguf, EngineSettings(reproducible=True), _KEPT[0], lambda fraction: None)
    tokens = model.tokenize(TEXT, add_special=True, parse_special=False)[:300]
    context = LlamaContext(model, options(flash_attn=flash))
    try:
        found = []
        for size in (64, 1, 7, 33):
            context.trim(0, 0)
            for start in range(0, 300, size):
                found.append(computed(context, [(0, start, min(size, 300 - start))], tokens)[-1])
        ends = [found[4], found[304], found[347], found[-1]]
        assert all(np.array_equal(ends[0], end) for end in ends[1:])
    finally:
        context.close()
        rows.set_mode(before)


def found_by(model: Model, *, flash: bool = False) -> int:
    made = options(flash_attn=flash)
    exact = ExactRows(lambda: made, lambda options: Trial(model, options))
    assert exact.most() == 1
    while exact.due(0.0) is not None:
        exact.piece()
    return exact.most()


@pytest.mark.parametrize("flash", [False, True], ids=["plain", "flash"])
@pytest.mark.usefixtures("few_alike")
def test_it_is_found_how_many_rows_are_exact(model: Model, flash: bool) -> None:
    assert found_by(model, flash=flash) == FEW[0]


@pytest.mark.parametrize("kind", [lib.LLAMA_FTYPE_MOSTLY_F16, lib.LLAMA_FTYPE_MOSTLY_Q8_0], ids=["f16", "q8_0"])
def test_rows_of_other_kinds_of_weights_are_exact_too(starter_gguf: Path, tmp_path: Path, kind: int) -> None:
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    other = tmp_path / "other.gguf"
    assert lib.llama_model_quantize(str(starter_gguf).encode(), str(other).encode(), params) == 0
    before = rows.mode()
    model = Model(other, EngineSettings(), _KEPT[0], lambda fraction: None)
    try:
        assert rows.mode() == rows.FEW_ALIKE
        assert found_by(model) == FEW[0]
        rows.set_mode(rows.AS_IT_IS)
        assert found_by(model) == 1
    finally:
        rows.set_mode(before)
        lib.llama_model_free(model.pointer)


@pytest.mark.usefixtures("few_alike")
def test_without_the_hooks_none_but_one_is(model: Model) -> None:
    rows.set_mode(rows.AS_IT_IS)
    assert found_by(model) == 1


def test_an_engine_that_died_of_a_signal_computes_without_the_hooks(starter_gguf: Path) -> None:
    before = rows.mode()
    try:
        Model(starter_gguf, EngineSettings(use_extra_bufts=False), _KEPT[0], lambda fraction: None)
        assert rows.mode() == rows.AS_IT_IS
    finally:
        rows.set_mode(before)


def test_it_does_not_even_try_them(starter_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it died of may have been the trial."""
    before = rows.mode()
    monkeypatch.setattr(rows, "_install", lambda: pytest.fail("they were installed"))
    monkeypatch.setattr(rows, "_installed", None)
    try:
        Model(starter_gguf, EngineSettings(use_extra_bufts=False), _KEPT[0], lambda fraction: None)
    finally:
        monkeypatch.undo()
        rows.set_mode(before)


def test_the_table_of_calls_is_read_only_where_it_was() -> None:
    """With all calls bound at the start the loader makes it read-only."""
    code = "from janflask_ext import rows; assert rows.install() is None; print(rows.set_mode(1))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"LD_BIND_NOW": "1"}
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ggml_cpu_init", "the loaded llama.cpp has no CPU library"),
        ("ggml_nbytes", "the loaded llama.cpp cannot be tried: ggml_nbytes"),
        ("ggml_get_type_traits_cpu", "None"),  # it does without kernels of ours
    ],
)
def test_a_library_that_lacks_something_is_no_reason_to_fail(name: str, told: str) -> None:
    assert printed("from janflask_ext import rows; print(rows.install())", name) == told
