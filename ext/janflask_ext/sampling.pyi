"""Choosing a token from a row of logits: llama.cpp's samplers in llama.cpp's order, on the row where it lies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer as AnyBuffer

from janflask_ext.history import DryBreakers
from janflask_ext.history import process_dry_breakers as process_dry_breakers

Buffer = AnyBuffer | NDArray[Any]  # NumPy's arrays say that they are buffers from Python 3.12 on

def kernel(name: str | None = None) -> str:
    """The instruction set of the passes over a row: "avx512", "avx2" or "generic".

    With a name, samplers that are made from now on use that one (for tests and benchmarks).

    Raises:
        ValueError: this processor doesn't have it.
    """

class Sampler:
    """Settings, history and random state of one generation.

    The chain: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw. With
    ``mirostat`` 1 or 2 it is logit bias, temperature, mirostat, as in llama.cpp. ``temperature <= 0`` takes the best
    of what the other samplers leave, unless ``dynatemp_range`` gives a temperature above 0, as in llama.cpp.

    Parameters are those of ``models.sampling.SamplingParams``, with the same defaults and switches; beside them:

    n_vocab: tokens of the vocabulary, so logits of a row.
    seed: 0 to 2**64 - 1; the same seed, settings, history and rows give the same tokens.
    banned: token ids that can't be chosen (an ignored end of generation).
    top_logprobs: None: no log-probabilities; N (up to 1024): those of the chosen token and of the N likeliest.
    n_ctx: what -1 stands for in ``repeat_last_n`` and ``dry_penalty_last_n``.
    dry_breakers: from ``process_dry_breakers``; () for none.

    Ties go to the lower id wherever samplers order tokens; typical sampling takes, of tokens equally far from the
    expected logit, those at or below it first. NaN logits count as -inf. A row with +inf has only its +inf tokens for
    candidates (the first 4096), all alike. Not for use from several threads at once.

    Raises:
        ValueError: a parameter is out of its range; the message names it.
    """

    n_vocab: int

    def __init__(
        self,
        n_vocab: int,
        *,
        temperature: float = 0.8,
        dynatemp_range: float = 0.0,
        dynatemp_exponent: float = 1.0,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        top_n_sigma: float = -1.0,
        xtc_probability: float = 0.0,
        xtc_threshold: float = 0.1,
        repeat_penalty: float = 1.0,
        repeat_last_n: int = 64,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        dry_multiplier: float = 0.0,
        dry_base: float = 1.75,
        dry_allowed_length: int = 2,
        dry_penalty_last_n: int = -1,
        mirostat: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        seed: int = 0,
        logit_bias: Sequence[tuple[int, float]] = (),
        banned: Sequence[int] = (),
        top_logprobs: int | None = None,
        n_ctx: int = 4096,
        dry_breakers: DryBreakers | tuple[()] = (),
    ) -> None: ...
    def prime(self, tokens: Buffer) -> None:
        """Makes a prompt's tokens (int32, one dimension) the history, as if each had been accepted.

        Raises:
            ValueError: a token is not in the vocabulary; then none is taken.
        """

    def accept(self, token: int) -> None:
        """Adds a token to the history that penalties and DRY look back on.

        Raises:
            ValueError: the token is not in the vocabulary.
        """

    def sample(self, logits: Buffer, mask: Buffer | None = None) -> int:
        """Draws a token from a row; does not accept it.

        logits: float32 of shape (n_vocab,). Biases and penalties are written into it and taken back before this
            returns; a read-only buffer is copied first.
        mask: uint32 of shape (ceil(n_vocab / 32),); bit id % 32 of word id // 32 allows a token. None: all.

        Raises:
            ValueError: wrong shape or type; or no token is left: all are -inf, NaN, banned or outside of the mask.
        """

    def sample_at(self, address: int, mask: Buffer | None = None) -> int:
        """`sample` from the n_vocab float32 values at a memory address, which must be writable and stay valid."""

    def score(self, logits: Buffer, token: int) -> None:
        """Makes ``logprobs`` tell of ``token`` on a row, as if it had been drawn. History and random state stay.

        logits: as in ``sample``; nothing is written into it.

        Raises:
            ValueError: wrong shape or type, no such token, or ``top_logprobs`` is None.
        """

    def logprobs(self) -> tuple[float, list[tuple[int, float]]]:
        """Of the last draw: the chosen token's log-probability, and (id, log-probability) of the likeliest tokens.

        Natural logarithms of the softmax over the row as the model made it, before biases, mask and samplers; within
        1e-5.

        Raises:
            ValueError: ``top_logprobs`` is None, or nothing was drawn.
        """

    def candidates(self, logits: Buffer, mask: Buffer | None = None) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What the next draw from this row would draw from: ids and probabilities. For tests: it makes lists.

        Raises:
            ValueError: wrong shape or type.
        """
