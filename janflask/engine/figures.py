"""What was measured of a model on this machine, and how sure it is: figures that better ones replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

ROUNDS = 4  # in which each choice is timed once
LEAST_ROUNDS = 2  # before anything is decided by a figure
ENOUGH_MS = 3000.0  # spent on one choice, after which there are no more rounds
STEADY = 1.3  # a figure whose median is further from its best was measured beside other work


@dataclass(frozen=True, slots=True)
class Figure:
    """Milliseconds of something under each of several choices, which were timed in turns.

    The best of the rounds stands for a choice, not the median: other work makes a step longer, never shorter.
    """

    depth: int  # tokens that were there before
    ms: Mapping[str, float]
    rounds: int
    spread: float  # the worst ratio of a choice's median to its best

    @classmethod
    def of(cls, depth: int, times: Mapping[str, list[float]]) -> Figure:
        """Of the times of each choice, as many for one as for the other."""
        spread = max(median(each) / min(each) for each in times.values())
        best = {choice: round(min(each), 3) for choice, each in times.items()}
        return cls(depth, best, min(map(len, times.values())), round(spread, 3))

    @property
    def is_done(self) -> bool:
        """There are rounds enough."""
        return self.rounds >= ROUNDS or (self.counts and self.rounds * max(self.ms.values()) > ENOUGH_MS)

    @property
    def is_sure(self) -> bool:
        """Measuring again would hardly tell more."""
        return self.is_done and self.spread <= STEADY

    @property
    def counts(self) -> bool:
        """It may decide something: the less sure it is, the larger a difference has to be (``doubt``)."""
        return self.rounds >= LEAST_ROUNDS

    @property
    def doubt(self) -> float:
        """1 where it is sure, more where other work disturbed."""
        return max(1.0, self.spread / STEADY)

    def is_better_than(self, other: Figure) -> bool:
        """More was tried, or there was less beside it."""
        return (min(self.rounds, ROUNDS), -self.spread) > (min(other.rounds, ROUNDS), -other.spread)


class Figures(dict[str, Figure]):
    """By their names. Of two of one name the better one stays, unless they compare different choices."""

    def add(self, name: str, figure: Figure) -> None:
        known = self.get(name)
        if known is None or known.ms.keys() != figure.ms.keys() or figure.is_better_than(known):
            self[name] = figure

    def has(self, name: str, choices: set[str]) -> bool:
        """Whether there is a figure of these choices by which something may be decided."""
        return name in self and choices <= self[name].ms.keys() and self[name].counts

    def is_sure(self, name: str, choices: set[str]) -> bool:
        """The same, and measuring again would hardly tell more."""
        return self.has(name, choices) and self[name].is_sure
