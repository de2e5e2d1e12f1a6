"""Reads what a GGUF says of itself: its key/value pairs and where its tensors lie. Streams; every length has a limit.

The layout, little-endian: magic ``GGUF``, version (u32), tensor count (u64), pair count (u64), the pairs (key, type,
value), the tensors' descriptions (name, dimensions, type, offset), padding to the alignment, the tensors' data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 65_536
MAX_TENSORS = 1_000_000
MAX_KEY = 65_535  # bytes
MAX_STRING = 16 * 1024 * 1024  # bytes
MAX_ARRAY = 64 * 1024 * 1024  # items
MAX_DIMENSIONS = 8

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

# ggml's tensor types: weights in a block, bytes of a block. A type that is not here is not measured.
_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
}

# llama.cpp's file types (``general.file_type``).
_QUANTIZATIONS = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"},
    **{19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"},
    **{26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16"},
    **{36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4"},
}


class GgufError(ValueError):
    """The file is no GGUF, or not a whole one; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF says of itself. ``pairs`` holds scalars and strings; of an array, its number of items."""

    version: int
    tensor_count: int
    parameter_count: int
    pairs: dict[str, Any]

    @property
    def architecture(self) -> str | None:
        return self._text("general.architecture")

    @property
    def chat_template(self) -> str | None:
        return self._text("tokenizer.chat_template")

    @property
    def quantization(self) -> str | None:
        value = self.pairs.get("general.file_type")
        return _QUANTIZATIONS.get(value) if isinstance(value, int) else None

    @property
    def context_length(self) -> int | None:
        value = self.pairs.get(f"{self.architecture}.context_length")
        return value if isinstance(value, int) else None

    def _text(self, key: str) -> str | None:
        value = self.pairs.get(key)
        return value if isinstance(value, str) and value else None


def read_header(path: Path) -> GgufHeader:
    """Raises GgufError if the file is no GGUF or ends before its last tensor, OSError if it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        if reader.take(4) != MAGIC:
            raise GgufError("it does not begin with GGUF")
        version = reader.number("<I")
        if version not in VERSIONS:
            raise GgufError(f"its GGUF version is {version}; versions 2 and 3 can be read")
        tensors = reader.count("<Q", MAX_TENSORS, "tensors")
        count = reader.count("<Q", MAX_PAIRS, "key/value pairs")
        pairs = {}
        for _ in range(count):
            key = reader.text(MAX_KEY)
            pairs[key] = reader.value(reader.number("<I"))
        parameters, data_bytes = _read_tensors(reader, tensors)
        alignment = pairs.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise GgufError(f"its alignment is {alignment!r}")
        end = -(-file.tell() // alignment) * alignment + data_bytes
    if tensors and end > size:
        raise GgufError(f"it is cut short: its tensors need {end} bytes, it has {size}")
    return GgufHeader(version=version, tensor_count=tensors, parameter_count=parameters, pairs=pairs)


def _read_tensors(reader: _Reader, count: int) -> tuple[int, int]:
    """Weights over all tensors, and where the last tensor ends, in bytes from the beginning of the data."""
    parameters = end = 0
    for _ in range(count):
        reader.text(MAX_KEY)
        weights = 1
        for _ in range(reader.count("<I", MAX_DIMENSIONS, "dimensions of a tensor")):
            weights *= reader.number("<Q")
        block, block_bytes = _BLOCKS.get(reader.number("<I"), (1, 0))
        end = max(end, reader.number("<Q") + -(-weights // block) * block_bytes)
        parameters += weights
    return parameters, end


class _Reader:
    """Typed reads that stay within the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise GgufError("it ends in the middle of its header")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def count(self, code: str, limit: int, what: str) -> int:
        value: int = self.number(code)
        if value > limit:
            raise GgufError(f"it claims to have {value} {what}; {limit} is the limit")
        return value

    def text(self, limit: int) -> str:
        return self.take(self.count("<Q", limit, "bytes in a text")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text(MAX_STRING)
        if kind == _ARRAY:
            return self._skip_array()
        if kind not in _SCALARS:
            raise GgufError(f"it has a value of the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def _skip_array(self) -> int:
        kind = self.number("<I")
        count = self.count("<Q", MAX_ARRAY, "items in an array")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self.count("<Q", MAX_STRING, "bytes in a text"))
        elif kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise GgufError(f"it has an array of the unknown type {kind}")
        return count

    def _skip(self, length: int) -> None:
        self._file.seek(length, 1)
        if self._file.tell() > self._size:
            raise GgufError("it ends in the middle of its header")
