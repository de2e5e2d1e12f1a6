"""The sampler chain once more, in NumPy and float64, written for reading: what the extension is tested against.

A candidate list is kept in the sampler's own order, falling logit, then rising id, so that ties fall the same way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FLOAT_MAX_LOG = 88.7228391


@dataclass(frozen=True)
class Chain:
    """The settings of one sampler, `SamplingParams`' names and defaults, everything truncating off."""

    temperature: float = 1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    logit_bias: tuple[tuple[int, float], ...] = ()
    banned: tuple[int, ...] = ()
    n_ctx: int = 4096


@dataclass
class Candidates:
    """What is left: ids and logits in order, and how many candidates llama.cpp would count."""

    ids: NDArray[np.int64]
    logits: Floats
    size: int
    margins: list[float] = field(default_factory=list)

    def softmax(self) -> Floats:
        weights: Floats = np.exp(self.logits - self.logits.max())
        return weights / float(weights.sum())

    def keep(self, which: NDArray[np.intp] | slice) -> None:
        self.ids, self.logits = self.ids[which], self.logits[which]


def clean(row: NDArray[np.float32], allowed: Iterable[int] | None = None) -> Floats:
    """NaN and forbidden ids as -inf."""
    logits = np.where(np.isnan(row), -np.inf, row).astype(np.float64)
    if allowed is not None:
        forbidden = np.ones(len(row), bool)
        forbidden[list(allowed)] = False
        logits[forbidden] = -np.inf
    return logits


def penalise(
    logits: Floats, chain: Chain, history: Sequence[int], breakers: Mapping[int, Sequence[tuple[int, ...]]]
) -> None:
    """Biases, penalties and DRY, in place."""
    for token, bias in chain.logit_bias:
        logits[token] += bias
    logits[list(chain.banned)] = -np.inf
    last_n = chain.n_ctx if chain.repeat_last_n == -1 else chain.repeat_last_n
    for token, count in Counter(history[-last_n:] if last_n else []).items():
        x = logits[token]
        logits[token] = x * chain.repeat_penalty if x <= 0 else x / chain.repeat_penalty
        logits[token] -= count * chain.frequency_penalty + chain.presence_penalty
    for token, penalty in dry_penalties(chain, history, breakers).items():
        logits[token] -= penalty


def dry_penalties(
    chain: Chain, history: Sequence[int], breakers: Mapping[int, Sequence[tuple[int, ...]]]
) -> dict[int, float]:
    """DRY by definition: for every earlier position, count the tokens that match the end of the context."""
    last_n = chain.n_ctx if chain.dry_penalty_last_n == -1 else chain.dry_penalty_last_n
    window = list(history[-last_n:]) if last_n else []
    n = len(window)
    if chain.dry_multiplier == 0 or chain.dry_base < 1 or n <= chain.dry_allowed_length:
        return {}
    limit = n
    for back in range(n):
        after = window[n - back :]
        matches = [
            len(tail) for tail in breakers.get(window[-1 - back], ()) if tuple(after[: len(tail)]) == tuple(tail)
        ]
        if matches:
            limit = back - max(matches)
            break
    if limit < chain.dry_allowed_length:
        return {}
    longest: dict[int, int] = {}
    for end in range(n - 1):
        length = 0
        while length <= end and window[end - length] == window[n - 1 - length]:
            length += 1
        length = min(length, limit)
        if length >= chain.dry_allowed_length:
            longest[window[end + 1]] = max(length, longest.get(window[end + 1], 0))
    most = int(FLOAT_MAX_LOG / math.log(chain.dry_base)) if chain.dry_base > 1.000001 else 0
    penalties = {}
    for token, length in longest.items():
        if () in [tuple(tail) for tail in breakers.get(token, ())]:
            continue
        exponent = length - chain.dry_allowed_length
        exponent = min(exponent, most) if most > 0 else exponent
        penalties[token] = chain.dry_multiplier * chain.dry_base**exponent
    return penalties


def candidates_of(logits: Floats) -> Candidates:
    usable = np.flatnonzero(logits > -np.inf)
    order = np.lexsort((usable, -logits[usable]))
    return Candidates(usable[order], logits[usable[order]], len(logits))


def top_n_sigma(cands: Candidates, n: float) -> None:
    least = cands.logits.max() - n * cands.logits.std()
    below_best = cands.logits[cands.logits < cands.logits.max()]
    cands.margins.extend(abs(below_best - least) / max(1e-30, abs(least)))
    kept = cands.logits >= least
    kept[0] = True
    cands.keep(kept)


def top_k(cands: Candidates, k: int) -> None:
    cands.size = min(cands.size, k)
    cands.keep(slice(0, k))


def typical(cands: Candidates, p: float) -> None:
    """The order at equal scores is the sampler's: at or below the expected logit first, away from it."""
    probs = cands.softmax()
    center = np.float32(np.sum(probs * cands.logits))
    scores = np.abs(cands.logits.astype(np.float32) - center)
    above = cands.logits > center
    position = np.arange(len(probs))
    order = np.lexsort((np.where(above, -position, position), above, scores))
    mass = np.cumsum(probs[order])
    cands.margins.extend(abs(mass - p))
    reached = np.flatnonzero(mass > p)
    kept = order[: reached[0] + 1] if len(reached) else order
    cands.keep(np.sort(kept))
    cands.size = len(cands.ids)


def top_p(cands: Candidates, p: float) -> None:
    mass = np.cumsum(cands.softmax())
    cands.margins.extend(abs(mass - p))
    reached = np.flatnonzero(mass >= p)
    if len(reached):
        cands.keep(slice(0, reached[0] + 1))
        cands.size = len(cands.ids)


def min_p(cands: Candidates, p: float) -> None:
    least = cands.logits.max() + math.log(p)
    cands.margins.extend(abs(cands.logits - least) / max(1.0, abs(least)))
    kept = cands.logits >= least
    kept[0] = True
    cands.keep(kept)
    cands.size = len(cands.ids)


def xtc(cands: Candidates, threshold: float) -> None:
    probs = cands.softmax()
    cands.margins.extend(abs(probs - threshold))
    last = max(int(np.sum(probs >= threshold)) - 1, 0)
    cands.keep(slice(last, None))
    cands.size -= last


def temperature(cands: Candidates, chain: Chain) -> float:
    if chain.dynatemp_range <= 0:
        return chain.temperature
    if cands.size <= 1:
        return 1.0
    probs = cands.softmax()
    probs = probs[probs > 0]
    entropy = -np.sum(probs * np.log(probs))
    least = max(0.0, chain.temperature - chain.dynatemp_range)
    most = chain.temperature + chain.dynatemp_range
    return float(least + (most - least) * max(0.0, entropy / math.log(cands.size)) ** chain.dynatemp_exponent)


def narrow(cands: Candidates, chain: Chain, *, xtc_acts: bool = False) -> None:
    if chain.top_n_sigma > 0:
        top_n_sigma(cands, chain.top_n_sigma)
    if chain.top_k > 0:
        top_k(cands, chain.top_k)
    if chain.typical_p < 1:
        typical(cands, chain.typical_p)
    if chain.top_p < 1:
        top_p(cands, chain.top_p)
    if chain.min_p > 0:
        min_p(cands, chain.min_p)
    if xtc_acts and len(cands.ids) > 1:
        xtc(cands, chain.xtc_threshold)


def distribution(
    row: NDArray[np.float32],
    chain: Chain,
    *,
    history: Sequence[int] = (),
    breakers: Mapping[int, Sequence[tuple[int, ...]]] | None = None,
    allowed: Iterable[int] | None = None,
    xtc_acts: bool | None = None,
) -> tuple[dict[int, float], float]:
    """Probability of every token that is left, and how near any cut came to falling otherwise.

    The margin is the smallest relative distance of a cumulated mass or a logit to its threshold: with a margin of
    float32's rounding a cut could fall either way, so tests take rows with more.
    """
    logits = clean(row, allowed)
    penalise(logits, chain, history, breakers or {})
    cands = candidates_of(logits)
    if len(cands.ids) == 0:
        return {}, 1.0
    narrow(cands, chain, xtc_acts=chain.xtc_probability >= 1 if xtc_acts is None else xtc_acts)
    temp = temperature(cands, chain)
    if temp <= 0:
        cands.keep(slice(0, 1))
        temp = 1.0
    weights = np.exp((cands.logits - cands.logits[0]) / temp)
    probs = weights / weights.sum()
    return dict(zip(cands.ids.tolist(), probs.tolist(), strict=True)), min(cands.margins, default=1.0)
