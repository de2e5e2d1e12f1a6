"""Penalties and DRY against the reference, with histories that outgrow their windows; and DRY's breakers."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from janflask_ext.history import DryBreakers
from janflask_ext.sampling import Sampler, process_dry_breakers
from tests.ext.reference import Chain, distribution

N_VOCAB = 600
BREAKERS: dict[int, list[tuple[int, ...]]] = {3: [()], 5: [(1,), (1, 2)], 7: [(0, 0, 1)]}


def compare(chain: Chain, history: list[int], sampler: Sampler, seed: int = 0) -> None:
    row = (np.random.default_rng(seed).standard_normal(N_VOCAB) * 2).astype(np.float32)
    want, _ = distribution(row, chain, history=history, breakers=BREAKERS)
    ids, probs = sampler.candidates(row)
    got = dict(zip(ids.tolist(), probs.tolist(), strict=True))
    assert set(got) == set(want)
    assert all(abs(got[token] - want[token]) < 1e-5 for token in want)


PENALTIES: list[dict[str, Any]] = [
    {"repeat_penalty": 1.3},
    {"repeat_penalty": 0.7},
    {"frequency_penalty": 0.3},
    {"presence_penalty": 0.8},
    {"frequency_penalty": -0.3, "presence_penalty": -0.5, "repeat_penalty": 1.1},
]


@pytest.mark.parametrize("last_n", [0, 1, 5, 64, -1])
@pytest.mark.parametrize("settings", PENALTIES)
def test_penalties_follow_their_window(settings: dict[str, Any], last_n: int) -> None:
    chain = Chain(repeat_last_n=last_n, n_ctx=90, **settings)
    tokens = np.random.default_rng(1).integers(0, 30, 200).tolist()
    sampler = Sampler(N_VOCAB, **asdict(chain))
    for count, token in enumerate(tokens):
        sampler.accept(token)
        if count in (0, 1, 4, 5, 63, 64, 89, 90, 199):
            compare(chain, tokens[: count + 1], sampler)


@pytest.mark.parametrize("last_n", [0, 1, 4, 20, -1])
@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
@pytest.mark.parametrize("alphabet", [2, 4, 9])
def test_dry_follows_its_window(last_n: int, allowed: int, alphabet: int) -> None:
    chain = Chain(
        dry_multiplier=0.8, dry_base=1.5, dry_allowed_length=allowed, dry_penalty_last_n=last_n, n_ctx=70, top_k=500
    )
    tokens = np.random.default_rng(alphabet).integers(0, alphabet, 160).tolist()
    sampler = Sampler(N_VOCAB, **asdict(chain), dry_breakers=DryBreakers(BREAKERS))
    for count, token in enumerate(tokens):
        sampler.accept(token)
        if count % 7 == 0 or count > 150:
            compare(chain, tokens[: count + 1], sampler)


def test_dry_exponent_is_limited() -> None:
    chain = Chain(dry_multiplier=1.0, dry_base=1.75, top_k=10)
    sampler = Sampler(N_VOCAB, **asdict(chain))
    tokens = [4] * 1000
    sampler.prime(np.array(tokens, np.int32))
    compare(chain, tokens, sampler)


@pytest.mark.parametrize("off", [{"dry_multiplier": 0.0}, {"dry_base": 0.9}, {"dry_penalty_last_n": 0}])
def test_dry_is_off(off: dict[str, Any]) -> None:
    chain = replace(Chain(dry_multiplier=1.0), **off)
    sampler = Sampler(N_VOCAB, **asdict(chain))
    sampler.prime(np.array([1, 2, 3, 4] * 10, np.int32))
    compare(Chain(), [], sampler)


def test_priming_equals_accepting() -> None:
    chain = Chain(repeat_penalty=1.2, frequency_penalty=0.1, dry_multiplier=1.0, repeat_last_n=16)
    tokens = np.random.default_rng(4).integers(0, 20, 300).astype(np.int32)
    primed, accepted = Sampler(N_VOCAB, **asdict(chain)), Sampler(N_VOCAB, **asdict(chain))
    primed.prime(tokens)
    for token in tokens.tolist():
        accepted.accept(token)
    row = np.random.default_rng(5).standard_normal(N_VOCAB).astype(np.float32)
    assert np.array_equal(primed.candidates(row)[1], accepted.candidates(row)[1])


def test_tokens_outside_of_the_vocabulary_are_refused() -> None:
    sampler = Sampler(N_VOCAB, **asdict(Chain(repeat_penalty=1.5)))
    for token in (-1, N_VOCAB):
        with pytest.raises(ValueError, match="token"):
            sampler.accept(token)
        with pytest.raises(ValueError, match="token"):
            sampler.prime(np.array([1, token], np.int32))
    compare(Chain(), [], sampler)


def test_mirostat_has_no_penalties() -> None:
    row = np.random.default_rng(6).standard_normal(N_VOCAB).astype(np.float32)
    plain = Sampler(N_VOCAB, mirostat=2)
    punished = Sampler(N_VOCAB, mirostat=2, repeat_penalty=2.0, dry_multiplier=3.0)
    punished.prime(np.argsort(row).astype(np.int32))
    assert np.array_equal(plain.candidates(row)[1], punished.candidates(row)[1])


def overlapping(
    breakers: list[bytes], pieces: list[bytes], tokens: dict[bytes, list[int]]
) -> dict[int, set[tuple[int, ...]]]:
    """The definition, place by place."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for breaker in breakers:
        for token, piece in enumerate(pieces):
            if breaker in piece:
                found.setdefault(token, set()).add(())
                continue
            for start in range(len(piece)):
                if breaker.startswith(piece[start:]):
                    found.setdefault(token, set()).add(tuple(tokens[breaker[len(piece) - start :]]))
    return found


def test_breakers_that_overlap_pieces() -> None:
    pieces = [b"", b"a", b"ab", b"xab", b"abcab", b"abc", b"b", b"c", b"zabcz", b"\xffa", b"", b"aa", b"q\n"]
    tails = {b"bc": [6, 7], b"c": [7], b"aab": [1, 2], b"ab": [2], b"b": [6], b"aaab": [1, 1, 2]}
    breakers = [b"abc", b"aab", b"\n"]
    want = overlapping(breakers, pieces, tails)
    got = process_dry_breakers(breakers, pieces, lambda text: tails[text])
    assert len(got) == len(want)
    # The same penalties as with the breakers by definition, whatever the history.
    chain = Chain(dry_multiplier=1.0, top_k=100)
    rng = np.random.default_rng(8)
    row = rng.standard_normal(len(pieces)).astype(np.float32)
    for _ in range(200):
        history = rng.integers(0, len(pieces), 40).tolist()
        sampler = Sampler(len(pieces), **asdict(chain), dry_breakers=got)
        sampler.prime(np.array(history, np.int32))
        expected, _ = distribution(row, chain, history=history, breakers={t: sorted(s) for t, s in want.items()})
        probs = dict(zip(*(array.tolist() for array in sampler.candidates(row)), strict=True))
        assert all(abs(probs[token] - expected[token]) < 1e-5 for token in expected)


def test_breakers_are_cut_and_text_is_encoded() -> None:
    asked: list[bytes] = []

    def tokenize(text: bytes) -> list[int]:
        asked.append(text)
        return list(range(30))

    long = "é" + "x" * 60
    breakers = process_dry_breakers([long, ""], ["\u00e9".encode(), b"y"], tokenize)
    assert asked == [b"x" * 38]
    assert len(breakers) == 1
    assert len(process_dry_breakers([], [b"a"], tokenize)) == 0
