"""A run under way: how it is, its events, who listens, and how it is halted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

from janflask.inference.waiting import Waiter
from janflask.storage.base import EventWriter, RunStore
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import LogEvent, missing, of_round, reasoning_of, texts_of

Change = Run | tuple[int, list[LogEvent]]  # the run anew, or events of its log with the number of the first
# Hears changes in their order, and None behind the last, from whatever thread makes them. It must not wait.
Watcher = Callable[[Change | None], None]


class Halt(Enum):
    """Why a run stops where it is."""

    CANCELLED = "somebody cancelled it"
    EXPIRED = "its time is over"
    STOPPED = "this process ends; the next one goes on"


class LiveRun:
    """One run of ``store``, whose log holds ``events`` so far. All methods are for any thread.

    A lifecycle event is told as soon as the run is on disk from which it follows. It is in the log at the latest before
    the next delta, and if this process ends earlier, the next one puts the same event in the same place.
    """

    def __init__(self, store: RunStore, run: Run, events: Sequence[LogEvent]) -> None:
        self._store = store
        self._run = run
        self._events = [*events, *missing(run, events)]
        self._written = len(events)  # so many of them are in the log
        self._watchers: list[Watcher] = []
        self._lock = threading.RLock()  # guards all of this; a run is published as it is on disk, in that order
        self._over = False
        self._halt: Halt | None = None
        self._line: socket.socket | None = None  # held as long as the run may go on
        self.future: Future[None] | None = None  # of the thread that carries it out

    @property
    def run(self) -> Run:
        """As it is on disk."""
        return self._run

    @property
    def text(self) -> str:
        """What it has said so far in this round."""
        with self._lock:
            return "".join(texts_of(of_round(self._events, len(self._run.rounds))))

    @property
    def reasoning(self) -> str:
        """What the model has thought so far in this round."""
        with self._lock:
            return reasoning_of(of_round(self._events, len(self._run.rounds)))

    @property
    def is_parked(self) -> bool:
        """It waits for the outputs of calls: whatever becomes of it does not happen here."""
        return self._run.status is RunStatus.REQUIRES_ACTION and self._halt is None

    @property
    def halted(self) -> Halt | None:
        """Why it has to stop, if it has to."""
        return self._halt

    # --- what becomes of it -------------------------------------------------------------------------------------

    def update(self, change: Callable[[Run], Run]) -> Run:
        """Changes the run on disk, then tells. Raises what ``change`` and the store raise."""
        with self._lock:
            return self._tell(self._store.update(self._run.thread_id, self._run.id, change))

    def close(self, ending: dict[str, Any]) -> Run:
        """Ends the run with these fields; one that is final stays as it is. Raises what the store raises."""
        with self._lock:
            return self._tell(
                self._store.close(
                    self._run.thread_id,
                    self._run.id,
                    lambda run: run if run.status.is_final else replace(run, **ending),
                )
            )

    def add(self, writer: EventWriter, deltas: Sequence[LogEvent]) -> None:
        """Writes to the log what it lacks and ``deltas``, then tells these. Raises what ``writer`` does.

        For the thread that carries the run out.
        """
        writer.add([*self._events[self._written :], *deltas])
        self._written = len(self._events) + len(deltas)
        if deltas:
            with self._lock:
                self._append(list(deltas))

    def leave(self) -> None:
        """Nothing more happens to it here: who listens hears the end."""
        with self._lock:
            self._over = True
            self._publish(None)

    def _tell(self, run: Run) -> Run:
        self._run = run
        self._publish(run)
        if events := missing(run, self._events):
            self._append(events)
        return run

    def _append(self, events: list[LogEvent]) -> None:
        first = len(self._events) + 1
        self._events += events
        self._publish((first, events))

    def _publish(self, change: Change | None) -> None:
        for watcher in self._watchers:
            watcher(change)

    # --- halting ------------------------------------------------------------------------------------------------

    def halt(self, why: Halt) -> None:
        """Wakes the thread that carries it out, whatever it waits for. The first reason counts."""
        with self._lock:
            if self._halt is None:
                self._halt = why
            if self._line is not None:
                self._line.close()

    @contextmanager
    def waiter(self) -> Iterator[Waiter]:
        """Waits for an engine, and takes a halt for a client that has gone."""
        ours, line = socket.socketpair()
        with ours, line:
            with self._lock:
                self._line = line
                if self._halt is not None:
                    line.close()
            try:
                yield Waiter(ours)
            finally:
                with self._lock:
                    self._line = None

    # --- listening ----------------------------------------------------------------------------------------------

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """While it lasts, ``watcher`` hears the run, all its events, and then every change."""
        with self._lock:
            watcher(self._run)
            watcher((1, list(self._events)))
            if self._over:
                watcher(None)
            self._watchers.append(watcher)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(watcher)
