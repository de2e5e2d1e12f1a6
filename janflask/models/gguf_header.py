"""Reads what a GGUF says of itself: its key/value pairs and where its tensors lie. Streams; every length has a limit.

The numbers behind the types are the ``gguf`` package's. Its reader is not used: it maps the file, makes an object of
every token, and believes the lengths that a file claims, while these files come from anywhere. A model's first start
waits for this, so the vocabulary's hundred thousand texts are passed a block of the file at a time.

The layout, little-endian: magic ``GGUF``, version (u32), tensor count (u64), pair count (u64), the pairs (key, type,
value), the tensors' descriptions (name, dimensions, type, offset), padding to the alignment, the tensors' data.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from janflask.models.default_layout import CHATML
from janflask.models.tensor_types import BLOCKS

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 65_536
MAX_TENSORS = 1_000_000
MAX_KEY = 65_535  # bytes
MAX_STRING = 16 * 1024 * 1024  # bytes
MAX_ARRAY = 64 * 1024 * 1024  # items
MAX_DIMENSIONS = 8
MAX_WEIGHTS = 1 << 60  # of a tensor
MAX_HEADER = 512 * 1024 * 1024  # bytes; the largest vocabularies take about 30 MB
MAX_KEPT = 1024  # items; an array of whole numbers for each layer is kept
BLOCK = 256 * 1024  # bytes of a list of texts that are read at once

_LARGE = "tokenizer."  # how the keys of what is large begin; what tells a file's kind stands before
_LOOKED_FOR = {word.encode() for word in CHATML}
_LENGTHS = {len(word) for word in _LOOKED_FOR}
_LENGTH = struct.Struct("<Q")  # stands before a text
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_WHOLE_NUMBERS = frozenset({0, 1, 2, 3, 4, 5, 7, 10, 11})  # and truth values


@cache
def _names(table: str) -> dict[int, str]:
    """The names in one of the package's tables: ``LlamaFileType``, ``PoolingType``."""
    import gguf  # here, since it brings NumPy along, and a start needs no names

    return {int(item): item.name for item in getattr(gguf, table)}


class GgufError(ValueError):
    """The file is no GGUF, or not a whole one; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF says of itself. ``pairs`` holds scalars and strings; of an array, its number of items.

    ``arrays`` has every array: the items of a short one of whole numbers (what differs from layer to layer), else none.
    """

    version: int
    tensor_count: int
    parameter_count: int
    pairs: dict[str, Any]
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)
    knows_chatml: bool = False  # whether ChatML's words are in its vocabulary

    @property
    def architecture(self) -> str | None:
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        return self.text("general.name")

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @property
    def quantization(self) -> str | None:
        """llama.cpp's name for how the weights are stored: ``Q4_K_M``, ``F16``."""
        name = self._enumerated("LlamaFileType", "general.file_type")
        return name.removeprefix("MOSTLY_").removeprefix("ALL_") if name and name != "GUESSED" else None

    @property
    def pooling(self) -> str | None:
        """How an embedding model makes one vector of many: ``mean``, ``cls``, ``last``, ``rank``; None: it does not."""
        name = self._enumerated("PoolingType", f"{self.architecture}.pooling_type")
        return name.lower() if name and name != "NONE" else None

    @property
    def is_embedding(self) -> bool:
        """Whether it is made for vectors instead of text: it pools, or its tokens look ahead."""
        return self.pooling is not None or not self.is_causal

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.pairs.get(f"{self.architecture}.attention.causal") is not False

    @property
    def is_projector(self) -> bool:
        """Whether it is no model, but what turns pictures or sound into a model's input (``mmproj``)."""
        return self.architecture == "clip" or self.text("general.type") == "mmproj"

    @property
    def is_adapter(self) -> bool:
        """Whether it is no model, but a LoRA adapter or a control vector for one."""
        return self.text("general.type") == "adapter" or self.architecture == "controlvector"

    @property
    def is_imatrix(self) -> bool:
        """Whether it is no model, but an importance matrix that a model was quantized by."""
        return self.text("general.type") == "imatrix"

    @property
    def split_count(self) -> int:
        """How many files the model is in; 1 when it is whole."""
        return max(1, self._whole("split.count") or 1)

    @property
    def context_length(self) -> int | None:
        return self.number("context_length")

    @property
    def embedding_length(self) -> int | None:
        return self.number("embedding_length")

    def number(self, key: str) -> int | None:
        """``<architecture>.<key>`` if it is a whole number; the greatest where the layers have one each."""
        full = f"{self.architecture}.{key}"
        if full in self.arrays:
            return max(self.arrays[full], default=None)
        return self._whole(full)

    def text(self, key: str) -> str | None:
        """The pair ``key`` if it is a text that is not empty."""
        value = self.pairs.get(key)
        return value if isinstance(value, str) and value else None

    def _whole(self, key: str) -> int | None:
        value = self.pairs.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _enumerated(self, table: str, key: str) -> str | None:
        number = self._whole(key)
        return _names(table).get(number) if number is not None else None


def read_beginning(path: Path) -> GgufHeader:
    """What a file says of its kind, without the vocabulary, which takes long to read, and what lies behind it.

    Raises GgufError if the file is no GGUF, OSError if it cannot be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path.stat().st_size)
        version, tensors, count = _counts(reader)
        pairs: dict[str, Any] = {}
        for _ in range(count):
            key = reader.text(MAX_KEY)
            if key.startswith(_LARGE):
                break
            kind = reader.number("<I")
            pairs[key] = reader.array()[0] if kind == _ARRAY else reader.value(kind)
    return GgufHeader(version=version, tensor_count=tensors, parameter_count=0, pairs=pairs)


def read_header(path: Path) -> GgufHeader:
    """Raises GgufError if the file is no GGUF or ends before its last tensor, OSError if it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        version, tensors, count = _counts(reader)
        pairs: dict[str, Any] = {}
        arrays: dict[str, tuple[int, ...]] = {}
        for _ in range(count):
            key = reader.text(MAX_KEY)
            kind = reader.number("<I")
            if kind == _ARRAY:
                pairs[key], arrays[key] = reader.array()
            else:
                pairs[key] = reader.value(kind)
        parameters, data_bytes = _read_tensors(reader, tensors)
        alignment = pairs.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise GgufError(f"its alignment is {alignment!r}")
        end = -(-file.tell() // alignment) * alignment + data_bytes
    if tensors and end > size:
        raise GgufError(f"it is cut short: its tensors need {end} bytes, it has {size}")
    return GgufHeader(
        version=version,
        tensor_count=tensors,
        parameter_count=parameters,
        pairs=pairs,
        arrays=arrays,
        knows_chatml=reader.found == _LOOKED_FOR,
    )


def _counts(reader: _Reader) -> tuple[int, int, int]:
    """The file's version, and how many tensors and pairs it has."""
    if reader.take(4) != MAGIC:
        raise GgufError("it does not begin with GGUF")
    version = reader.number("<I")
    if version not in VERSIONS:
        raise GgufError(f"its GGUF version is {version}; versions 2 and 3 can be read")
    tensors = reader.count("<Q", MAX_TENSORS, "tensors")
    return version, tensors, reader.count("<Q", MAX_PAIRS, "key/value pairs")


def _read_tensors(reader: _Reader, count: int) -> tuple[int, int]:
    """Weights over all tensors, and where the last tensor ends, in bytes from the beginning of the data."""
    parameters = end = 0
    for _ in range(count):
        reader.text(MAX_KEY)
        weights = 1
        for _ in range(reader.count("<I", MAX_DIMENSIONS, "dimensions of a tensor")):
            weights *= reader.number("<Q")
        if weights > MAX_WEIGHTS:
            raise GgufError(f"it claims to have a tensor of {weights} weights")
        block, block_bytes = BLOCKS.get(reader.number("<I"), (1, 0))
        end = max(end, reader.number("<Q") + -(-weights // block) * block_bytes)
        parameters += weights
    return parameters, end


class _Reader:
    """Typed reads that stay within the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = min(size, MAX_HEADER)
        self.found: set[bytes] = set()  # of the words that are looked for in lists of texts

    def take(self, length: int) -> bytes:
        self._spend(length)
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
        if kind not in _SCALARS:
            raise GgufError(f"it has a value of the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def array(self) -> tuple[int, tuple[int, ...]]:
        """How many items an array has; the items too if they are few whole numbers."""
        kind = self.number("<I")
        count = self.count("<Q", MAX_ARRAY, "items in an array")
        if kind == _STRING:
            self._pass_texts(count)
        elif kind in _WHOLE_NUMBERS and count <= MAX_KEPT:
            return count, tuple(self.number(_SCALARS[kind]) for _ in range(count))
        elif kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise GgufError(f"it has an array of the unknown type {kind}")
        return count, ()

    def _pass_texts(self, count: int) -> None:
        """Passes a list of texts; those as long as a word that is looked for are looked at."""
        block, at = b"", 0
        for _ in range(count):
            if at + _LENGTH.size > len(block):
                block, at = self._block(block[at:], _LENGTH.size), 0
            (length,) = _LENGTH.unpack_from(block, at)
            end = at + _LENGTH.size + length
            if end > len(block):
                if length > MAX_STRING:
                    raise GgufError(f"it claims to have {length} bytes in a text; {MAX_STRING} is the limit")
                block, at, end = self._block(block[at:], end - at), 0, end - at
            if length in _LENGTHS and (text := block[end - length : end]) in _LOOKED_FOR:
                self.found.add(text)
            at = end
        unread = len(block) - at
        self._file.seek(-unread, os.SEEK_CUR)
        self._left += unread

    def _block(self, rest: bytes, least: int) -> bytes:
        """``rest`` and what comes behind it in the file: ``least`` bytes together, or a block more if there is one."""
        return rest + self.take(max(least - len(rest), min(BLOCK, self._left)))

    def _skip(self, length: int) -> None:
        self._spend(length)
        self._file.seek(length, os.SEEK_CUR)

    def _spend(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise GgufError("it ends in the middle of its header, or that is larger than any")
