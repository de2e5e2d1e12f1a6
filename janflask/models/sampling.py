"""How a token is chosen, and which values may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is chosen from logits; llama.cpp's names, order and meaning.

    The chain is: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw.
    ``temperature <= 0`` is greedy: it takes the likeliest token of those that the samplers before it left. Not so with
    ``dynatemp_range`` > 0: the temperature then lies between max(0, temperature - range) and temperature + range, the
    higher the less sure the model is. ``mirostat`` 1 or 2 replaces the truncating samplers, as in llama.cpp.
    """

    temperature: float = 0.8
    dynatemp_range: float = 0.0  # <= 0: off
    dynatemp_exponent: float = 1.0
    top_k: int = 40  # <= 0: off
    top_p: float = 0.95  # >= 1: off
    min_p: float = 0.05  # <= 0: off
    typical_p: float = 1.0  # >= 1: off
    top_n_sigma: float = -1.0  # <= 0: off
    xtc_probability: float = 0.0  # <= 0: off
    xtc_threshold: float = 0.1  # > 0.5: off
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64  # tokens the penalties look back on; -1: the whole context, 0: off
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0  # 0: off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1  # -1: the whole context, 0: off
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0  # 0, 1 or 2
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    seed: int | None = None  # None: a fresh one for every request
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its logit)
    ignore_eos: bool = False  # end-of-generation tokens get -inf
    top_logprobs: int | None = None  # None: no log-probabilities; 0: the chosen token's only; N: and the N likeliest


# The least and the greatest value of each numeric field of SamplingParams, wherever it comes from.
SAMPLING_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "dynatemp_range": (0, 2),
    "dynatemp_exponent": (0, 100),
    "top_k": (-1, 1_000_000),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_penalty": (0.01, 10),
    "repeat_last_n": (-1, 1 << 24),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 1 << 24),
    "dry_penalty_last_n": (-1, 1 << 24),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "top_logprobs": (0, 20),
}
