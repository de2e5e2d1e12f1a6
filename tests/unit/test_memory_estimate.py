"""The arithmetic of memory, from headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_header import GgufHeader, read_header
from janflask.models.memory_estimate import (
    CELL_BYTES,
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
    beside = PROCESS_BYTES + 49152 * (TOKEN_BYTES + 8 * 4) + 8 * 8192 * CELL_BYTES
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


# --- layers that do not see everything --------------------------------------------------------------------------------

GEMMA3_270M = {
    "block_count": 18,
    "context_length": 32768,
    "embedding_length": 640,
    "feed_forward_length": 2048,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 512,
    "vocab_size": 262144,
}
MAMBA = {"ssm.inner_size": 1536, "ssm.state_size": 16, "ssm.conv_kernel": 4}


def of(architecture: str, arrays: dict[str, tuple[int, ...]] | None = None, /, **pairs: Any) -> GgufHeader:
    """As ``header``, of another architecture."""
    made = header(arrays, **pairs)
    named, lists = (
        {f"{architecture}.{key.removeprefix('llama.')}": value for key, value in values.items() if "general" not in key}
        for values in (made.pairs, made.arrays)
    )
    return GgufHeader(
        version=3,
        tensor_count=0,
        parameter_count=0,
        pairs={"general.architecture": architecture, **named},
        arrays=lists,
    )


@pytest.mark.parametrize(
    ("n_parallel", "ctx_len", "kv"), [(1, 8192, 24 + 11.25), (8, 8192, 192 + 90), (3, 512, 4.5 + 22.5)]
)
def test_a_window_keeps_the_window_and_a_step(n_parallel: int, ctx_len: int, kv: float) -> None:
    """llama.cpp's own words for Gemma 3 270M and steps of 256 tokens: 3 layers with all cells, 15 with 768 at most."""
    gemma = of("gemma3", **GEMMA3_270M)
    assert estimate(gemma, 0, ctx_len=ctx_len, n_parallel=n_parallel, batch=256).kv == kv * MIB


def test_a_window_has_room_for_larger_steps() -> None:
    """Its cells are rounded up to 256: 15 layers with 1280 cells of a KiB."""
    gemma = of("gemma3", **GEMMA3_270M)
    assert estimate(gemma, 0, ctx_len=8192, n_parallel=1, batch=600).kv == (24 + 18.75) * MIB


def layers_with_a_window(architecture: str, arrays: dict[str, tuple[int, ...]] | None = None, /, **pairs: Any) -> float:
    """Of 12 layers, told from what they take."""
    some = {**SMOLLM2, "block_count": 12, "attention.sliding_window": 256, **pairs}
    whole = estimate(of("llama", **some), 0, ctx_len=8192, n_parallel=1, batch=256).kv
    kept = estimate(of(architecture, arrays or {}, **some), 0, ctx_len=8192, n_parallel=1, batch=256).kv
    return 12 * (whole - kept) / (whole * (1 - 512 / 8192))


@pytest.mark.parametrize(
    ("architecture", "pairs", "count"),
    [
        ("gemma2", {}, 6),
        ("gemma3", {}, 10),
        ("gemma3", {"attention.sliding_window_pattern": 4}, 9),
        ("gemma3", {"attention.sliding_window": 0}, 0),
        ("gpt-oss", {}, 6),
        ("cohere2", {}, 9),
        ("cohere2moe", {}, 9),
        ("gemma4", {}, 0),
        ("phi3", {}, 0),
        ("unheard-of", {}, 0),
    ],
)
def test_which_layers_have_a_window(architecture: str, pairs: dict[str, int], count: int) -> None:
    assert layers_with_a_window(architecture, **pairs) == pytest.approx(count)


def test_a_file_may_say_of_each_layer_whether_it_has_a_window() -> None:
    listed = {"attention.sliding_window_pattern": (1, 1, 0, 1) * 3}
    assert layers_with_a_window("gemma4", listed) == pytest.approx(9)
    assert layers_with_a_window("gemma3", listed) == pytest.approx(9)
    assert layers_with_a_window("llama", listed) == pytest.approx(0)


def test_heads_of_another_width_where_there_is_a_window() -> None:
    listed = {"attention.sliding_window_pattern": (1, 0)}
    wide = {"attention.key_length": 512, "attention.value_length": 512, "attention.head_count": 4}
    short = {"attention.key_length_swa": 256, "attention.value_length_swa": 128, "attention.sliding_window": 256}
    gemma = of("gemma4", listed, block_count=2, **wide, **short)
    cells = (8192 * (512 + 512) + 512 * (256 + 128)) * 4 * 2
    assert estimate(gemma, 0, ctx_len=8192, n_parallel=1, batch=256, flash_attn=True).kv == cells
    padded = (8192 * (512 + 512) + 512 * (256 + 512)) * 4 * 2
    assert estimate(gemma, 0, ctx_len=8192, n_parallel=1, batch=256).kv == padded, "llama.cpp pads the values"


def test_layers_that_use_the_keys_of_others_keep_none() -> None:
    some = {**SMOLLM2, "attention.shared_kv_layers": 10}
    assert estimate(header(**some), 0, ctx_len=256, n_parallel=1).kv == 256 * 20 * 3 * 128 * 2


def test_a_hybrid_has_a_state_in_some_layers_and_attention_in_the_others() -> None:
    some = {key: value for key, value in SMOLLM2.items() if key != "attention.head_count_kv"}
    jamba = of("jamba", {"attention.head_count_kv": (0, 0, 3) * 10}, **some, **MAMBA)
    state = 20 * (1536 * 16 + 3 * 1536) * 4
    assert estimate(jamba, 0, ctx_len=256, n_parallel=2).kv == 2 * (256 * 10 * 3 * 128 * 2 + state)


@pytest.mark.parametrize(
    ("architecture", "arrays", "pairs", "attends", "recurrent"),
    [
        ("qwen3next", {}, {}, 3, 9),
        ("qwen35", {}, {"full_attention_interval": 6}, 2, 10),
        ("qwen35", {"attention.recurrent_layers": (1, 0, 0) * 4}, {}, 8, 4),
        ("falcon-h1", {}, {}, 12, 12),
        (
            "nemotron_h",
            {"attention.head_count_kv": (0, 0, 3) * 4, "feed_forward_length": (0, 64, 0) * 4},
            {},
            4,
            4,
        ),
    ],
)
def test_which_layers_have_a_state(
    architecture: str, arrays: dict[str, tuple[int, ...]], pairs: dict[str, int], attends: int, recurrent: int
) -> None:
    made = of(architecture, arrays, **{**SMOLLM2, "block_count": 12, **MAMBA, **pairs} | dict.fromkeys(arrays, 12))
    kv = attends * 256 * 3 * 128 * 2 + recurrent * (1536 * 16 + 3 * 1536) * 4
    assert estimate(made, 0, ctx_len=256, n_parallel=1).kv == kv


@pytest.mark.parametrize(
    ("pairs", "state"),
    [
        ({"wkv.head_size": 64}, 768 * (64 + 2)),
        ({"shortconv.l_cache": 3}, 768 * 2),
        ({"kda.head_dim": 128, "ssm.conv_kernel": 4, "attention.head_count": 6}, 6 * 128 * (128 + 9)),
        (MAMBA, 1536 * 16 + 3 * 1536),
        ({**MAMBA, "ssm.group_count": 2}, 1536 * 16 + 3 * (1536 + 2 * 2 * 16)),
    ],
)
def test_how_large_a_state_is(pairs: dict[str, int], state: int) -> None:
    made = of("any", {"attention.head_count_kv": (0,) * 24}, block_count=24, embedding_length=768, **pairs)
    assert estimate(made, 0, ctx_len=256, n_parallel=1).kv == 24 * state * 4


@pytest.mark.parametrize("junk", [(), (7,), (1,) * 99, (-1, 1 << 60)])
def test_lists_of_any_length_are_borne(junk: tuple[int, ...]) -> None:
    keys = ("attention.head_count_kv", "attention.sliding_window_pattern", "attention.recurrent_layers")
    for architecture in ("gemma3", "qwen35", "nemotron_h", "llama"):
        for key in keys:
            some = {name: value for name, value in {**GEMMA3_270M, **MAMBA}.items() if name != key}
            assert estimate(of(architecture, {key: junk}, **some), 0, ctx_len=512, n_parallel=1).kv >= 0


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
    assert default_ctx_len(2048) == 2048
    assert default_ctx_len(131_072) == 8192
    assert default_ctx_len(None) == 8192
