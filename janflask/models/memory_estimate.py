"""How much memory a model will take, told from its header alone: weights, KV cache, and what computing needs.

The figures are upper bounds of what llama.cpp allocates. What each layer keeps ``memory_shape.py`` tells; the scores of
attention count as if flash attention were off. A KV cache shared by all sequences (``kv_unified``) without flash
attention can need more for computing, as far as its cells are used at once.

Beside it an engine may keep KV states that have no slot, and checkpoints, within a budget of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from janflask.models.engine_settings import CACHE_TYPES, EngineSettings
from janflask.models.gguf_header import GgufHeader
from janflask.models.memory_shape import Shape

DEFAULT_CTX_LEN = 8192
DEFAULT_PARALLEL = 8
BATCH_CPU, BATCH_GPU = 256, 512  # prompt tokens of a step in which nobody decodes
GIB = 1 << 30
EMBEDDING_BATCH = 512  # tokens of a decode that makes embeddings; where an input has to be seen whole, at least
MATRIX_LIMIT = 256 << 20  # bytes of attention scores above which embeddings are made with flash attention
PROCESS_BYTES = 72 << 20  # an engine's own code and libraries
TOKEN_BYTES = 448  # an entry of the vocabulary, in llama.cpp and in the engine
CELLS_STEP = 256  # llama.cpp rounds a sequence's cells up to a multiple of it
CELL_BYTES = 48  # llama.cpp's notes on a cell: its position, and the sequences that it belongs to
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
    states: int = 0  # of KV beside the slots: what the engine may come to keep there

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute + self.states

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.weights + other.weights,
            self.kv + other.kv,
            self.compute + other.compute,
            self.states + other.states,
        )


def default_ctx_len(trained: int | None) -> int:
    """Tokens of one conversation that nobody has to ask for: what the model was trained for, at most 8192."""
    return min(DEFAULT_CTX_LEN, trained or DEFAULT_CTX_LEN)


def longer_ctx_lens(trained: int | None) -> tuple[int, ...]:
    """What is better still, if there is room: what the model was trained for, then half of it, and so on."""
    found = []
    length = trained or 0
    while length > DEFAULT_CTX_LEN:
        found.append(length)
        length //= 2
    return tuple(found)


def embeds_alone(header: GgufHeader, settings: EngineSettings) -> bool:
    """Whether an engine with these settings makes embeddings and no text."""
    return header.is_embedding and settings.embedding is not False


def engine_estimate(
    header: GgufHeader, weights_bytes: int, settings: EngineSettings, *, ctx_len: int, n_parallel: int, batch: int
) -> Estimate:
    """What an engine takes with these settings: to make text, or embeddings, or both. Arguments as for ``estimate``."""
    if embeds_alone(header, settings):
        return Estimate(weights_bytes, 0, _own(Shape(header))) + embedding_estimate(header, settings, ctx_len)
    text = estimate(
        header,
        weights_bytes,
        ctx_len=ctx_len,
        n_parallel=n_parallel,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        batch=batch,
        kv_cells=settings.kv_cells,
        flash_attn=settings.flash_attn,
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
    flash_attn: bool | None = None,
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
        flash_attn: None: nobody knows yet.
    """
    shape = Shape(header, padded=flash_attn is not True)
    stream = _rounded(ctx_len)
    cells = _rounded(kv_cells) if kv_cells is not None else stream * n_parallel
    short = _rounded(shape.window + batch) if shape.window else 0
    kv = _cache(shape, cells, min(cells, n_parallel * short), cache_type_k, cache_type_v)
    states = n_parallel * shape.state_values * FLOAT
    width = stream if kv_cells is None else cells
    masks = width + min(width, short)
    compute = _passing(shape, batch, (shape.heads * width + masks) * batch * FLOAT)
    notes = cells * CELL_BYTES
    return Estimate(weights_bytes, kv + states, compute + notes + n_parallel * shape.vocabulary * FLOAT + _own(shape))


def embedding_estimate(header: GgufHeader, settings: EngineSettings, ctx_len: int) -> Estimate:
    """What the context takes that makes embeddings of inputs of up to ``ctx_len`` tokens, beside weights and process.

    llama.cpp keeps a row of logits for every token of a decode there.
    """
    shape = Shape(header)
    cells = max(EMBEDDING_BATCH, _rounded(min(ctx_len, header.context_length or ctx_len)))
    in_slices = header.is_causal and header.pooling in (None, "last")
    batch = EMBEDDING_BATCH if in_slices else cells
    scores = shape.heads * cells * batch * FLOAT
    mask = cells * batch * FLOAT
    if settings.flash_attn or (settings.flash_attn is None and scores > MATRIX_LIMIT):
        scores = 0
    rows = batch * (shape.vocabulary + shape.width) * FLOAT
    kv = _cache(shape, cells, cells, settings.cache_type_k, settings.cache_type_v) + shape.state_values * FLOAT
    return Estimate(0, kv, _passing(shape, batch, scores + mask) + rows)


def _cache(shape: Shape, cells: int, short: int, type_k: str, type_v: str) -> int:
    """Bytes of ``cells`` in the layers that see everything, and of ``short`` in those with a window."""
    keys, values = (
        cells * whole + short * windowed for whole, windowed in zip(shape.whole, shape.windowed, strict=True)
    )
    return int(keys * CACHE_TYPES[type_k].value_bytes + values * CACHE_TYPES[type_v].value_bytes)


def _passing(shape: Shape, batch: int, attention: int) -> int:
    """A buffer that every layer uses again: for ``attention``, or at the end for the logits, whichever is more."""
    activations = 6 * shape.width + 3 * shape.feed_forward
    return max(attention, batch * shape.vocabulary * FLOAT) + batch * activations * FLOAT


def _own(shape: Shape) -> int:
    """The process itself, with the vocabulary."""
    return shape.vocabulary * TOKEN_BYTES + PROCESS_BYTES


def _rounded(cells: int) -> int:
    return -(-cells // CELLS_STEP) * CELLS_STEP
