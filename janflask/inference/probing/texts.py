"""What two texts have in common."""

from __future__ import annotations


def prefix(one: str, other: str) -> str:
    """What both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))]


def suffix(one: str, other: str) -> str:
    """What both end with."""
    return prefix(one[::-1], other[::-1])[::-1]
