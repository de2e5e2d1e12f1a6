"""How much memory a model will take, told from its header alone: weights, KV cache, and what computing needs.

The figures are upper bounds of what llama.cpp allocates: layers with a sliding window are counted in full, and the
scores of attention as if flash attention were off. A KV cache shared by all sequences (``kv_unified``) without flash
attention can need more for computing, as far as its cells are used at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from janflask.models.engine_settings import CACHE_TYPES, EngineSettings
from janflask.models.gguf_header import GgufHeader

DEFAULT_CTX_LEN = 8192
DEFAULT_PARALLEL = 8
BATCH_CPU, BATCH_GPU = 256, 512  # prompt tokens of a step in which nobody decodes
GIB = 1 << 30
EMBEDDING_BATCH = 512  # tokens of a decode that makes embeddings; where an input has to be seen whole, at least
MATRIX_LIMIT = 256 << 20  # bytes of attention scores above which embeddings are made with flash attention
PROCESS_BYTES = 72 << 20  # an engine's own code and libraries
TOKEN_BYTES = 448  # an entry of the vocabulary, in llama.cpp and in the engine
CELLS_STEP = 256  # llama.cpp rounds a sequence's cells up to a multiple of it
MAX_LAYERS = 4096
FLOAT = 4  # bytes


def in_gib(size: int) -> str:
    """Bytes of memory in the unit that the settings have, wherever a person reads of them: ``1.8 GiB``, ``302 MiB``."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.weights + other.weights, self.kv + other.kv, self.compute + other.compute)


def default_ctx_len(header: GgufHeader) -> int:
    """Tokens of one conversation when nobody says how many: what the model was trained for, at most 8192."""
    return min(DEFAULT_CTX_LEN, header.context_length or DEFAULT_CTX_LEN)


def embeds_alone(header: GgufHeader, settings: EngineSettings) -> bool:
    """Whether an engine with these settings makes embeddings and no text."""
    return header.is_embedding and settings.embedding is not False


def engine_estimate(
    header: GgufHeader, weights_bytes: int, settings: EngineSettings, *, ctx_len: int, n_parallel: int, batch: int
) -> Estimate:
    """What an engine takes with these settings: to make text, or embeddings, or both. Arguments as for ``estimate``."""
    if embeds_alone(header, settings):
        return Estimate(weights_bytes, 0, _own(_Shape(header))) + embedding_estimate(header, settings, ctx_len)
    text = estimate(
        header,
        weights_bytes,
        ctx_len=ctx_len,
        n_parallel=n_parallel,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        batch=batch,
        kv_cells=settings.kv_cells,
    )
    return text + embedding_estimate(header, settings, ctx_len) if settings.embedding else text


def estimate(
    header: GgufHeader,
    weights_bytes: int,
    *,
    ctx_len: int,
    n_parallel: int,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    batch: int = 512,
    kv_cells: int | None = None,
) -> Estimate:
    """What an engine takes that runs this model.

    Args:
        header: the model's (first) file's.
        weights_bytes: of all its files, and of adapters.
        ctx_len: tokens of one conversation.
        n_parallel: conversations at once.
        cache_type_k, cache_type_v: keys of ``CACHE_TYPES``.
        batch: tokens that are computed at once.
        kv_cells: tokens of all conversations together, if not ``ctx_len`` for each.
    """
    shape = _Shape(header)
    stream = _rounded(ctx_len)
    cells = _rounded(kv_cells) if kv_cells is not None else stream * n_parallel
    kv = _cache(shape, cells, cache_type_k, cache_type_v) + n_parallel * shape.state_values * FLOAT
    width = stream if kv_cells is None else cells
    compute = _passing(shape, batch, (shape.heads + 1) * width * batch * FLOAT)  # and a mask
    return Estimate(weights_bytes, kv, compute + n_parallel * shape.vocabulary * FLOAT + _own(shape))


def embedding_estimate(header: GgufHeader, settings: EngineSettings, ctx_len: int) -> Estimate:
    """What the context takes that makes embeddings of inputs of up to ``ctx_len`` tokens, beside weights and process.

    llama.cpp keeps a row of logits for every token of a decode there.
    """
    shape = _Shape(header)
    cells = max(EMBEDDING_BATCH, _rounded(min(ctx_len, header.context_length or ctx_len)))
    in_slices = header.is_causal and header.pooling in (None, "last")
    batch = EMBEDDING_BATCH if in_slices else cells
    scores = shape.heads * cells * batch * FLOAT
    mask = cells * batch * FLOAT
    if settings.flash_attn or (settings.flash_attn is None and scores > MATRIX_LIMIT):
        scores = 0
    rows = batch * (shape.vocabulary + shape.width) * FLOAT
    kv = _cache(shape, cells, settings.cache_type_k, settings.cache_type_v) + shape.state_values * FLOAT
    return Estimate(0, kv, _passing(shape, batch, scores + mask) + rows)


def _cache(shape: _Shape, cells: int, type_k: str, type_v: str) -> int:
    per_cell = shape.k_values * CACHE_TYPES[type_k].value_bytes + shape.v_values * CACHE_TYPES[type_v].value_bytes
    return int(cells * per_cell)


def _passing(shape: _Shape, batch: int, attention: int) -> int:
    """A buffer that every layer uses again: for ``attention``, or at the end for the logits, whichever is more."""
    activations = 6 * shape.width + 3 * shape.feed_forward
    return max(attention, batch * shape.vocabulary * FLOAT) + batch * activations * FLOAT


def _own(shape: _Shape) -> int:
    """The process itself, with the vocabulary."""
    return shape.vocabulary * TOKEN_BYTES + PROCESS_BYTES


class _Shape:
    """The sizes in a header that memory depends on. What is missing, or no sensible number, counts as nothing."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self.layers = min(MAX_LAYERS, self._number("block_count"))
        self.width = self._number("embedding_length")
        self.vocabulary = self._vocabulary()
        self.feed_forward = max(self._by_layer("feed_forward_length"), default=0)
        heads = self._by_layer("attention.head_count")
        kv_heads = self._by_layer("attention.head_count_kv") or heads
        self.heads = max(heads, default=0)
        head_width = self.width // self.heads if self.heads else 0
        self.k_values = sum(kv_heads) * (self._number("attention.key_length") or head_width)
        self.v_values = sum(kv_heads) * (self._number("attention.value_length") or head_width)
        self.state_values = self.layers * self._recurrent()

    def _recurrent(self) -> int:
        """Numbers that a recurrent layer remembers of a conversation, however long it is; all layers count as one."""
        inner, state = self._number("ssm.inner_size"), self._number("ssm.state_size")
        if inner:
            groups = self._number("ssm.group_count")
            return inner * state + max(0, self._number("ssm.conv_kernel") - 1) * (inner + 2 * groups * state)
        head = self._number("wkv.head_size")
        return self.width * (head + max(2, self._number("token_shift_count"))) if head else 0

    def _vocabulary(self) -> int:
        return self._number("vocab_size") or _sensible(self._header.pairs.get("tokenizer.ggml.tokens"))

    def _number(self, key: str) -> int:
        return _sensible(self._header.pairs.get(f"{self._header.architecture}.{key}"))

    def _by_layer(self, key: str) -> list[int]:
        """A number for each layer, whether the file has one for all or a list of them; empty if it has neither."""
        listed = self._header.arrays.get(f"{self._header.architecture}.{key}")
        if listed is not None:
            return [_sensible(number) for number in listed[: self.layers]]
        number = self._number(key)
        return [number] * self.layers if number else []


def _sensible(value: Any) -> int:
    """A file may claim anything: a number that could not be a size counts as 0."""
    return value if isinstance(value, int) and 0 <= value < 1 << 24 else 0


def _rounded(cells: int) -> int:
    return -(-cells // CELLS_STEP) * CELLS_STEP
