"""What an engine does while it rests, and that a request ends the rest."""

from __future__ import annotations

import threading

from janflask.engine.chores import rest


class Clock:
    """Moves when the event is waited for."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Event(threading.Event):
    """Set at ``at``; nobody really waits."""

    def __init__(self, clock: Clock, at: float) -> None:
        super().__init__()
        self.clock, self.at = clock, clock.now + at

    def wait(self, timeout: float | None = None) -> bool:
        until = self.at if timeout is None else min(self.at, self.clock.now + timeout)
        self.clock.now = max(self.clock.now, until)
        if self.clock.now >= self.at:
            self.set()
        return self.is_set()

    def is_set(self) -> bool:
        return super().is_set() or self.clock.now >= self.at


class Pieces:
    """So many pieces, each due so long after the one before."""

    def __init__(self, clock: Clock, count: int, every: float) -> None:
        self.clock, self.left, self.every = clock, count, every
        self.done: list[float] = []

    def due(self, rested: float) -> float | None:
        return max(0.0, (len(self.done) + 1) * self.every - rested) if self.left > len(self.done) else None

    def piece(self) -> None:
        self.done.append(self.clock.now - 100.0)


def test_each_is_done_when_it_is_due() -> None:
    clock = Clock()
    often, seldom = Pieces(clock, 3, 2.0), Pieces(clock, 1, 5.0)
    rest(Event(clock, 60.0), [often, seldom], clock)
    assert (often.done, seldom.done) == ([2.0, 4.0, 6.0], [5.0])
    assert clock.now == 160.0


def test_a_request_ends_the_rest_before_the_next_piece() -> None:
    clock = Clock()
    often = Pieces(clock, 9, 2.0)
    rest(Event(clock, 5.0), [often], clock)
    assert (often.done, clock.now) == ([2.0, 4.0], 105.0)


def test_without_anything_to_do_it_only_waits() -> None:
    clock = Clock()
    rest(Event(clock, 7.0), [], clock)
    assert clock.now == 107.0
