"""A context over a model in llama.cpp: its KV memory, its batch, and the hot path through the extension.

Measuring opens others over the same model, small ones, with other knobs.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from janflask.engine.model import Model, address
from janflask.errors import EngineError, ModelLoadError
from janflask.models.engine_settings import CACHE_TYPES
from janflask.models.memory_estimate import CELLS_STEP
from janflask_ext import backend as hot

ABORTED = 2  # llama_decode's code
LEAST_SLICE = 8  # prompt tokens that a step takes at least, beside a token of each sequence

WHOLE, PARTIAL = lib.LLAMA_STATE_SEQ_FLAGS_NONE, lib.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY  # kinds of a sequence's state

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
    """A context over a model: the KV memory, the batch, decode and sample.

    ``abort_at``: the address of a byte; while it is not 0 decodes end at once, with ABORTED.
    """

    def __init__(self, model: Model, options: ContextOptions, abort_at: int | None = None) -> None:
        self.model = model
        self.vocab = model.vocab
        self._abort_at = abort_at
        self._open(options)

    def _open(self, options: ContextOptions) -> None:
        model = self.model
        self.options = options
        self.ctx_len = options.ctx_len
        params = context_params(options)
        if self._abort_at is not None:
            params.abort_callback = lib.ggml_abort_callback(hot.abort_callback())
            params.abort_callback_data = self._abort_at
        params.n_batch = options.batch_size + options.n_seq  # a step: prompt tokens and one for each sequence
        params.n_ubatch = options.batch_size
        params.n_ctx = _cells(options)
        params.swa_full = False  # a window's layers hold the window: a fraction of the memory, and faster
        what = f"{options.n_seq} sequences of {options.ctx_len} tokens"
        self._pointer, self.pages = model.make_context(params, what)
        self._memory = lib.llama_get_memory(self._pointer)
        if not self._memory:
            self.close()
            raise ModelLoadError("this model generates no text, it makes embeddings: set settings.embedding to true")
        self.step_tokens: int = lib.llama_n_batch(self._pointer)  # llama.cpp lowers it for a small context
        self._context = hot.Context(address(self._pointer), address(self._memory))
        self.batch = hot.Batch(options.batch_size + options.n_seq)

    def reopen(self, options: ContextOptions) -> None:
        """The same over other options; it holds nothing then.

        Raises ModelLoadError: the options are the old ones; RuntimeError: not even those, there is no context any more.
        """
        before = self.options
        self.close()
        try:
            self._open(options)
        except ModelLoadError:
            try:
                self._open(before)
            except ModelLoadError as error:
                raise RuntimeError(f"the context is gone: {error.message}") from error
            raise

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

    @property
    def eog(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return self.model.eog

    def logits(self, row: int) -> NDArray[np.float32]:
        """A copy of a row's logits, of shape (n_vocab,)."""
        return np.array((ctypes.c_float * self.model.n_vocab).from_address(self._context.logits_address(row)))

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
        """Forgets all but the first ``length`` tokens of a slot. False: this memory cannot, the slot is as it was.

        Another memory than plain attention's (``Model.can_trim``) may say true and be wrong: see ``rewind``.
        """
        return self._context.seq_rm(slot, length, -1)

    def checkpoint(self, slot: int) -> memoryview:
        """What a slot needs to go back to where it is now, by ``rewind``. Raises EngineError."""
        return self._state(slot, PARTIAL)

    def rewind(self, slot: int, state: bytes | memoryview, length: int) -> bool:
        """The slot goes back to its first ``length`` tokens, where the checkpoint was taken.

        False: llama.cpp does not take it; the slot is empty.
        """
        # What is not of the partial kind has to be there: into an empty slot llama.cpp takes the state as well.
        is_there = self.positions(slot)[1] >= length - 1
        taken = is_there and lib.llama_state_seq_set_data_ext(self._pointer, _start(state), len(state), slot, PARTIAL)
        # It still holds all, and what is behind would be attended to.
        if is_there and taken == len(state) and self.trim(slot, length) and self._holds(slot, length):
            return True
        self._context.seq_rm(slot, -1, -1)
        return False

    def fork(self, source: int, target: int) -> bool:
        """``target`` (empty) becomes what ``source`` is. False: llama.cpp does not take it; the target is empty."""
        try:
            self.clone(source, [target])
        except EngineError:
            self._context.seq_rm(target, -1, -1)
            return False
        return True

    def clone(self, source: int, targets: Iterable[int]) -> None:
        """Each target becomes what ``source`` is, in cells of its own. Raises EngineError when llama.cpp refuses."""
        state = self.state(source)
        for target in targets:
            self.put(target, state)

    def state(self, slot: int) -> memoryview:
        """A sequence's KV state, to be given to ``restore``. Raises EngineError when llama.cpp hands none out."""
        return self._state(slot, WHOLE)

    def state_size(self, slot: int) -> int:
        """Bytes of a sequence's KV state."""
        return int(lib.llama_state_seq_get_size_ext(self._pointer, slot, WHOLE))

    def _state(self, slot: int, kind: int) -> memoryview:
        size = lib.llama_state_seq_get_size_ext(self._pointer, slot, kind)
        try:
            state = np.empty(size, np.uint8).data
        except MemoryError as error:
            raise EngineError(f"there is no memory for a sequence's state of {size} bytes") from error
        if not size or lib.llama_state_seq_get_data_ext(self._pointer, _start(state), size, slot, kind) != size:
            raise EngineError("llama.cpp did not hand out a sequence's state")
        return state

    def put(self, slot: int, state: memoryview) -> None:
        """The (empty) slot becomes what ``state``, of this very context, was taken of. Raises EngineError."""
        if lib.llama_state_seq_set_data(self._pointer, _start(state), len(state), slot) != len(state):
            raise EngineError("llama.cpp did not take a sequence's state")

    def restore(self, slot: int, state: bytes | memoryview, length: int) -> bool:
        """The (empty) slot becomes what ``state`` was taken of, ``length`` tokens.

        False: llama.cpp refuses it, or it holds something else (nothing at all, or the end only); the slot is empty.
        """
        taken = lib.llama_state_seq_set_data(self._pointer, _start(state), len(state), slot)
        if taken == len(state) and self._holds(slot, length):
            return True
        self._context.seq_rm(slot, -1, -1)
        return False

    def _holds(self, slot: int, length: int) -> bool:
        """Whether a slot holds ``length`` tokens, or what is needed of them to go on, as far as llama.cpp tells."""
        first, last = self.positions(slot)
        return 0 <= first <= self.model.first_needed(length) and last == length - 1

    def positions(self, slot: int) -> tuple[int, int]:
        """The first and the last position that a slot holds; -1 where it holds none."""
        memory = self._memory
        return lib.llama_memory_seq_pos_min(memory, slot), lib.llama_memory_seq_pos_max(memory, slot)

    @property
    def kv_bytes(self) -> int | None:
        """What of the KV memory is in RAM now; None where that cannot be told."""
        return self.pages.resident() if self.pages.total_bytes else None

    def clear(self) -> None:
        """Forgets all sequences; what they took of the memory goes back to the system, where that is possible."""
        lib.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        self.pages.forget()
        lib.llama_free(self._pointer)


def _start(state: bytes | memoryview) -> Any:
    """Where the bytes of a state start, for a call. No copy: it may be large.

    Nor an array of ctypes: each size of them is a class of its own, which is freed late.
    """
    return ctypes.byref(ctypes.c_uint8.from_address(np.frombuffer(state, np.uint8).ctypes.data))


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
