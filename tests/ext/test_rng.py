"""The random numbers behind a draw."""

from __future__ import annotations

import pytest

from janflask_ext.rng import Rng

MASK = (1 << 64) - 1


def rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (64 - k))) & MASK


def expected(seed: int, count: int) -> list[int]:
    """SplitMix64 and xoshiro256++ after their authors' description, in Python's integers."""
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        state.append(z ^ (z >> 31))
    numbers = []
    for _ in range(count):
        a, b, c, d = state
        numbers.append((rotate((a + d) & MASK, 23) + a) & MASK)
        c, d = c ^ a, d ^ b
        state = [a ^ d, b ^ c, c ^ ((b << 17) & MASK), rotate(d, 45)]
    return numbers


def test_published_values_for_seed_zero() -> None:
    rng = Rng(0)
    assert [rng.u64() for _ in range(4)] == [
        5987356902031041503,
        7051070477665621255,
        6633766593972829180,
        211316841551650330,
    ]


@pytest.mark.parametrize("seed", [1, 42, 2**32 - 1, 2**63, 2**64 - 1])
def test_matches_the_description(seed: int) -> None:
    rng = Rng(seed)
    assert [rng.u64() for _ in range(100)] == expected(seed, 100)


def test_floats_are_the_upper_53_bits() -> None:
    bits, floats = Rng(7), Rng(7)
    for _ in range(100):
        x = floats.random()
        assert x == (bits.u64() >> 11) / 2**53
        assert 0.0 <= x < 1.0


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", None])
def test_a_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="seed"):
        Rng(seed)  # type: ignore[arg-type]
