"""Small GGUFs for tests: real files that llama.cpp loads, with random but seeded weights, each well under 1 MB.

A file's bytes depend on nothing but the arguments: the same call makes the same model, and so the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, LlamaFileType, PoolingType, TokenType

CHAT_ID = "tiny-chat"
EMBEDDING_ID = "tiny-embed"

CONTEXT = 512  # tokens the chat model says it was trained for
WIDTH = 64
HEADS = 2
KV_HEADS = 1
FEED_FORWARD = 96
LAYERS = 2
LOUDNESS = 3.0  # how far apart the logits of a random model lie; greedy answers are then no matter of rounding

EMBEDDING_CONTEXT = 128
EMBEDDING_WIDTH = 32

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
POOLING = {
    "none": PoolingType.NONE,
    "mean": PoolingType.MEAN,
    "cls": PoolingType.CLS,
    "last": PoolingType.LAST,
    "rank": PoolingType.RANK,
}
WORDS = (
    *("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "and", "is", "hello", "world", "red", "blue", "green"),
    *("query", "document", "search", "result", "un", "good", "bad"),
)
WORD_ENDS = ("s", "ed", "ing", "er", "ly", "ness")  # WordPiece's "##s" and so on


@dataclass(frozen=True, slots=True)
class TinyModels:
    """What ``write_all`` made, all in one folder."""

    chat: Path
    other_chat: Path  # the same vocabulary and other weights, so other answers
    embedding: Path  # bert, mean pooling
    cls_embedding: Path  # bert, the first token's vector
    lora: Path  # an adapter for ``chat``
    split: tuple[Path, ...]  # ``chat`` in two parts, in order
    unknown_architecture: Path
    cut_short: Path  # ``chat`` without its last third
    missing_tensor: Path
    reranker: Path  # bert, pooling for ranks


def write_all(folder: Path) -> TinyModels:
    """Every kind of model there is here, in ``folder``."""
    return TinyModels(
        chat=write_chat(folder / "tiny-chat-F32.gguf"),
        other_chat=write_chat(folder / "tiny-other-F32.gguf", seed=2),
        embedding=write_embedding(folder / "tiny-embed-F32.gguf"),
        cls_embedding=write_embedding(folder / "tiny-cls-F32.gguf", pooling="cls"),
        lora=write_lora(folder / "tiny-lora.gguf"),
        split=write_split(folder, "tiny-split"),
        unknown_architecture=write_chat(folder / "unknown-architecture.gguf", architecture="orrery"),
        cut_short=cut(write_chat(folder / "cut-short.gguf")),
        missing_tensor=write_chat(folder / "missing-tensor.gguf", without=("blk.1.ffn_down.weight",)),
        reranker=write_embedding(folder / "tiny-rank-F32.gguf", pooling="rank"),
    )


def install(
    data_dir: Path,
    model_id: str,
    files: Path | Sequence[Path],
    *,
    settings: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Puts a model into ``data_dir`` as a download would: ``models/<id>/`` with its file and ``model.json``."""
    folder = data_dir / "models" / model_id
    folder.mkdir(parents=True)
    files = [files] if isinstance(files, Path) else files
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    described = {
        "id": model_id,
        "object": "model",
        "name": model_id,
        "version": "1.0",
        "format": "gguf",
        "created": 1_700_000_000,
        "sources": [{"filename": file.name, "url": f"https://models.example/{file.name}"} for file in files],
        "settings": {"llama_model_path": files[0].name, **(settings or {})},
        "parameters": dict(parameters or {}),
        "metadata": {"author": "nobody", "tags": ["tiny"], "size": sum(file.stat().st_size for file in files)},
        "engine": "nitro",
    }
    (folder / "model.json").write_text(json.dumps(described, indent=2))
    return folder


# --- a model that chats ---------------------------------------------------------------------------------------------


def write_chat(
    path: Path,
    *,
    seed: int = 1,
    context: int = CONTEXT,
    architecture: str = "llama",
    template: str | None = CHAT_TEMPLATE,
    turn_words: tuple[str, str] = ("<|im_start|>", "<|im_end|>"),
    without: Sequence[str] = (),
    split_tensors: int = 0,
    extra: Mapping[str, TokenType] | None = None,
    declared: Mapping[str, str] | None = None,
    pooling: str | None = None,
) -> Path:
    """A llama of two layers with a byte-level BPE vocabulary. ``without`` names tensors to be left out.

    ``turn_words`` are its control tokens around a turn, ChatML's unless others are given. ``extra`` are further tokens.
    ``declared`` says which token the header names as ``eos``, ``eot``, ``fim_sep`` and so on, in place of an ``eos``
    that is the second of the turn's words. With ``pooling`` the file says that it makes vectors.
    """
    writer = GGUFWriter(path, architecture, split_max_tensors=split_tensors)
    writer.add_name("Tiny Chat")
    writer.add_author("nobody")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if pooling is not None:
        writer.add_pooling_type(POOLING[pooling])
    tokens = add_bpe_vocabulary(writer, extra, declared, turn_words)
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in llama_tensors(seed, tokens).items():
        if name not in without:
            writer.add_tensor(name, tensor)
    write_file(writer)
    return path


def llama_tensors(seed: int, tokens: Sequence[str]) -> dict[str, np.ndarray]:
    """Random weights of a llama's tensors, by name."""
    draw = np.random.default_rng(seed)
    kv_width = WIDTH // HEADS * KV_HEADS

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    output = matrix(len(tokens), WIDTH) * LOUDNESS
    # Bytes that are no text by themselves never win a greedy draw, so that answers can be read and compared.
    output[[number for number, token in enumerate(tokens) if not token.isascii() and token[0] != "Ġ"]] = 0
    tensors = {
        "token_embd.weight": draw.standard_normal((len(tokens), WIDTH)).astype(np.float32),
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": output,
    }
    for layer in range(LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{layer}.attn_q.weight": matrix(WIDTH, WIDTH),
            f"blk.{layer}.attn_k.weight": matrix(kv_width, WIDTH),
            f"blk.{layer}.attn_v.weight": matrix(kv_width, WIDTH),
            f"blk.{layer}.attn_output.weight": matrix(WIDTH, WIDTH),
            f"blk.{layer}.ffn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{layer}.ffn_gate.weight": matrix(FEED_FORWARD, WIDTH),
            f"blk.{layer}.ffn_up.weight": matrix(FEED_FORWARD, WIDTH),
            f"blk.{layer}.ffn_down.weight": matrix(WIDTH, FEED_FORWARD),
        }
    return tensors


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: the printable ones stand for themselves, the others for letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, spare = [], 0x100
    for byte in range(256):
        if byte in printable:
            letters.append(chr(byte))
        else:
            letters.append(chr(spare))
            spare += 1
    return letters


def add_bpe_vocabulary(
    writer: GGUFWriter,
    extra: Mapping[str, TokenType] | None = None,
    declared: Mapping[str, str] | None = None,
    turn_words: tuple[str, str] = ("<|im_start|>", "<|im_end|>"),
) -> list[str]:
    """The tokens in order; for the arguments see ``write_chat``."""
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("Ġ", "a"), ("Ġ", "the"), ("l", "l"), ("o", "u")]
    types = dict.fromkeys(("<|endoftext|>", *turn_words), TokenType.CONTROL)
    types |= dict.fromkeys(_byte_letters() + ["".join(pair) for pair in merges], TokenType.NORMAL)
    types |= extra or {}  # a token that is there already keeps its number
    tokens = list(types)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(list(types.values()))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    for kind, token in ({"eos": turn_words[1]} if declared is None else declared).items():
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", tokens.index(token))
    writer.add_add_bos_token(False)
    return tokens


def write_split(folder: Path, name: str) -> tuple[Path, ...]:
    """The chat model in two parts, ``<name>-00001-of-00002.gguf`` and its follower."""
    write_chat(folder / f"{name}.gguf", split_tensors=12)
    parts = tuple(sorted(folder.glob(f"{name}-*.gguf")))
    expected = [f"{name}-0000{number}-of-00002.gguf" for number in (1, 2)]
    if [part.name for part in parts] != expected:
        raise ValueError(f"the split gave {[part.name for part in parts]}, not {expected}")
    return parts


def write_lora(path: Path, *, seed: int = 3, rank: int = 4, alpha: float = 16.0, width: int = WIDTH) -> Path:
    """An adapter for the chat model that changes its answers. With another ``width`` it fits no model here."""
    draw = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for layer in range(LAYERS):
        name = f"blk.{layer}.attn_output.weight"
        writer.add_tensor(f"{name}.lora_a", draw.standard_normal((rank, width)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", draw.standard_normal((width, rank)).astype(np.float32))
    write_file(writer)
    return path


def cut(path: Path) -> Path:
    """Takes a file's last third away, as a download that broke off would leave it."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


# --- a model that embeds ----------------------------------------------------------------------------------------------


def write_embedding(
    path: Path,
    *,
    seed: int = 4,
    pooling: str | None = "mean",
    context: int = EMBEDDING_CONTEXT,
    constant: float | None = None,
) -> Path:
    """A bert of two layers with a WordPiece vocabulary; ``pooling`` None leaves the file without a word about it.

    ``constant`` takes the place of every weight.
    """
    writer = GGUFWriter(path, "bert")
    writer.add_name("Tiny Embed")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(context)
    writer.add_embedding_length(EMBEDDING_WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * EMBEDDING_WIDTH)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(POOLING[pooling])
    tokens = _add_wordpiece_vocabulary(writer)
    for name, tensor in _bert_tensors(seed, len(tokens), context, ranks=pooling == "rank").items():
        writer.add_tensor(name, tensor if constant is None else np.full_like(tensor, constant))
    write_file(writer)
    return path


def _bert_tensors(seed: int, tokens: int, context: int, *, ranks: bool) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    width, inner = EMBEDDING_WIDTH, 2 * EMBEDDING_WIDTH

    def table(rows: int) -> np.ndarray:
        return draw.standard_normal((rows, width)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        weight = draw.standard_normal((rows, columns)) / np.sqrt(columns)
        bias = draw.standard_normal(rows) / 10
        return {f"{name}.weight": weight.astype(np.float32), f"{name}.bias": bias.astype(np.float32)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}

    tensors = {
        "token_embd.weight": table(tokens),
        "token_types.weight": table(2),
        "position_embd.weight": table(context) / 4,
        **norm("token_embd_norm"),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= {
            **linear(f"{block}.attn_q", width, width),
            **linear(f"{block}.attn_k", width, width),
            **linear(f"{block}.attn_v", width, width),
            **linear(f"{block}.attn_output", width, width),
            **norm(f"{block}.attn_output_norm"),
            **linear(f"{block}.ffn_up", inner, width),
            **linear(f"{block}.ffn_down", width, inner),
            **norm(f"{block}.layer_output_norm"),
        }
    if ranks:
        tensors |= {**linear("cls", width, width), **linear("cls.output", 1, width)}
    return tensors


def _add_wordpiece_vocabulary(writer: GGUFWriter) -> list[str]:
    """Words begin with U+2581 in a GGUF; what goes on with a word has nothing before it."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    signs = letters + "0123456789.,!?'-"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ordinary = [f"\u2581{sign}" for sign in signs] + list(letters)
    ordinary += [f"\u2581{word}" for word in WORDS if len(word) > 1] + [end for end in WORD_ENDS if len(end) > 1]
    tokens = special + ordinary
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(special) + [TokenType.NORMAL] * len(ordinary))
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_mask_token_id(4)
    return tokens


def write_file(writer: GGUFWriter) -> None:
    """Writes what was added, to the path that the writer was made with."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
