"""The sampler against llama.cpp's own samplers, from the library that decodes.

llama.cpp sums in float32, so rows in which a cut comes near its threshold (by the reference's margin) are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from janflask_ext.sampling import Sampler, process_dry_breakers
from tests.ext.llama_chain import (
    Distribution,
    bias_sampler,
    dry_sampler,
    llama_distribution,
    piece,
    tokenize,
    vocabulary,
)
from tests.ext.reference import Chain, distribution

N_VOCAB = 3000
BREAKERS = (b"\n", b":", b'"', b"*", b"The end")

CASES: dict[str, tuple[Chain, Callable[[], list[Any]]]] = {
    "temperature": (Chain(temperature=0.7), lambda: [llama_cpp.llama_sampler_init_temp(0.7)]),
    "greedy": (Chain(temperature=0.0), lambda: [llama_cpp.llama_sampler_init_temp(0.0)]),
    "top-k": (Chain(top_k=40), lambda: [llama_cpp.llama_sampler_init_top_k(40)]),
    "large top-k": (Chain(top_k=2000), lambda: [llama_cpp.llama_sampler_init_top_k(2000)]),
    "top-p": (Chain(top_p=0.9), lambda: [llama_cpp.llama_sampler_init_top_p(0.9, 0)]),
    "min-p": (Chain(min_p=0.05), lambda: [llama_cpp.llama_sampler_init_min_p(0.05, 0)]),
    "typical": (Chain(typical_p=0.6), lambda: [llama_cpp.llama_sampler_init_typical(0.6, 0)]),
    "top-n-sigma": (Chain(top_n_sigma=1.5), lambda: [llama_cpp.llama_sampler_init_top_n_sigma(1.5)]),
    "XTC": (
        Chain(xtc_probability=1.0, xtc_threshold=0.02),
        lambda: [llama_cpp.llama_sampler_init_xtc(1.0, 0.02, 0, 1)],
    ),
    "dynamic temperature": (
        Chain(temperature=0.9, dynatemp_range=0.5, dynatemp_exponent=1.3),
        lambda: [llama_cpp.llama_sampler_init_temp_ext(0.9, 0.5, 1.3)],
    ),
    "the server's defaults": (
        Chain(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
        lambda: [
            llama_cpp.llama_sampler_init_top_k(40),
            llama_cpp.llama_sampler_init_top_p(0.95, 0),
            llama_cpp.llama_sampler_init_min_p(0.05, 0),
            llama_cpp.llama_sampler_init_temp_ext(0.8, 0.0, 1.0),
        ],
    ),
    # llama.cpp's typical sampler makes NaN of a logit of -inf, which top-n-sigma leaves: not both in one chain.
    "all but top-n-sigma": (
        Chain(
            temperature=0.7, dynatemp_range=0.4, top_k=300, typical_p=0.95, top_p=0.9, min_p=0.01,
            xtc_probability=1.0, xtc_threshold=0.05,
        ),
        lambda: [
            llama_cpp.llama_sampler_init_top_k(300),
            llama_cpp.llama_sampler_init_typical(0.95, 0),
            llama_cpp.llama_sampler_init_top_p(0.9, 0),
            llama_cpp.llama_sampler_init_min_p(0.01, 0),
            llama_cpp.llama_sampler_init_xtc(1.0, 0.05, 0, 1),
            llama_cpp.llama_sampler_init_temp_ext(0.7, 0.4, 1.0),
        ],
    ),
    "all but typical": (
        Chain(
            temperature=0.7, dynatemp_range=0.4, top_k=300, top_p=0.9, min_p=0.01, top_n_sigma=2.0,
            xtc_probability=1.0, xtc_threshold=0.05,
        ),
        lambda: [
            llama_cpp.llama_sampler_init_top_n_sigma(2.0),
            llama_cpp.llama_sampler_init_top_k(300),
            llama_cpp.llama_sampler_init_top_p(0.9, 0),
            llama_cpp.llama_sampler_init_min_p(0.01, 0),
            llama_cpp.llama_sampler_init_xtc(1.0, 0.05, 0, 1),
            llama_cpp.llama_sampler_init_temp_ext(0.7, 0.4, 1.0),
        ],
    ),
}  # fmt: skip


def rows(name: str, chain: Chain, count: int, n_vocab: int = N_VOCAB) -> Iterator[NDArray[np.float32]]:
    """Rows in which no cut is within float32's reach of its threshold."""
    rng = np.random.default_rng(sum(map(ord, name)))
    while count:
        row = (rng.standard_normal(n_vocab) * rng.choice([1.0, 2.5])).astype(np.float32)
        if distribution(row, chain)[1] > 5e-6:
            count -= 1
            yield row


def ours(row: NDArray[np.float32], chain: Chain, history: list[int] | None = None, **more: Any) -> Distribution:
    sampler = Sampler(len(row), **asdict(chain), **more)
    sampler.prime(np.array(history or [], np.int32))
    ids, probs = sampler.candidates(row)
    return dict(zip(ids.tolist(), probs.tolist(), strict=True))


def assert_same(got: Distribution, want: Distribution) -> None:
    assert set(got) == set(want)
    assert all(abs(got[token] - want[token]) < 1e-5 for token in want)


@pytest.mark.parametrize("name", CASES)
def test_same_distribution_as_llama_cpp(name: str) -> None:
    chain, samplers = CASES[name]
    for row in rows(name, chain, 5):
        assert_same(ours(row, chain), llama_distribution(row, samplers()))


def test_biases_and_penalties() -> None:
    chain = Chain(
        top_k=200,
        repeat_penalty=1.3,
        frequency_penalty=0.2,
        presence_penalty=-0.4,
        repeat_last_n=32,
        logit_bias=((5, 3.0), (7, -2.0), (9, float("-inf"))),
    )
    rng = np.random.default_rng(3)
    history = rng.integers(0, 60, 100).tolist()
    for row in rows("penalties", chain, 5):
        want = llama_distribution(
            row,
            [
                bias_sampler(N_VOCAB, chain.logit_bias),
                llama_cpp.llama_sampler_init_penalties(N_VOCAB, 32, 1.3, 0.2, -0.4),
                llama_cpp.llama_sampler_init_top_k(200),
            ],
            history=history,
        )
        assert_same(ours(row, chain, history), want)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [1.0, 3.0, 5.0, 8.0])
def test_first_step_of_mirostat(version: int, tau: float) -> None:
    for row in rows(f"mirostat {tau}", Chain(), 3):
        if version == 1:
            sampler = llama_cpp.llama_sampler_init_mirostat(N_VOCAB, 1, tau, 0.1, 100)
        else:
            sampler = llama_cpp.llama_sampler_init_mirostat_v2(1, tau, 0.1)
        want = llama_distribution(row, [llama_cpp.llama_sampler_init_temp(0.9), sampler], draws=True)
        assert_same(ours(row, Chain(temperature=0.9), mirostat=version, mirostat_tau=tau), want)


@pytest.fixture(scope="module")
def vocab(starter_gguf: Path) -> Iterator[Any]:
    with vocabulary(starter_gguf) as vocab:
        yield vocab


@pytest.fixture(scope="module")
def pieces(vocab: Any) -> list[bytes]:
    return [piece(vocab, token) for token in range(llama_cpp.llama_vocab_n_tokens(vocab))]


TEXTS = {
    "no breaker": b" one two three four one two three five one two three",
    "a newline inside": b"one two three\nfour one two three\nfive one two three",
    "a long breaker": b"go on and on. The end go on and on. The end go on and",
    "a list": b"* a thing: yes\n* a thing: no\n* a thing",
    "one word": b"ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha",
}


@pytest.mark.parametrize("last_n", [6, 512])
@pytest.mark.parametrize("name", TEXTS)
def test_dry_with_a_real_vocabulary(vocab: Any, pieces: list[bytes], name: str, last_n: int) -> None:
    history = tokenize(vocab, TEXTS[name])
    breakers = process_dry_breakers(BREAKERS, pieces, lambda text: tokenize(vocab, text))
    chain = Chain(top_k=200, dry_multiplier=0.9, dry_base=1.6, dry_allowed_length=2, dry_penalty_last_n=last_n)
    row = np.random.default_rng(1).standard_normal(len(pieces)).astype(np.float32)
    row[history] += 8
    for end in range(len(history) // 2, len(history) + 1):
        want = llama_distribution(
            row,
            [dry_sampler(vocab, 0.9, 1.6, 2, last_n, BREAKERS), llama_cpp.llama_sampler_init_top_k(200)],
            history=history[:end],
        )
        assert_same(ours(row, chain, history[:end], dry_breakers=breakers), want)
