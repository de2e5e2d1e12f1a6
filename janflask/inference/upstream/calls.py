"""The calls of one request, carried out together and read as one stream of events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from janflask.errors import (
    JanflaskError,
    QueueFullError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from janflask.inference.deltas import Done, Event, Started
from janflask.inference.totals import total
from janflask.inference.tries import Tries
from janflask.inference.upstream.call import Attempt, Call, Descriptor
from janflask.inference.upstream.endpoint import Endpoint
from janflask.inference.upstream.pool import Ticket, UpstreamPool
from janflask.inference.upstream.problems import NO_ROUTE
from janflask.inference.upstream.reading import WholeReader
from janflask.inference.waiting import Waiter

CONCURRENT = 8  # calls of one request that are under way at once
LINE_PAUSE = 0.05  # seconds between two looks at a line
_FAULTS = (UpstreamUnavailableError, UpstreamTimeoutError, UpstreamError)  # a base URL's own


@dataclass(eq=False, slots=True)
class _Running:
    attempt: Attempt
    tried: list[Endpoint]
    watched: tuple[int, bool] = (-1, False)


@dataclass(eq=False, slots=True)
class _Waiting:
    call: Call
    tried: list[Endpoint] = field(default_factory=list)


class Calls:
    """Carries out calls, a few at once; one that has said nothing yet is tried again, elsewhere if that is possible."""

    def __init__(self, pool: UpstreamPool, calls: Sequence[Call], waiter: Waiter, tries: Tries | None = None) -> None:
        self._pool = pool
        self._waiter = waiter
        self._tries = tries or Tries()
        self._waiting = deque(_Waiting(call) for call in calls)
        self._running: list[_Running] = []
        self._ticket: Ticket | None = None
        self._results: list[Done] = []
        self._started = False
        self._failure: JanflaskError | None = None

    def events(self, beat: float) -> Generator[list[Event], None, None]:
        """Lists of events as they come, an empty one after each ``beat`` seconds without any; one Done, the last.

        Raises what the upstream answers, UpstreamUnavailableError, UpstreamTimeoutError, UpstreamError, QueueFullError,
        and ClientDisconnectedError. Closing it cancels.
        """
        last = time.monotonic()
        try:
            while self._waiting or self._running:
                self._open()
                batch = self._next_batch(last + beat - time.monotonic())
                if batch or time.monotonic() - last >= beat:
                    last = time.monotonic()
                    yield batch
                if self._failure is not None:
                    raise self._failure
            if self._results:
                yield [total(self._results)]
        finally:
            self.close()

    def close(self) -> None:
        """Cancels what is still under way. Idempotent."""
        for running in self._running:
            self._drop(running)
        self._running.clear()
        self._waiting.clear()
        self._leave()

    def _open(self) -> None:
        """Begins what there are places for."""
        while self._waiting and len(self._running) < CONCURRENT:
            waiting = self._waiting[0]
            try:
                attempt = self._pool.open(waiting.call, self._ticket, waiting.tried)
            except UpstreamUnavailableError as error:  # no socket can be had
                self._tries.again(error, self._waiter)
                continue
            except QueueFullError:
                if not self._running:
                    raise
                return
            if attempt is None:
                if not self._running and self._ticket is None:
                    self._ticket = self._pool.join()
                return
            self._waiting.popleft()
            self._leave()
            running = _Running(attempt, waiting.tried)
            self._running.append(running)
            self._watch(running)

    def _next_batch(self, beat: float) -> list[Event]:
        now = time.monotonic()
        ready = [running for running in self._running if running.attempt.buffered()]
        if not ready:
            until = min([now + beat, *[running.attempt.deadline() for running in self._running]])
            pause = LINE_PAUSE if self._waiting and len(self._running) < CONCURRENT else until - now
            found = set(self._waiter.wait(max(0.0, min(pause, until - now))))
            ready = [running for running in self._running if running.watched[0] in found]
        batch: list[Event] = []
        for running in ready:
            self._receive(running, batch)
        now = time.monotonic()
        for running in [each for each in self._running if each.attempt.deadline() <= now]:
            self._fail(running, running.attempt.overdue())
        return batch

    def _receive(self, running: _Running, batch: list[Event]) -> None:
        attempt = running.attempt
        try:
            events = attempt.receive()
        except JanflaskError as error:
            self._fail(running, error)
            return
        for event in events:
            if isinstance(event, Done):
                self._results.append(event)
            elif not isinstance(event, Started):
                batch.append(event)
            elif not self._started:
                self._started = True
                batch.append(event)
        if attempt.done:
            attempt.endpoint.answered()
            self._end(running)
        else:
            self._watch(running)

    def _fail(self, running: _Running, error: JanflaskError) -> None:
        """The end of the request, unless the call is to be tried again. What others said meanwhile is told first."""
        attempt, endpoint = running.attempt, running.attempt.endpoint
        self._end(running)
        if isinstance(error, _FAULTS) and error.code != NO_ROUTE:
            self._pool.failed(endpoint, error)
        elif isinstance(error, QueueFullError):
            endpoint.back()
            endpoint.busy(error.retry_after)
        else:
            endpoint.answered()
        if attempt.reader.said or not self._is_worth_a_try(endpoint, error):
            self._failure = self._failure or error
            return
        try:
            self._tries.again(error, self._waiter)
        except JanflaskError as last:
            self._failure = self._failure or last
        self._waiting.appendleft(_Waiting(attempt.call, [*running.tried, endpoint]))

    def _is_worth_a_try(self, endpoint: Endpoint, error: JanflaskError) -> bool:
        """What is the request's own fault is so everywhere, and one silence was long enough."""
        if isinstance(error, UpstreamTimeoutError):
            return False
        if isinstance(error, UpstreamUnavailableError):
            return True
        return isinstance(error, UpstreamError | QueueFullError) and self._pool.other_than(endpoint)

    def _watch(self, running: _Running) -> None:
        now = running.attempt.fileno(), running.attempt.wants_write
        if now != running.watched:
            if running.watched[0] not in (-1, now[0]):
                self._waiter.unwatch(Descriptor(running.watched[0]))
            self._waiter.watch(Descriptor(now[0]), writing=now[1])
            running.watched = now

    def _end(self, running: _Running) -> None:
        self._running.remove(running)
        self._drop(running)

    def _drop(self, running: _Running) -> None:
        if running.watched[0] != -1:
            self._waiter.unwatch(Descriptor(running.watched[0]))
        running.attempt.close()

    def _leave(self) -> None:
        if self._ticket is not None:
            self._pool.leave(self._ticket)
            self._ticket = None


def ask(pool: UpstreamPool, call: Call, waiter: Waiter, beat: float, tries: Tries | None = None) -> WholeReader:
    """The whole answer to ``call``, whose reader this gives. Raises what ``Calls.events`` does."""
    readers: list[WholeReader] = []

    def reader() -> WholeReader:
        readers.append(WholeReader())
        return readers[-1]

    for _ in Calls(pool, [replace(call, reader=reader)], waiter, tries).events(beat):
        pass
    return readers[-1]
