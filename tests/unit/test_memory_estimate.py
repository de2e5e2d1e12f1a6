"""The arithmetic of memory, from headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_header import GgufHeader, read_header
from janflask.models.memory_estimate import (
    PROCESS_BYTES,
    TOKEN_BYTES,
    Estimate,
    default_ctx_len,
    embedding_estimate,
    engine_estimate,
    estimate,
)
from tests.models.tiny import HEADS, KV_HEADS, LAYERS, WIDTH, write_chat

MIB = 1 << 20

SMOLLM2 = {
    "block_count": 30,
    "context_length": 8192,
    "embedding_length": 576,
    "feed_forward_length": 1536,
    "attention.head_count": 9,
    "attention.head_count_kv": 3,
    "vocab_size": 49152,
}


def header(arrays: dict[str, tuple[int, ...]] | None = None, /, **pairs: Any) -> GgufHeader:
    named = {f"llama.{key}": value for key, value in pairs.items()}
    lists = {f"llama.{key}": value for key, value in (arrays or {}).items()}
    return GgufHeader(
        version=3,
        tensor_count=0,
        parameter_count=0,
        pairs={"general.architecture": "llama", **named, **{key: len(value) for key, value in lists.items()}},
        arrays=lists,
    )


def test_the_kv_cache_is_what_llama_cpp_says_it_is() -> None:
    """llama.cpp's own words for this model: 1440 MiB for 8 x 8192 tokens, 180 MiB for one conversation or 4 x 2048."""
    smollm2 = header(**SMOLLM2)
    assert estimate(smollm2, 0, ctx_len=8192, n_parallel=8).kv == 1440 * MIB
    assert estimate(smollm2, 0, ctx_len=8192, n_parallel=1).kv == 180 * MIB
    assert estimate(smollm2, 0, ctx_len=2048, n_parallel=4).kv == 180 * MIB


def test_what_computing_takes_bounds_llama_cpps_buffers() -> None:
    """Its compute buffer for this model and steps of 256 tokens: 83.2 MiB without flash attention, 49.1 with it."""
    needed = estimate(header(**SMOLLM2), 0, ctx_len=8192, n_parallel=8, batch=256).compute
    beside = PROCESS_BYTES + 49152 * (TOKEN_BYTES + 8 * 4)
    assert 83.2 * MIB <= needed - beside <= 90 * MIB


def test_the_total_is_the_sum() -> None:
    needed = estimate(header(**SMOLLM2), 100 * MIB, ctx_len=512, n_parallel=2)
    assert needed.weights == 100 * MIB
    assert needed.total == 100 * MIB + needed.kv + needed.compute


@pytest.mark.parametrize(("cache_type", "ratio"), [("f32", 2.0), ("q8_0", 34 / 64), ("q4_0", 18 / 64)])
def test_other_cache_types(cache_type: str, ratio: float) -> None:
    smollm2 = header(**SMOLLM2)
    plain = estimate(smollm2, 0, ctx_len=4096, n_parallel=1).kv
    both = estimate(smollm2, 0, ctx_len=4096, n_parallel=1, cache_type_k=cache_type, cache_type_v=cache_type).kv
    keys = estimate(smollm2, 0, ctx_len=4096, n_parallel=1, cache_type_k=cache_type).kv
    assert both == plain * ratio
    assert keys == plain * (1 + ratio) / 2


def test_keys_and_values_of_their_own_width() -> None:
    wide = header(**SMOLLM2, **{"attention.key_length": 128, "attention.value_length": 32})
    assert estimate(wide, 0, ctx_len=256, n_parallel=1).kv == 256 * 30 * 3 * (128 + 32) * 2


def test_layers_that_differ_are_counted_one_by_one() -> None:
    """A list with nothing for the recurrent layers, as hybrid models have it."""
    some = {key: value for key, value in SMOLLM2.items() if key != "attention.head_count_kv"}
    mixed = header({"attention.head_count_kv": (0, 4) * 15}, **some)
    assert estimate(mixed, 0, ctx_len=256, n_parallel=1).kv == 256 * 15 * 4 * (64 + 64) * 2


def test_without_heads_for_keys_there_are_as_many_as_heads() -> None:
    some = {key: value for key, value in SMOLLM2.items() if key != "attention.head_count_kv"}
    assert estimate(header(**some), 0, ctx_len=256, n_parallel=1).kv == 256 * 30 * 9 * 128 * 2


def test_a_recurrent_models_state_does_not_grow_with_the_context() -> None:
    ssm = {"ssm.inner_size": 1536, "ssm.state_size": 16, "ssm.conv_kernel": 4}
    mamba = header(block_count=24, embedding_length=768, **ssm)
    short = estimate(mamba, 0, ctx_len=256, n_parallel=1)
    assert short.kv == estimate(mamba, 0, ctx_len=8192, n_parallel=1).kv > 24 * 1536 * 16 * 4
    assert estimate(mamba, 0, ctx_len=256, n_parallel=3).kv == 3 * short.kv


def test_cells_shared_by_all_conversations() -> None:
    smollm2 = header(**SMOLLM2)
    shared = estimate(smollm2, 0, ctx_len=8192, n_parallel=8, kv_cells=10_000)
    assert shared.kv == estimate(smollm2, 0, ctx_len=10_240, n_parallel=1).kv, "rounded up to 256, as llama.cpp does"


@pytest.mark.parametrize("junk", [-1, 1 << 60, "many", 1.5, None])
def test_a_header_may_claim_anything(junk: Any) -> None:
    needed = estimate(header(**dict.fromkeys(SMOLLM2, junk)), 5, ctx_len=512, n_parallel=1)
    assert needed == estimate(header(), 5, ctx_len=512, n_parallel=1)
    assert needed.kv == 0


def test_a_lying_number_of_layers_costs_nothing() -> None:
    huge = header(**SMOLLM2 | {"block_count": (1 << 24) - 1})
    assert estimate(huge, 0, ctx_len=256, n_parallel=1).kv == 256 * 4096 * 3 * 128 * 2


def test_a_real_files_header(tmp_path: Path) -> None:
    path = write_chat(tmp_path / "tiny.gguf")
    needed = estimate(read_header(path), path.stat().st_size, ctx_len=512, n_parallel=2)
    assert needed.weights == path.stat().st_size
    assert needed.kv == 2 * 512 * LAYERS * KV_HEADS * 2 * (WIDTH // HEADS) * 2


# --- embeddings -----------------------------------------------------------------------------------------------------


def of_engine(header: GgufHeader, ctx_len: int = 2048, **settings: Any) -> Estimate:
    return engine_estimate(header, 7, EngineSettings(**settings), ctx_len=ctx_len, n_parallel=4, batch=256)


def test_a_text_model_that_embeds_has_two_contexts() -> None:
    """The second one's growth of the process was 253 MiB for 2048 tokens and 390 for 8192, flash attention off."""
    smollm2 = header(**SMOLLM2)
    text = estimate(smollm2, 7, ctx_len=2048, n_parallel=4, batch=256)
    assert of_engine(smollm2) == of_engine(smollm2, embedding=False) == text
    second = embedding_estimate(smollm2, EngineSettings(embedding=True), 2048)
    assert of_engine(smollm2, embedding=True) == text + second
    assert 253 * MIB <= second.total <= 300 * MIB
    assert 390 * MIB <= embedding_estimate(smollm2, EngineSettings(flash_attn=False), 8192).total <= 500 * MIB


@pytest.mark.parametrize("made_for_it", [{"pooling_type": 1}, {"attention.causal": False}])
def test_a_model_made_for_embeddings_has_one_for_whole_inputs(made_for_it: dict[str, Any]) -> None:
    embedder = header(**SMOLLM2, **made_for_it)
    needed = of_engine(embedder)
    assert needed.kv == estimate(embedder, 0, ctx_len=2048, n_parallel=1).kv
    rows = 2048 * 49152 * 4  # of logits, one for each token of an input, and as many on their way
    assert 2 * rows <= needed.compute <= 2.5 * rows
    assert of_engine(embedder, embedding=False) == estimate(embedder, 7, ctx_len=2048, n_parallel=4, batch=256)


def test_an_input_is_no_longer_than_the_model_knows_positions() -> None:
    embedder = header(**SMOLLM2 | {"context_length": 512}, pooling_type=1)
    assert of_engine(embedder, ctx_len=8192) == of_engine(embedder, ctx_len=512)


def test_flash_attention_keeps_no_scores() -> None:
    embedder = header(**SMOLLM2 | {"vocab_size": 100}, pooling_type=2)
    kept = of_engine(embedder, ctx_len=8192, flash_attn=False).compute
    assert kept - of_engine(embedder, ctx_len=8192, flash_attn=True).compute == 9 * 8192 * 8192 * 4
    assert of_engine(embedder, ctx_len=8192) == of_engine(embedder, ctx_len=8192, flash_attn=True)


# --- what is left open ----------------------------------------------------------------------------------------------


def test_the_context_that_is_taken_without_a_setting() -> None:
    assert default_ctx_len(header(context_length=2048)) == 2048
    assert default_ctx_len(header(context_length=131_072)) == 8192
    assert default_ctx_len(header()) == 8192
