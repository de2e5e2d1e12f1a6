"""Whether something grows: a robust slope for sizes, and the lowest there was, early and late, for whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

Points = Sequence[tuple[float, float]]  # seconds and a value, in the order of time
LEAST = 6  # points from which a slope is taken
MOST = 120  # points that are looked at: all pairs of them are


def slope_growth(points: Points) -> float | None:
    """By which part of its beginning a value has grown at the end, by the median slope of all pairs (Theil and Sen).

    A jump up and down moves that little, and a single step less than its height. None: there are too few points.
    """
    points = _medians(points)
    if len(points) < LEAST:
        return None
    slope = median((v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(points, 2) if t2 > t1)
    start = median(value - slope * (time - points[0][0]) for time, value in points)
    return slope * (points[-1][0] - points[0][0]) / start if start > 0 else None


def floor_growth(points: Points) -> float | None:
    """How much higher the lowest of the last third is than that of the first: what comes and goes does not raise it."""
    third = len(points) // 3
    if third < 2:
        return None
    early, late = (min(value for _, value in part) for part in (points[:third], points[-third:]))
    return late - early


def _medians(points: Points) -> Points:
    """At most ``MOST``, each for some that follow one another."""
    size = -(-len(points) // MOST) if points else 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(median(time for time, _ in part), median(value for _, value in part)) for part in parts]
