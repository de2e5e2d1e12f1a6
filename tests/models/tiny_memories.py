"""Small GGUFs whose memory is not that of plain attention: a sliding window (Gemma 3's), a recurrent state (Mamba), or
attention in some layers and a recurrent state in the others (Jamba).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType

from tests.models.tiny import (
    CHAT_TEMPLATE,
    CONTEXT,
    FEED_FORWARD,
    HEADS,
    LAYERS,
    WIDTH,
    add_bpe_vocabulary,
    llama_tensors,
    write_file,
)

WINDOW = 32  # tokens that a layer with a window sees
STATE, INNER, KERNEL, RANK = 8, 2 * WIDTH, 4, 4  # Mamba's sizes; llama.cpp knows an expansion by two only


def write_windowed(path: Path, *, seed: int = 5, window: int = WINDOW, template: str = CHAT_TEMPLATE) -> Path:
    """A Gemma 3 of two layers: the first has a window, the second sees everything."""
    writer = GGUFWriter(path, "gemma3")
    _describe(writer, "Tiny Window")
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_sliding_window(window)
    writer.add_sliding_window_pattern(2)
    writer.add_layer_norm_rms_eps(1e-6)
    tokens = add_bpe_vocabulary(writer)
    tensors = llama_tensors(seed, tokens)
    for layer in range(LAYERS):
        for name, width in (
            ("attn_q_norm", WIDTH // HEADS),
            ("attn_k_norm", WIDTH // HEADS),
            ("post_attention_norm", WIDTH),
            ("post_ffw_norm", WIDTH),
        ):
            tensors[f"blk.{layer}.{name}.weight"] = np.ones(width, np.float32)
    return _finish(writer, tensors, path, template)


def write_recurrent(path: Path, *, seed: int = 6, template: str = CHAT_TEMPLATE) -> Path:
    """A Mamba of two layers."""
    writer = GGUFWriter(path, "mamba")
    _describe(writer, "Tiny Mamba")
    writer.add_head_count(0)
    writer.add_feed_forward_length(0)
    _describe_mamba(writer)
    tokens = add_bpe_vocabulary(writer)
    draw = np.random.default_rng(seed)
    plain = llama_tensors(seed, tokens)
    tensors = {name: plain[name] for name in ("token_embd.weight", "output_norm.weight", "output.weight")}
    for layer in range(LAYERS):
        tensors |= {f"blk.{layer}.attn_norm.weight": np.ones(WIDTH, np.float32), **_mamba_tensors(draw, layer)}
    return _finish(writer, tensors, path, template)


def write_hybrid(path: Path, *, seed: int = 7, template: str = CHAT_TEMPLATE) -> Path:
    """A Jamba of two layers: the first has a recurrent state, the second sees everything."""
    writer = GGUFWriter(path, "jamba")
    _describe(writer, "Tiny Jamba")
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([0, 1])
    writer.add_feed_forward_length(FEED_FORWARD)
    _describe_mamba(writer)
    tensors = llama_tensors(seed, add_bpe_vocabulary(writer))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        del tensors[f"blk.0.{name}.weight"]
    tensors |= _mamba_tensors(np.random.default_rng(seed), 0)
    for name, width in (("ssm_dt_norm", RANK), ("ssm_b_norm", STATE), ("ssm_c_norm", STATE)):
        tensors[f"blk.0.{name}.weight"] = np.ones(width, np.float32)
    return _finish(writer, tensors, path, template)


def _describe_mamba(writer: GGUFWriter) -> None:
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)


def _mamba_tensors(draw: np.random.Generator, layer: int) -> dict[str, np.ndarray]:
    """Random weights of a layer with a recurrent state, by name."""

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    block = f"blk.{layer}"
    return {
        f"{block}.ssm_in.weight": matrix(2 * INNER, WIDTH),
        f"{block}.ssm_conv1d.weight": matrix(INNER, KERNEL),
        f"{block}.ssm_conv1d.bias": np.zeros(INNER, np.float32),
        f"{block}.ssm_x.weight": matrix(RANK + 2 * STATE, INNER),
        f"{block}.ssm_dt.weight": matrix(INNER, RANK),
        f"{block}.ssm_dt.bias": np.zeros(INNER, np.float32),
        f"{block}.ssm_a": -np.tile(np.arange(1, STATE + 1, dtype=np.float32), (INNER, 1)),
        f"{block}.ssm_d": np.ones(INNER, np.float32),
        f"{block}.ssm_out.weight": matrix(WIDTH, INNER),
    }


def _describe(writer: GGUFWriter, name: str) -> None:
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)


def _finish(writer: GGUFWriter, tensors: dict[str, np.ndarray], path: Path, template: str) -> Path:
    writer.add_chat_template(template)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    write_file(writer)
    return path
