"""How soon, and how often, a process that died is started again: the one policy for all that this server keeps up."""

from __future__ import annotations

from dataclasses import dataclass

_DOUBLINGS = 64  # beyond, any delay is the longest


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Seconds."""

    first_delay: float = 0.5  # doubled after each further death
    max_delay: float = 30.0
    max_deaths: int | None = 5  # in a row; then it is given up. None: never
    healthy_after: float = 60.0  # a life this long makes the deaths before it count no more

    def delay(self, deaths: int) -> float:
        """The pause after the ``deaths``-th death in a row."""
        return min(self.max_delay, self.first_delay * 2.0 ** min(deaths - 1, _DOUBLINGS))


class Restarts:
    """Counts the deaths in a row of one process. For one thread."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.deaths = 0

    def after(self, lived: float) -> float | None:
        """It died after so many seconds of service: the pause until it is to be started again. None: given up."""
        self.deaths = 1 if lived >= self._policy.healthy_after else self.deaths + 1
        if self._policy.max_deaths is not None and self.deaths >= self._policy.max_deaths:
            return None
        return self._policy.delay(self.deaths)
