"""Draws themselves: frequencies, seeds, the row left alone, masks, log-probabilities, rows that leave nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import chisquare

from janflask_ext.rng import Rng
from janflask_ext.sampling import Sampler
from tests.ext.reference import Chain, distribution

LIST = Chain(temperature=1.1, top_k=30, top_p=0.97)  # drawn from a list
FULL = Chain(temperature=1.1, top_p=0.97)  # drawn from the row


def gaussian(size: int, seed: int = 0, deviation: float = 2.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(size) * deviation).astype(np.float32)


def sampler_of(row: NDArray[np.float32], chain: Chain, **more: Any) -> Sampler:
    return Sampler(len(row), **(asdict(chain) | more))


def mask_of(size: int, allowed: list[int]) -> NDArray[np.uint32]:
    mask = np.zeros((size + 31) // 32, np.uint32)
    for token in allowed:
        mask[token // 32] |= np.uint32(1 << token % 32)
    return mask


@pytest.mark.parametrize("chain", [LIST, FULL, Chain(temperature=0.9, min_p=0.02)])
def test_frequencies_of_100k_draws(chain: Chain) -> None:
    row = gaussian(700)
    want, _ = distribution(row, chain)
    sampler = sampler_of(row, chain, seed=11)
    address = row.ctypes.data
    drawn = Counter(sampler.sample_at(address) for _ in range(100_000))
    assert set(drawn) <= set(want)
    likely = [token for token, p in want.items() if p * 100_000 >= 5]
    observed = [drawn[token] for token in likely] + [sum(drawn[t] for t in want if t not in likely)]
    expected = [want[token] * 100_000 for token in likely]
    expected.append(max(100_000 - sum(expected), 1e-9))
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    expected = [e * sum(observed) / sum(expected) for e in expected]
    assert chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("chain", [LIST, FULL])
def test_same_seed_same_tokens(chain: Chain) -> None:
    rows = [gaussian(5000, seed) for seed in range(50)]

    def tokens(seed: int) -> list[int]:
        sampler = sampler_of(rows[0], chain, seed=seed)
        return [sampler.sample(row) for row in rows]

    assert tokens(5) == tokens(5)
    assert tokens(5) != tokens(6)
    assert tokens(2**64 - 1) != tokens(2**32 - 1)


def test_one_random_number_a_token() -> None:
    row = np.zeros(1000, np.float32)
    rng = Rng(9)
    sampler = Sampler(1000, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=9)
    for _ in range(50):
        assert sampler.sample(row) == int(rng.random() * 1000)


@pytest.mark.parametrize("chain", [LIST, FULL, Chain(temperature=0.0), Chain(typical_p=0.5)])
def test_the_row_is_left_as_it_was(chain: Chain) -> None:
    row = gaussian(3000)
    row[:50] = np.nan
    row[50:90] = -np.inf
    before = row.tobytes()
    bias = ((3, 2.0), (60, 5.0), (60, -1.0), (100, float("-inf")), (200, 9.0))
    more = {"logit_bias": bias, "banned": (200,), "repeat_penalty": 1.4, "dry_multiplier": 1.0, "top_logprobs": 5}
    sampler = sampler_of(row, chain, **more)
    sampler.prime(np.array([3, 60, 100, 700, 3, 60, 100, 700, 3, 60], np.int32))
    for _ in range(20):
        sampler.accept(sampler.sample(row))
        sampler.candidates(row)
        assert row.tobytes() == before


def test_a_read_only_row_is_copied() -> None:
    row = gaussian(500)
    row.setflags(write=False)
    sampler = Sampler(500, temperature=0.0, logit_bias=((17, 100.0),))
    assert sampler.sample(row) == 17


@pytest.mark.parametrize("chain", [LIST, FULL, Chain(temperature=0.0)])
@pytest.mark.parametrize("size", [33, 256, 1000, 5001])
def test_a_mask_allows_only_its_tokens(chain: Chain, size: int) -> None:
    row = gaussian(size)
    allowed = [0, 31, 32, size - 1, int(np.argsort(row)[-3])]
    sampler = sampler_of(row, chain)
    want, _ = distribution(row, chain, allowed=allowed)
    mask = mask_of(size, allowed)
    assert {sampler.sample(row, mask) for _ in range(200)} <= set(want)
    assert set(sampler.candidates(row, mask)[0].tolist()) == set(want)


@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_thousands_of_ties_keep_the_lower_ids(top_k: int, top_p: float) -> None:
    row = np.full(20_000, 1.5, np.float32)
    row[7::2] = -3.0
    sampler = Sampler(20_000, temperature=1.0, top_k=top_k, top_p=top_p, min_p=0.0)
    ids, probs = sampler.candidates(row)
    want, _ = distribution(row, Chain(top_k=top_k, top_p=top_p))
    assert abs(len(ids) - len(want)) <= 1  # the mass of exactly half of the ties may round either way
    assert sorted(ids.tolist()) == sorted(want)[: len(ids)] or len(ids) > len(want)
    assert np.allclose(probs.sum(), 1.0, atol=1e-4)


def test_top_k_beyond_the_list_counts_ties_off() -> None:
    row = np.repeat(np.array([2.0, 1.0, 0.0], np.float32), 5000)
    ids, _ = Sampler(15_000, temperature=1.0, top_k=7000, top_p=1.0, min_p=0.0).candidates(row)
    assert ids.tolist() == list(range(7000))


def test_xtc_acts_as_often_as_it_should() -> None:
    row = np.array([3.0, 2.9, 2.8, -5.0], np.float32)
    sampler = Sampler(4, temperature=1e-3, top_k=4, top_p=1.0, min_p=0.0, xtc_probability=0.3, seed=2)
    excluded = sum(sampler.sample(row) == 2 for _ in range(5000))
    assert 0.27 < excluded / 5000 < 0.33


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_steers_towards_its_surprise(version: int) -> None:
    rows = [gaussian(4000, seed, 3.0) for seed in range(300)]
    sampler = Sampler(4000, temperature=1.0, mirostat=version, mirostat_tau=3.0, mirostat_eta=0.1, seed=1)
    surprises = []
    for row in rows:
        ids, probs = sampler.candidates(row)
        p = dict(zip(ids.tolist(), probs.tolist(), strict=True))
        surprises.append(-np.log2(p[sampler.sample(row)]))
    assert abs(float(np.mean(surprises[100:])) - 3.0) < 0.3


@pytest.mark.parametrize("size", [1, 5, 300, 3000, 20_001])
@pytest.mark.parametrize("deviation", [0.0, 1.0, 8.0, 1e4])
def test_logprobs_against_scipy(size: int, deviation: float) -> None:
    row = gaussian(size, deviation=deviation)
    row[size // 2 + 1 :: 7] = np.nan
    sampler = Sampler(size, top_logprobs=20)
    token = sampler.sample(row)
    clean = np.where(np.isnan(row), -np.inf, row).astype(np.float64)
    want = clean - logsumexp(clean)
    chosen, best = sampler.logprobs()
    assert chosen == pytest.approx(want[token], abs=1e-5)
    order = [int(i) for i in np.lexsort((np.arange(size), -clean)) if clean[i] > -np.inf][:20]
    assert [token for token, _ in best] == order
    assert [p for _, p in best] == pytest.approx([want[i] for i in order], abs=1e-5)


@pytest.mark.parametrize("more", [{}, {"top_k": 0}, {"top_k": 5}, {"temperature": 0.0}, {"mirostat": 2}])
def test_logprobs_are_the_models_own(more: dict[str, Any]) -> None:
    """Before biases, bans, penalties and mask, whatever the samplers do."""
    row = gaussian(2000)
    best = np.argsort(-row)[:8].tolist()
    want = row.astype(np.float64) - logsumexp(row.astype(np.float64))
    sampler = Sampler(2000, top_logprobs=8, banned=best[:2], logit_bias=((best[2], -9.0),), repeat_penalty=1.5, **more)
    sampler.prime(np.array(best, np.int32))
    for mask in (None, mask_of(2000, list(range(0, 2000, 3)))):
        token = sampler.sample(row, mask)
        chosen, top = sampler.logprobs()
        assert chosen == pytest.approx(want[token], abs=1e-5)
        assert [t for t, _ in top] == best
        assert [p for _, p in top] == pytest.approx(want[best].tolist(), abs=1e-5)


def test_logprobs_of_the_chosen_token_alone() -> None:
    row = gaussian(100)
    sampler = Sampler(100, top_logprobs=0)
    token = sampler.sample(row)
    chosen, best = sampler.logprobs()
    assert best == []
    assert chosen == pytest.approx(float(row[token]) - logsumexp(row.astype(np.float64)), abs=1e-5)


def test_logprobs_must_be_asked_for_and_drawn() -> None:
    row = gaussian(100)
    unasked, undrawn = Sampler(100), Sampler(100, top_logprobs=3)
    unasked.sample(row)
    for sampler in (unasked, undrawn):
        with pytest.raises(ValueError, match="top_logprobs"):
            sampler.logprobs()


@pytest.mark.parametrize("more", [{}, {"top_k": 0}, {"temperature": 0.0}, {"mirostat": 1}, {"mirostat": 2}])
def test_a_row_that_leaves_nothing(more: dict[str, Any]) -> None:
    sampler = Sampler(600, top_logprobs=2, **more)
    for value in (np.nan, -np.inf):
        with pytest.raises(ValueError, match="leave a token"):
            sampler.sample(np.full(600, value, np.float32))
    with pytest.raises(ValueError, match="leave a token"):
        sampler.sample(gaussian(600), np.zeros(19, np.uint32))
    assert len(sampler.candidates(np.full(600, np.nan, np.float32))[0]) == 0


@pytest.mark.parametrize("more", [{}, {"top_k": 0}, {"temperature": 0.0}, {"mirostat": 1}, {"mirostat": 2}])
def test_plus_infinity_is_certain(more: dict[str, Any]) -> None:
    row = gaussian(6000)
    row[[4, 500, 5999]] = np.inf
    sampler = Sampler(6000, **{"top_p": 1.0, "top_logprobs": 2, **more})
    drawn = {sampler.sample(row) for _ in range(100)}
    assert drawn == ({4} if more == {"temperature": 0.0} else {4, 500, 5999})
    chosen, best = sampler.logprobs()
    assert chosen == pytest.approx(-np.log(3))
    assert [token for token, _ in best] == [4, 500]
    assert [p for _, p in best] == pytest.approx([-np.log(3)] * 2)


@pytest.mark.parametrize("more", [{}, {"top_k": 0}, {"temperature": 0.0}, {"mirostat": 1}, {"mirostat": 2}])
def test_a_vocabulary_of_one(more: dict[str, Any]) -> None:
    sampler = Sampler(1, typical_p=0.9, top_n_sigma=1.0, xtc_probability=1.0, dynatemp_range=0.5, **more)
    for value in (0.0, -3e38, 3e38):
        assert sampler.sample(np.array([value], np.float32)) == 0


def test_the_largest_floats() -> None:
    most = np.finfo(np.float32).max
    row = np.array([most, -most, most, 0.0] * 100, np.float32)
    for more in ({}, {"top_k": 0}, {"top_k": 0, "typical_p": 0.5}, {"top_n_sigma": 1.0}, {"mirostat": 2}):
        assert Sampler(400, temperature=1.0, **more).sample(row) % 2 == 0


@pytest.mark.parametrize("more", [{"top_p": 0.6}, {"typical_p": 0.5}, {"top_k": 7000}, {"mirostat": 1}])
def test_thousands_of_the_largest_floats(more: dict[str, Any]) -> None:
    """Distances overflow float32, and more ties than a list holds."""
    most = np.finfo(np.float32).max
    row = np.array([most, -most] * 10_000, np.float32)
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | more
    ids, probs = Sampler(len(row), **settings).candidates(row)
    likely = ids[probs > 0]
    wanted = {0.6: 6000, 0.5: 5000, 7000: 7000, 1: 10_000}[next(iter(more.values()))]
    assert len(likely) in (wanted, wanted + 1)
    assert likely.tolist() == list(range(0, 2 * len(likely), 2))


BAD: list[tuple[str, Any]] = [
    ("temperature", float("nan")),
    ("temperature", "warm"),
    ("temperature", 1e39),
    ("top_k", 1.5),
    ("top_k", True),
    ("top_p", float("inf")),
    ("min_p", None),
    ("typical_p", float("nan")),
    ("top_n_sigma", float("nan")),
    ("repeat_penalty", 0.0),
    ("repeat_last_n", -2),
    ("frequency_penalty", float("-inf")),
    ("presence_penalty", "x"),
    ("dry_multiplier", float("nan")),
    ("dry_allowed_length", -1),
    ("dry_penalty_last_n", -2),
    ("dry_breakers", ("\n",)),
    ("mirostat", 3),
    ("seed", -1),
    ("seed", 2**64),
    ("logit_bias", ((100, 1.0),)),
    ("logit_bias", ((1, float("nan")),)),
    ("banned", (-1,)),
    ("top_logprobs", -1),
    ("n_ctx", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_settings_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Sampler(100, **{name: value})


def test_bad_rows_and_masks_are_refused() -> None:
    sampler = Sampler(100)
    for row in (np.zeros(99, np.float32), np.zeros(100), np.zeros((10, 10), np.float32)):
        with pytest.raises(ValueError, match="logits"):
            sampler.sample(row)
    for mask in (np.zeros(3, np.uint32), np.zeros(4, np.int32), np.zeros(4, np.uint64)):
        with pytest.raises(ValueError, match="mask"):
            sampler.sample(np.zeros(100, np.float32), mask)
    with pytest.raises(ValueError, match="address"):
        sampler.sample_at(0)
