"""Every sampler, and random combinations, against the NumPy chain in reference.py.

A cut whose mass or logit comes within float32's rounding of its threshold can rightly fall either way. The reference
says how near each cut came (its margin); rows that come nearer than MARGIN are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from janflask_ext.sampling import Sampler, kernel
from tests.ext.reference import Chain, distribution

MARGIN = 2e-6
BEST = kernel()


def runs_here(name: str) -> bool:
    try:
        kernel(name)
    except ValueError:
        return False
    kernel(BEST)
    return True


KERNELS = [name for name in ("generic", "avx2", "avx512") if runs_here(name)]
SIZES = (1, 2, 7, 31, 33, 100, 256, 257, 1000, 5000, 20_000)

SINGLE: dict[str, Chain] = {
    "temperature": Chain(temperature=0.7),
    "cold": Chain(temperature=0.01),
    "greedy": Chain(temperature=0.0),
    "top-k": Chain(top_k=40),
    "top-k of one": Chain(top_k=1),
    "large top-k": Chain(top_k=3000),
    "top-p": Chain(top_p=0.9),
    "tiny top-p": Chain(top_p=0.0),
    "near-total top-p": Chain(top_p=0.999),
    "min-p": Chain(min_p=0.05),
    "top-n-sigma": Chain(top_n_sigma=1.0),
    "typical": Chain(typical_p=0.5),
    "typical on a list": Chain(top_k=60, typical_p=0.5),
    "XTC": Chain(xtc_probability=1.0, xtc_threshold=0.02),
    "XTC on a list": Chain(top_k=60, xtc_probability=1.0, xtc_threshold=0.02),
    "dynamic temperature": Chain(temperature=1.0, dynatemp_range=0.7, dynatemp_exponent=1.5),
    "dynamic temperature on a list": Chain(temperature=0.2, top_k=60, dynatemp_range=0.7),
    "greedy with a dynamic range": Chain(temperature=0.0, dynatemp_range=0.5),
    "greedy after typical": Chain(temperature=0.0, typical_p=0.3),
    "the server's defaults": Chain(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
}


@pytest.fixture(params=KERNELS)
def each_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    kernel(request.param)
    yield request.param
    kernel(BEST)


def gaussian(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return np.asarray(rng.standard_normal(size) * rng.choice([0.5, 3.0, 10.0]), np.float32)


def tied(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return np.asarray(np.round(gaussian(rng, size)), np.float32)


def broken(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    row = gaussian(rng, size)
    row[rng.random(size) < 0.2] = np.nan
    row[rng.random(size) < 0.2] = -np.inf
    return row


def extreme(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return (rng.standard_normal(size) * 1e4).astype(np.float32)


def constant(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return np.full(size, rng.standard_normal(), np.float32)


ROWS = {"gaussian": gaussian, "tied": tied, "broken": broken, "extreme": extreme, "constant": constant}


def check(row: NDArray[np.float32], chain: Chain, **more: Any) -> bool:
    """Compares one distribution; False if the row leaves a cut undecided."""
    want, margin = distribution(row, chain, **more)
    if margin < MARGIN:
        return False
    ids, probs = Sampler(len(row), **asdict(chain)).candidates(row)
    got = dict(zip(ids.tolist(), probs.tolist(), strict=True))
    if chain.dynatemp_range > 0:
        # An entropy of nearly nothing makes a temperature of nearly nothing, or of nothing: the same distribution.
        got = {token: p for token, p in got.items() if p > 1e-12}
        want = {token: p for token, p in want.items() if p > 1e-12}
    assert set(got) == set(want)
    assert all(abs(got[token] - want[token]) < 1e-5 for token in want)
    return True


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", SINGLE)
def test_one_sampler(each_kernel: str, name: str, rows: str) -> None:
    rng = np.random.default_rng(sum(map(ord, name + rows)))
    checked = sum(check(ROWS[rows](rng, size), SINGLE[name]) for size in SIZES)
    assert checked >= 4


def any_chain(rng: np.random.Generator) -> Chain:
    def maybe(off: float, *on: float) -> float:
        return float(rng.choice(on)) if rng.random() < 0.4 else off

    return Chain(
        temperature=float(rng.choice([0.0, 0.01, 0.5, 0.8, 1.0, 2.0])),
        dynatemp_range=maybe(0.0, 0.3, 0.7),
        dynatemp_exponent=float(rng.choice([0.5, 1.0, 2.0])),
        top_k=int(maybe(0, 1, 5, 40, 200, 1024, 1025, 3000)),
        top_p=maybe(1.0, 0.1, 0.5, 0.9, 0.95, 0.999),
        min_p=maybe(0.0, 0.01, 0.05, 0.3, 1.0),
        typical_p=maybe(1.0, 0.2, 0.5, 0.9),
        top_n_sigma=maybe(-1.0, 0.5, 1.0, 2.0),
        xtc_probability=maybe(0.0, 1.0),
        xtc_threshold=float(rng.choice([0.0, 0.001, 0.02, 0.1, 0.3, 0.6])),
    )


@pytest.mark.parametrize("seed", range(8))
def test_random_combinations(each_kernel: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    checked = 0
    for _ in range(60):
        chain = any_chain(rng)
        if chain.xtc_threshold > 0.5:
            chain = replace(chain, xtc_probability=0.0)
        row = list(ROWS.values())[rng.integers(len(ROWS))](rng, int(rng.choice(SIZES)))
        checked += check(row, chain)
    assert checked > 40


@pytest.mark.parametrize("seed", range(4))
def test_mask_bias_and_bans(each_kernel: str, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for _ in range(20):
        size = int(rng.choice([40, 300, 3000]))
        row = broken(rng, size)
        allowed = rng.choice(size, size // 2, replace=False).tolist()
        biases = tuple((int(token), float(rng.normal() * 5)) for token in rng.choice(size, 6))
        chain = replace(any_chain(rng), logit_bias=biases, banned=tuple(rng.choice(size, 3).tolist()))
        if chain.xtc_threshold > 0.5:
            continue
        want, margin = distribution(row, chain, allowed=allowed)
        if margin < MARGIN:
            continue
        mask = np.zeros((size + 31) // 32, np.uint32)
        for token in allowed:
            mask[token // 32] |= np.uint32(1 << token % 32)
        ids, probs = Sampler(size, **asdict(chain)).candidates(row, mask)
        assert set(ids.tolist()) == set(want)
        assert all(abs(p - want[i]) < 1e-5 for i, p in zip(ids.tolist(), probs.tolist(), strict=True))
