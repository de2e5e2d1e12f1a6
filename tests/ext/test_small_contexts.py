"""llama.cpp cuts a step to the context as it was asked for, and rounds contexts up: what is allowed also works."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine.builder import build
from janflask.engine.context import LlamaContext
from janflask.engine.sequence import Sequence
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from tests.ext.conftest import Load
from tests.ext.real_loop import Collector, options
from tests.models.tiny import TinyModels

PINNED = {"flash_attn": False, "slice_size": 32, "cpu_threads": 1}


@pytest.mark.parametrize(
    "sizes",
    [
        {"ctx_len": 16},
        {"ctx_len": 16, "n_parallel": 1},
        {"ctx_len": 64, "n_parallel": 32, "kv_cells": 16},
        {"ctx_len": 16, "n_parallel": 64, "kv_cells": 64},
        {"ctx_len": 300, "n_parallel": 2, "kv_unified": False},
        {"ctx_len": 16, "n_parallel": 3, "kv_unified": False, "slice_size": 512},
    ],
    ids=str,
)
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "guessed"])
def test_the_smallest_sizes_serve(
    tiny_models: TinyModels, load: Load, tmp_path: Path, sizes: dict[str, object], pinned: bool
) -> None:
    """Fewer cells than a step has tokens were a crash at start, or requests that waited for ever."""
    settings = EngineSettings(**((PINNED | {"kv_unified": True} if pinned else {}) | sizes))
    model = load(tiny_models.chat)
    spec = EngineSpec(model_id="m", model_path="m.gguf", socket_path="none", cache_dir=str(tmp_path), settings=settings)
    loop = build(model, spec, lambda stage, part: None).loop
    assert loop is not None
    assert 1 <= loop.limits.slice_size <= loop.limits.chunk_size
    sinks = []
    for words in ("hello", "a", "the cat sat", "b", "c"):
        sink = Collector()
        prompt = model.tokenize(words, add_special=True, parse_special=False)
        sequence = Sequence(
            tokens=array("i", prompt),
            n_prompt=len(prompt),
            index=0,
            max_tokens=3,
            sampler=model.make_sampler(SamplingParams(temperature=0.0), 0, prompt, loop.capacity),
            text=model.make_text(()),
            sink=sink,
        )
        loop.submit([sequence])
        sinks.append(sink)
    while loop.step():
        pass
    assert all(sink.reason is not None for sink in sinks), [sink.errors for sink in sinks]


@pytest.mark.parametrize("unified", [False, True], ids=["streams", "unified"])
@pytest.mark.parametrize("ctx_len", [16, 255, 257, 300])
def test_a_step_takes_what_was_planned_and_a_slot_its_context(
    tiny_models: TinyModels, load: Load, ctx_len: int, unified: bool
) -> None:
    context = LlamaContext(
        load(tiny_models.chat), options(ctx_len=ctx_len, kv_cells=3 * ctx_len, kv_unified=unified, batch_size=256)
    )
    assert context.step_tokens == (256 + 3 if ctx_len > 100 else 256)
    assert lib.llama_n_ctx_seq(context._pointer) >= ctx_len
    context.close()
