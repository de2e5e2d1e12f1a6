"""The knobs before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from janflask.engine.context import ContextOptions
from janflask.engine.guesses import guess
from janflask.models.engine_settings import EngineSettings

OPTIONS = ContextOptions(
    ctx_len=8192, n_seq=8, kv_cells=65536, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)


@dataclass
class Machine:
    on_gpu: bool = False
    n_params: int = 135_000_000


def test_on_a_cpu():
    knobs = guess(Machine(), EngineSettings(), OPTIONS)
    assert (knobs.flash_attn, knobs.kv_unified, knobs.slice_size, knobs.cpu_threads) == (True, False, 64, 2)
    assert (knobs.source, knobs.measurements) == ("guessed", {})


def test_on_a_gpu():
    knobs = guess(Machine(on_gpu=True), EngineSettings(), replace(OPTIONS, batch_size=512))
    assert (knobs.flash_attn, knobs.slice_size) == (True, 256)


@pytest.mark.parametrize(("n_params", "size"), [(1e9, 64), (3e9, 32), (7e9, 16), (70e9, 16)])
def test_a_large_models_slice_holds_nobody_up_for_long(n_params, size):
    for settings in (EngineSettings(), EngineSettings(flash_attn=False)):
        assert guess(Machine(n_params=int(n_params)), settings, OPTIONS).slice_size == size


@pytest.mark.parametrize(
    ("settings", "options", "flash", "unified"),
    [
        (EngineSettings(), replace(OPTIONS, kv_cells=10000), True, True),
        (EngineSettings(), replace(OPTIONS, n_seq=1, kv_cells=8192), True, True),
        (EngineSettings(kv_unified=True), OPTIONS, True, True),
        (EngineSettings(flash_attn=False), OPTIONS, False, False),
        (EngineSettings(), replace(OPTIONS, cache_type_v="q8_0"), True, False),
    ],
    ids=["shared cells", "one sequence", "unified", "no flash", "quantized V"],
)
def test_what_settings_and_sizes_decide(settings, options, flash, unified):
    knobs = guess(Machine(), settings, options)
    assert (knobs.flash_attn, knobs.kv_unified) == (flash, unified)


def test_reproducible_is_without_flash_attention_anywhere():
    assert not guess(Machine(on_gpu=True), EngineSettings(reproducible=True), OPTIONS).flash_attn


def test_all_pinned():
    settings = EngineSettings(flash_attn=True, kv_unified=False, slice_size=48, cpu_threads=3)
    knobs = guess(Machine(), settings, replace(OPTIONS, cpu_threads=3))
    assert (knobs.flash_attn, knobs.slice_size, knobs.cpu_threads, knobs.source) == (True, 48, 3, "pinned")
