"""The header's reader on small GGUFs made here: what it reads, and that nothing cut short passes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from janflask.downloads.gguf_header import GgufError, read_header


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
