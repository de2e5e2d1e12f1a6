"""A thread that works in steps, takes what others hand it between two of them, and knows how long it has rested.

So nothing needs a lock while llama.cpp computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from janflask.engine.wake import Wake
from janflask.errors import JanflaskError, ModelStoppedError


class Worker(ABC):
    """One thread calls ``run``. ``clock`` gives seconds; a test's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = Wake()
        self._stopping: JanflaskError | None = None
        self._resting = False  # its thread waits for something to do
        self._active_at = clock()
        self._round_at = clock()  # when its thread last began a step, or came back from resting
        self._asked_at = clock()  # when somebody last wanted something of a thread that rested

    @abstractmethod
    def step(self) -> bool:
        """Does some of the work. False: there is nothing to do."""

    @abstractmethod
    def _end(self, error: JanflaskError) -> None:
        """Ends every request with ``error``."""

    # --- from other threads -------------------------------------------------------------------------------------

    def stop(self, error: JanflaskError | None = None) -> None:
        """Ends every request with ``error`` and lets ``run`` return."""
        self._stopping = error or ModelStoppedError("the model was stopped; start it again and repeat the request")
        self._wake.set()

    def touch(self) -> None:
        """A request was served beside it: the model is in use."""
        self._active_at = self.clock()

    def is_resting(self) -> bool:
        """Nothing is under way, and whatever ended has been told. Exact if asked by the thread that submits."""
        return self._resting and not self._inbox

    @property
    def idle_seconds(self) -> float:
        """Since the last request ended, or since the start; 0 while there is one."""
        return max(0.0, self.clock() - self._active_at) if self.is_resting() else 0.0

    @property
    def stalled_seconds(self) -> float:
        """Since its thread came round, while it has something to do; 0 while it has nothing."""
        return 0.0 if self.is_resting() else max(0.0, self.clock() - max(self._round_at, self._asked_at))

    def _post(self, action: Callable[[], None]) -> None:
        if self._resting and not self._inbox:
            self._asked_at = self.clock()
        self._inbox.append(action)
        self._wake.set()

    @property
    def wake_address(self) -> int:
        """Of a byte that is 1 once somebody wants something."""
        return self._wake.address

    # --- its thread ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Steps until ``stop``."""
        while self._stopping is None:
            self._round_at = self.clock()
            if not self.step():
                self._rest()
        self._take_inbox()
        self._end(self._stopping)

    def _rest(self) -> None:
        self._resting = True
        self._wait()
        self._wake.clear()
        self._round_at = self.clock()
        self._resting = False

    def _wait(self) -> None:
        """Returns when there may be work."""
        self._wake.wait()

    def _take_inbox(self) -> None:
        while self._inbox:
            self._inbox.popleft()()
