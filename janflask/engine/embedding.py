"""A llama.cpp context that makes vectors of texts: what pooling, how large, one decode for several inputs.

Two ways to compute an input. A causal model whose vector is that of the last token takes it in slices, as prompts are.
Any other has to see the whole of it in one micro-batch, since every token looks at every other, or all are averaged.
"""

from __future__ import annotations

import ctypes
import logging
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from llama_cpp import llama_cpp as lib

from janflask.engine.context import ContextOptions, context_params
from janflask.engine.cores import usable_cores
from janflask.engine.model import Model
from janflask.errors import EngineError, ModelLoadError
from janflask.models.engine_settings import EngineSettings
from janflask.models.memory_estimate import DEFAULT_CTX_LEN, EMBEDDING_BATCH, MATRIX_LIMIT, default_ctx_len, in_gib

log = logging.getLogger(__name__)

POOLING_NAMES = {
    lib.LLAMA_POOLING_TYPE_NONE: "none",
    lib.LLAMA_POOLING_TYPE_MEAN: "mean",
    lib.LLAMA_POOLING_TYPE_CLS: "cls",
    lib.LLAMA_POOLING_TYPE_LAST: "last",
    lib.LLAMA_POOLING_TYPE_RANK: "rank",
}
POOLED = frozenset({"mean", "cls", "last"})
DEFAULT_INPUTS = 32  # of a decode
PACK_TOKENS = EMBEDDING_BATCH  # of a decode of several inputs; a longer one is computed by itself
MEMORY_SHARE = 0.25  # of what is free, for the logits that llama.cpp keeps a row of for every token of an input


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPlan:
    """How a model's inputs are computed."""

    options: ContextOptions
    pooling: str
    in_slices: bool
    notes: tuple[str, ...] = ()


def own_pooling(model: Model) -> str:
    """What the file says of how its tokens' vectors become one; ``none`` if it says nothing."""
    text = model.metadata.get(f"{model.architecture}.pooling_type", "")
    return POOLING_NAMES.get(int(text), "none") if text.isdigit() else "none"


def is_causal(model: Model) -> bool:
    """Whether a token sees only those before it."""
    return model.metadata.get(f"{model.architecture}.attention.causal") != "false"


def is_made_for_embeddings(model: Model) -> bool:
    """An embedding model by what its file says. Raises ModelLoadError for one that ranks."""
    pooling = own_pooling(model)
    if pooling == "rank":
        raise ModelLoadError(
            "this model ranks documents (its pooling is rank), which is not served: use one that makes embeddings or "
            "generates text"
        )
    return pooling in POOLED or not is_causal(model)


def plan_embeddings(model: Model, settings: EngineSettings) -> EmbeddingPlan:
    """Sizes and pooling. Raises ModelLoadError for a model that ranks."""
    causal, made_for_it = is_causal(model), is_made_for_embeddings(model)
    notes: list[str] = []
    pooling = own_pooling(model)
    if pooling not in POOLED:
        pooling = "last" if causal else "mean"
        notes.append(f"embeddings: the file names no pooling, {pooling} is used")
    if not made_for_it:
        notes.append("embeddings: the model is made for text, its vectors compare texts less well than an embedder's")
    in_slices = causal and pooling == "last"
    ctx_len = _longest_input(model, settings, in_slices, notes)
    batch_size = PACK_TOKENS if in_slices else max(PACK_TOKENS, ctx_len)
    cells = max(PACK_TOKENS, ctx_len)
    matrix = 4 * lib.llama_model_n_head(model.pointer) * batch_size * cells
    flash_attn = matrix > MATRIX_LIMIT if settings.flash_attn is None else settings.flash_attn
    options = ContextOptions(
        ctx_len=ctx_len,
        n_seq=settings.n_parallel or DEFAULT_INPUTS,
        kv_cells=cells,
        flash_attn=flash_attn,
        kv_unified=True,
        cpu_threads=settings.cpu_threads or usable_cores(),
        batch_size=batch_size,
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        rope_freq_base=settings.rope_freq_base,
        rope_freq_scale=settings.rope_freq_scale,
        rope_scaling=settings.rope_scaling,
    )
    return EmbeddingPlan(options=options, pooling=pooling, in_slices=in_slices, notes=tuple(notes))


def _longest_input(model: Model, settings: EngineSettings, in_slices: bool, notes: list[str]) -> int:
    """Tokens of the longest input that is taken."""
    trained = model.ctx_train or DEFAULT_CTX_LEN
    if settings.ctx_len is not None:
        # Many of these models have a table of positions: beyond its end there is nothing to read.
        if settings.ctx_len > trained and settings.rope_freq_scale is None:
            notes.append(f"embeddings: ctx_len is {trained}, not {settings.ctx_len}: the model knows no more positions")
            return trained
        return settings.ctx_len
    wanted = default_ctx_len(trained)
    if in_slices:
        return wanted
    free = psutil.virtual_memory().available
    fits = max(PACK_TOKENS, int(free * MEMORY_SHARE / (4 * model.n_vocab)))
    if fits < wanted:
        notes.append(
            f"embeddings: ctx_len is {fits}, not {wanted}: an input of {wanted} tokens takes "
            f"{in_gib(4 * model.n_vocab * wanted)} and {in_gib(free)} are free"
        )
    return min(wanted, fits)


class EmbeddingContext:
    """The context. Not thread-safe.

    Raises ModelLoadError when llama.cpp cannot make it.
    """

    def __init__(self, model: Model, plan: EmbeddingPlan) -> None:
        self.model = model
        self.plan = plan
        self.capacity = plan.options.ctx_len
        self.width = model.embedding_width
        params = context_params(plan.options)
        params.n_ctx = plan.options.kv_cells
        params.n_batch = params.n_ubatch = plan.options.batch_size
        params.embeddings = True
        params.pooling_type = {name: number for number, name in POOLING_NAMES.items()}[plan.pooling]
        self._pointer, _ = model.make_context(params, f"inputs of {self.capacity} tokens")
        if lib.llama_n_ubatch(self._pointer) < plan.options.batch_size:  # what is pooled is pooled of a micro-batch
            self.close()
            raise ModelLoadError(f"llama.cpp takes no input of {plan.options.batch_size} tokens at once: lower ctx_len")
        self._memory: Any = lib.llama_get_memory(self._pointer)  # None: it keeps nothing, as encoders do
        self._batch = _Batch(plan.options.batch_size)

    def tokenize(self, text: str) -> array[int]:
        """Token ids with the special ones that the model wants around a text. Raises InvalidRequestError."""
        return self.model.tokenize(text, add_special=True, parse_special=False)

    def embed(self, inputs: Sequence[array[int]]) -> list[bytes | None]:
        """A vector of length 1 for each input, as little-endian 32-bit floats; None where it has no direction.

        The inputs have at most ``PACK_TOKENS`` tokens together, or there is one of at most ``capacity``. Raises
        EngineError when llama.cpp refuses them.
        """
        if self._memory:
            lib.llama_memory_clear(self._memory, False)
        if len(inputs) == 1 and len(inputs[0]) > self.plan.options.batch_size:
            size = self.plan.options.batch_size
            for start in range(0, len(inputs[0]), size):
                self._decode([inputs[0][start : start + size]], start)
        else:
            self._decode(inputs, 0)
        return [self._vector(number) for number in range(len(inputs))]

    def _decode(self, inputs: Sequence[array[int]], position: int) -> None:
        code = lib.llama_decode(self._pointer, self._batch.fill(inputs, position))
        if code != 0:
            raise EngineError(f"llama.cpp could not compute these inputs (llama_decode gave {code})")

    def _vector(self, sequence: int) -> bytes | None:
        row = lib.llama_get_embeddings_seq(self._pointer, sequence)
        if not row:
            raise EngineError("llama.cpp gave no embedding")
        vector = np.ctypeslib.as_array(row, (self.width,)).astype(np.float64)
        length = float(np.sqrt(vector @ vector))
        if not np.isfinite(length) or length == 0:
            return None
        return bytes((vector / length).astype("<f4").tobytes())

    def prove(self) -> None:
        """One input: a library that crashes on this machine crashes here, not in a request. Raises EngineError."""
        if self.embed([array("i", [0])]) == [None]:
            raise EngineError("the start-up proof failed: the model computes no numbers, its weights may be damaged")

    def close(self) -> None:
        lib.llama_free(self._pointer)


class _Batch:
    """A ``llama_batch`` over arrays of our own, filled again for every decode."""

    def __init__(self, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._places = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._outputs = np.ones(capacity, np.int8)  # every token's: pooling takes them all
        integers = ctypes.POINTER(ctypes.c_int32)
        self._batch = lib.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(integers),
            pos=self._positions.ctypes.data_as(integers),
            n_seq_id=self._counts.ctypes.data_as(integers),
            seq_id=self._places.ctypes.data_as(ctypes.POINTER(integers)),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, inputs: Sequence[array[int]], position: int) -> Any:
        """Each input a sequence; the first token of each stands at ``position``."""
        end = 0
        for number, tokens in enumerate(inputs):
            start, end = end, end + len(tokens)
            if end > len(self._tokens):
                raise ValueError(f"{end} tokens do not fit into a batch of {len(self._tokens)}")
            self._tokens[start:end] = tokens
            self._positions[start:end] = np.arange(position, position + len(tokens))
            self._sequences[start:end] = number
        self._batch.n_tokens = end
        return self._batch
