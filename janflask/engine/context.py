"""A context over a model in llama.cpp: its KV memory, its batch, and the hot path through the extension.

Tuning opens several contexts over one model, with other knobs, one after the other.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as lib

from janflask.engine.model import Model, address
from janflask.errors import EngineError, ModelLoadError
from janflask.models.engine_settings import CACHE_TYPES
from janflask.models.memory_estimate import CELLS_STEP
from janflask_ext import backend as hot

LEAST_SLICE = 8  # prompt tokens that a step takes at least, beside a token of each sequence

ROPE_SCALING = {
    None: lib.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
    "none": lib.LLAMA_ROPE_SCALING_TYPE_NONE,
    "linear": lib.LLAMA_ROPE_SCALING_TYPE_LINEAR,
    "yarn": lib.LLAMA_ROPE_SCALING_TYPE_YARN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOptions:
    """What a context is made with; sizes in tokens."""

    ctx_len: int
    n_seq: int
    kv_cells: int
    flash_attn: bool
    kv_unified: bool
    cpu_threads: int
    batch_size: int
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    rope_freq_base: float | None = None  # None: the file's, as for the two that follow
    rope_freq_scale: float | None = None
    rope_scaling: str | None = None


class LlamaContext:
    """A context over a model: the KV memory, the batch, decode and sample."""

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.model = model
        self.options = options
        self.ctx_len = options.ctx_len
        self.vocab = model.vocab
        params = context_params(options)
        params.n_batch = options.batch_size + options.n_seq  # a step: prompt tokens and one for each sequence
        params.n_ubatch = options.batch_size
        params.n_ctx = _cells(options)
        self._pointer = model.make_context(params, f"{options.n_seq} sequences of {options.ctx_len} tokens")
        self._memory = lib.llama_get_memory(self._pointer)
        if not self._memory:
            self.close()
            raise ModelLoadError("this model generates no text, it makes embeddings: set settings.embedding to true")
        self.step_tokens: int = lib.llama_n_batch(self._pointer)  # llama.cpp lowers it for a small context
        self._context = hot.Context(address(self._pointer), address(self._memory))
        self.batch = hot.Batch(options.batch_size + options.n_seq)

    def set_threads(self, count: int) -> None:
        lib.llama_set_n_threads(self._pointer, count, count)

    def decode(self) -> int:
        return self._context.decode(self.batch)

    def sample(self, rows: list[int], samplers: list[Any], masks: list[Any] | None = None) -> list[int]:
        """The next token of each; ``masks`` are those of ``matcher.py``, None for a sequence that is free."""
        return self._context.sample(rows, samplers, masks)

    def score(
        self, row: int, tokens: array[int], start: int, count: int, sampler: Any
    ) -> list[tuple[float, list[tuple[int, float]]]]:
        """Log-probabilities of ``count`` given tokens, and the likeliest ones; the first is predicted by ``row``."""
        return self._context.score(row, tokens, start, count, sampler)

    def is_eog(self, token: int) -> bool:
        return token in self.model.eog

    def copy(self, source: int, target: int, length: int) -> None:
        """``target`` (empty) becomes the first ``length`` tokens of ``source``. Raises EngineError."""
        if self.options.kv_unified:
            self._context.seq_cp(source, target, 0, length)  # they share cells
        else:
            # Between streams llama.cpp's own copy moves the data at the next decode only: until then a state taken of
            # the target would be empty, and one put into source or target would be copied, or overwritten.
            self.clone(source, [target])
            if not self.trim(target, length):
                raise EngineError("llama.cpp did not cut a copied sequence: this memory cannot be cut")

    def trim(self, slot: int, length: int) -> bool:
        """Forgets all but the first ``length`` tokens of a slot. False: this memory cannot, the slot is as it was."""
        return self._context.seq_rm(slot, length, -1)

    def clone(self, source: int, targets: Iterable[int]) -> None:
        """Each target becomes what ``source`` is, in cells of its own. Raises EngineError when llama.cpp refuses."""
        state = self.state(source)
        for target in targets:
            self.put(target, state)

    def state(self, slot: int) -> memoryview:
        """A sequence's KV state, to be given to ``restore``. Raises EngineError when llama.cpp hands none out."""
        size = lib.llama_state_seq_get_size(self._pointer, slot)
        state = (ctypes.c_uint8 * size)()
        if lib.llama_state_seq_get_data(self._pointer, state, size, slot) != size:
            raise EngineError("llama.cpp did not hand out a sequence's state")
        return memoryview(state).cast("B")

    def put(self, slot: int, state: memoryview) -> None:
        """The (empty) slot becomes what ``state``, of this very context, was taken of. Raises EngineError."""
        view = (ctypes.c_uint8 * len(state)).from_buffer(state)
        if lib.llama_state_seq_set_data(self._pointer, view, len(state), slot) != len(state):
            raise EngineError("llama.cpp did not take a sequence's state")

    def restore(self, slot: int, state: bytes, length: int) -> bool:
        """The (empty) slot becomes what ``state`` was taken of, ``length`` tokens.

        False: llama.cpp refuses it, or it holds something else (nothing at all, or the end only); the slot is empty.
        """
        view = ctypes.cast(ctypes.c_char_p(state), ctypes.POINTER(ctypes.c_uint8))  # no copy: it may be large
        taken = lib.llama_state_seq_set_data(self._pointer, view, len(state), slot)
        if taken == len(state) and self.positions(slot) == (0, length - 1):
            return True
        self._context.seq_rm(slot, -1, -1)
        return False

    def positions(self, slot: int) -> tuple[int, int]:
        """The first and the last position that a slot holds; -1 where it holds none."""
        memory = self._memory
        return lib.llama_memory_seq_pos_min(memory, slot), lib.llama_memory_seq_pos_max(memory, slot)

    def close(self) -> None:
        lib.llama_free(self._pointer)


def _cells(options: ContextOptions) -> int:
    """Cells to ask for, in the blocks that llama.cpp makes: it cuts a step to the cells as they were asked for.

    A step has room for a token of each sequence, and some of a prompt.
    """
    least = max(options.kv_cells, options.n_seq + LEAST_SLICE)
    return -(-least // CELLS_STEP) * CELLS_STEP


def context_params(options: ContextOptions) -> Any:
    """``llama_context_params`` but for the sizes, which depend on what the context is for."""
    params = lib.llama_context_default_params()
    params.n_seq_max = options.n_seq
    params.n_threads = params.n_threads_batch = options.cpu_threads
    params.flash_attn_type = int(options.flash_attn)
    params.kv_unified = options.kv_unified
    params.type_k = CACHE_TYPES[options.cache_type_k].ggml_type
    params.type_v = CACHE_TYPES[options.cache_type_v].ggml_type
    params.rope_freq_base = options.rope_freq_base or 0.0  # 0: the file's
    params.rope_freq_scale = options.rope_freq_scale or 0.0
    params.rope_scaling_type = ROPE_SCALING[options.rope_scaling]
    params.no_perf = True
    return params
