"""The header's reader on small GGUFs made here: what it reads, and that nothing cut short passes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES

from janflask.models import gguf_header
from janflask.models.gguf_header import GgufError, GgufHeader, read_header
from janflask.models.tensor_types import BLOCKS


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def small_gguf() -> bytes:
    """One F32 tensor of 8 x 2; an array of texts stands before the pairs that are looked at."""
    pairs = [
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, 15),
        text("llama.context_length") + struct.pack("<II", 4, 2048),
    ]
    tensor = text("t") + struct.pack("<IQQIQ", 2, 8, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + bytes(-len(head) % 32) + bytes(64)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(small_gguf())
    header = read_header(path)
    assert (header.architecture, header.quantization, header.context_length) == ("llama", "Q4_K_M", 2048)
    assert (header.tensor_count, header.parameter_count, header.chat_template) == (1, 16, None)
    assert header.pairs["tokenizer.ggml.tokens"] == 2


def test_cut_anywhere_it_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.gguf", small_gguf()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GgufError):
            read_header(path)


def test_a_claim_beyond_a_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0))
    with pytest.raises(GgufError, match="tensors"):
        read_header(path)


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def header_of(path: Path, *pairs: bytes) -> GgufHeader:
    """The header of a file without tensors that says so."""
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs) + 1) + architecture + b"".join(pairs))
    return read_header(path)


def test_the_shape_of_a_model(tmp_path: Path) -> None:
    header = header_of(
        tmp_path / "m.gguf",
        number("llama.block_count", 30),
        number("llama.context_length", 4096),
        number("llama.embedding_length", 576),
        number("split.count", 3),
    )
    assert (header.number("block_count"), header.context_length, header.embedding_length) == (30, 4096, 576)
    assert header.split_count == 3


def test_what_a_file_does_not_say(tmp_path: Path) -> None:
    header = header_of(tmp_path / "m.gguf", number("general.file_type", 1024), number("llama.embedding_length", 8))
    assert (header.quantization, header.pooling, header.context_length, header.name) == (None, None, None, None)
    assert header.number("block_count") is None
    assert (header.split_count, header.is_embedding, header.is_projector) == (1, False, False)


def test_a_number_of_each_layer(tmp_path: Path) -> None:
    heads = text("llama.attention.head_count_kv") + struct.pack("<IIQIII", 9, 4, 3, 2, 8, 4)
    many = text("llama.attention.head_count") + struct.pack("<IIQ", 9, 4, 2000) + bytes(8000)
    header = header_of(tmp_path / "m.gguf", heads, many)
    assert header.number("attention.head_count_kv") == 8
    assert header.arrays["llama.attention.head_count_kv"] == (2, 8, 4)
    assert header.number("attention.head_count") is None  # too many to be kept; their count is no value


@pytest.mark.parametrize(("number_", "name"), [(0, None), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank"), (9, None)])
def test_pooling(tmp_path: Path, number_: int, name: str | None) -> None:
    header = header_of(tmp_path / "m.gguf", number("llama.pooling_type", number_))
    assert (header.pooling, header.is_embedding) == (name, name is not None)


def test_tokens_that_look_ahead_make_no_text(tmp_path: Path) -> None:
    causal = text("llama.attention.causal") + struct.pack("<I?", 7, False)
    assert header_of(tmp_path / "m.gguf", causal).is_embedding


def test_a_tensor_of_absurd_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    tensor = text("t") + struct.pack("<IQQIQ", 2, 1 << 63, 1 << 63, 99, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor)
    with pytest.raises(GgufError, match="weights"):
        read_header(path)


def test_a_header_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "m.gguf", small_gguf()
    path.write_bytes(whole)
    monkeypatch.setattr(gguf_header, "MAX_HEADER", 100)
    with pytest.raises(GgufError, match="larger than any"):
        read_header(path)


@pytest.mark.parametrize(
    ("words", "knows"),
    [
        (("<|im_start|>", "<|im_end|>"), True),
        (("<|im_end|>", "a", "<|im_start|>"), True),
        (("<|im_start|>",), False),
        (("<|im_start|>", "<|im_END|>"), False),
        ((), False),
    ],
)
def test_whether_the_vocabulary_has_chatmls_words(tmp_path: Path, words: tuple[str, ...], knows: bool) -> None:
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(text, words))
    assert header_of(tmp_path / "m.gguf", tokens).knows_chatml is knows


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_a_list_of_texts_is_passed_whatever_the_blocks_it_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(gguf_header, "BLOCK", block)
    words = ["", "a", "<|im_start|>", "x" * 300, "", "<|im_end|>", "b" * 22]
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(text, words))
    header = header_of(tmp_path / "m.gguf", tokens, number("llama.context_length", 2048))
    assert (header.knows_chatml, header.pairs["tokenizer.ggml.tokens"]) == (True, len(words))
    assert header.pairs["llama.context_length"] == 2048, "what comes behind the list is found"


def test_a_text_in_a_list_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQQ", 9, 8, 1, gguf_header.MAX_STRING + 1)
    with pytest.raises(GgufError, match="bytes in a text"):
        header_of(tmp_path / "m.gguf", tokens)


def test_the_tensor_types_are_those_of_the_package() -> None:
    assert {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()} == BLOCKS
