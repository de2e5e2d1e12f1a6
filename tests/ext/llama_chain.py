"""llama.cpp's own samplers through its C interface, as a function from a row to a distribution."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

Distribution = dict[int, float]


@contextmanager
def vocabulary(path: Path) -> Iterator[Any]:
    """A model's vocabulary without its weights."""
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise RuntimeError(f"{path} can't be loaded")
    try:
        yield llama_cpp.llama_model_get_vocab(model)
    finally:
        llama_cpp.llama_model_free(model)


def piece(vocab: Any, token: int) -> bytes:
    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
    return buffer.raw[:length] if length > 0 else b""


def tokenize(vocab: Any, text: bytes) -> list[int]:
    tokens = (llama_cpp.llama_token * (len(text) + 8))()
    count = llama_cpp.llama_tokenize(vocab, text, len(text), tokens, len(tokens), False, False)
    return list(tokens[:count])


def bias_sampler(n_vocab: int, biases: Sequence[tuple[int, float]]) -> Any:
    array = (llama_cpp.llama_logit_bias * len(biases))()
    for entry, (token, bias) in zip(array, biases, strict=True):
        entry.token, entry.bias = token, bias
    return llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(biases), array)


def dry_sampler(
    vocab: Any, multiplier: float, base: float, allowed: int, last_n: int, breakers: Sequence[bytes]
) -> Any:
    array = (ctypes.c_char_p * len(breakers))(*breakers)
    return llama_cpp.llama_sampler_init_dry(vocab, multiplier, base, allowed, last_n, array, len(breakers))


def llama_distribution(
    row: NDArray[np.float32], samplers: Sequence[Any], *, history: Sequence[int] = (), draws: bool = False
) -> Distribution:
    """Applies a chain; -inf is no candidate. ``draws``: the last sampler leaves probabilities, not logits."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in samplers:
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    try:
        for token in history:
            llama_cpp.llama_sampler_accept(chain, token)
        records = (llama_cpp.llama_token_data * len(row))()
        for i, logit in enumerate(row.tolist()):
            records[i] = llama_cpp.llama_token_data(i, logit, 0.0)
        array = llama_cpp.llama_token_data_array(data=records, size=len(row), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
        left = [array.data[i] for i in range(array.size)]
        if draws:
            return {int(entry.id): float(entry.p) for entry in left}
        ids = [int(entry.id) for entry in left if entry.logit > -np.inf]
        logits = np.array([entry.logit for entry in left if entry.logit > -np.inf], np.float64)
        weights = np.exp(logits - logits.max())
        return dict(zip(ids, (weights / weights.sum()).tolist(), strict=True))
    finally:
        llama_cpp.llama_sampler_free(chain)
