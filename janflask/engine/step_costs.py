"""What a step costs here, learnt from the steps themselves: milliseconds of a decode by how many tokens it has."""

from __future__ import annotations

from bisect import bisect_left

SMOOTHING = 0.2  # weight of the newest step
STEPS = 20  # times as long as steps take on average: none does
ONE_BY_ONE = 3  # times as long as its tokens would take one by one: no step does
# Tokens that are told apart. Few ones each: a kernel that takes two at a time makes 8 cheaper than 7.
SIZES: tuple[int, ...] = (*range(1, 13), 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class StepCosts:
    """One thread observes and asks.

    Args:
        first_ms: what the very first token took, with all that had to be read for it.
    """

    def __init__(self, first_ms: float = 0.0) -> None:
        self.first_ms = first_ms
        self._ms: dict[int, float] = {}

    def forget(self) -> None:
        """What was seen so far holds no more."""
        self._ms.clear()

    def observe(self, tokens: int, ms: float) -> None:
        """A step of so many tokens took so long."""
        size = _size(tokens)
        known = self._ms.get(size)
        self._ms[size] = ms if known is None else known + SMOOTHING * (ms - known)

    def doubt(self, tokens: int) -> None:
        """The next step of so many counts alone: those that were seen may have been odd ones, or long ago."""
        self._ms.pop(_size(tokens), None)

    def surely(self, tokens: int) -> float:
        """Seconds that no step of so many takes, however slow the machine; for any thread."""
        seen = list(self._ms.items())
        longest = max((ms for _, ms in seen), default=0.0)
        token = max((ms / size for size, ms in seen), default=0.0)
        return max(STEPS * longest, ONE_BY_ONE * tokens * max(token, self.first_ms)) / 1e3

    def of(self, tokens: int) -> float | None:
        """What a step of so many would take, between the nearest that were seen; None: too little was seen."""
        sizes = sorted(self._ms)
        place = bisect_left(sizes, tokens)
        if place < len(sizes) and sizes[place] == tokens:
            return self._ms[tokens]
        if len(sizes) < 2:
            return None
        if 0 < place < len(sizes):
            low, high = sizes[place - 1], sizes[place]
            return self._ms[low] + (self._ms[high] - self._ms[low]) / (high - low) * (tokens - low)
        # Beyond them by the line from the least to the most: two that lie close together may cost any way round.
        slope = max(0.0, (self._ms[sizes[-1]] - self._ms[sizes[0]]) / (sizes[-1] - sizes[0]))
        nearest = sizes[-1] if place else sizes[0]
        return max(0.0, self._ms[nearest] + slope * (tokens - nearest))


def _size(tokens: int) -> int:
    return SIZES[min(bisect_left(SIZES, tokens), len(SIZES) - 1)]
