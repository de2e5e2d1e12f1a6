"""How long an engine's thread has not come round, as it tells the watchdog."""

from __future__ import annotations

import threading

from janflask.engine.worker import Worker
from janflask.errors import JanflaskError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow(Worker):
    """Each step waits for ``go``; there is work as long as ``work`` says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.go, self.stepping, self.work = threading.Event(), threading.Event(), False
        self.rested = threading.Event()

    def step(self) -> bool:
        self._take_inbox()
        if self.work:
            self.stepping.set()
            assert self.go.wait(20)
            self.work = False
        return self.work

    def begin(self) -> None:
        self.work = True

    def _wait(self) -> None:
        self.rested.set()
        super()._wait()

    def _end(self, error: JanflaskError) -> None:
        pass


def test_only_a_thread_with_something_to_do_stalls() -> None:
    clock = Clock()
    worker = Slow(clock)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert worker.rested.wait(20)
        clock.now += 1000
        assert worker.stalled_seconds == 0, "it rests"
        worker.rested.clear()
        worker._post(worker.begin)
        assert worker.stepping.wait(20)
        assert worker.stalled_seconds == 0, "its rest does not count"
        clock.now += 7
        assert worker.stalled_seconds == 7
        worker.go.set()
        assert worker.rested.wait(20)
        assert worker.stalled_seconds == 0
    finally:
        worker.go.set()
        worker.stop()
        thread.join()
