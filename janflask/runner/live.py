"""A run under way: how it is, what it has said, who listens, and how it is halted."""

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
from janflask.storage.base import RunStore
from janflask.storage.records import Run

Change = Run | tuple[int, list[str]]  # the run anew, or pieces of its reply with the number of the first


class Halt(Enum):
    """Why a run stops where it is."""

    CANCELLED = "somebody cancelled it"
    EXPIRED = "its time is over"
    STOPPED = "this process ends; the next one goes on"


class LiveRun:
    """One run of ``store``. All methods are for any thread."""

    def __init__(self, store: RunStore, run: Run, said: Sequence[str]) -> None:
        self._store = store
        self._run = run
        self._pieces = list(said)
        self._changes: list[Change] = []
        self._changed = threading.Condition()  # guards all of this; a run is published as it is on disk, in that order
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
        """What it has said so far."""
        with self._changed:
            return "".join(self._pieces)

    @property
    def halted(self) -> Halt | None:
        """Why it has to stop, if it has to."""
        return self._halt

    # --- what becomes of it -------------------------------------------------------------------------------------

    def update(self, change: Callable[[Run], Run]) -> Run:
        """Changes the run on disk, then tells. Raises what ``change`` and the store raise."""
        with self._changed:
            return self._tell(self._store.update(self._run.thread_id, self._run.id, change))

    def close(self, ending: dict[str, Any]) -> Run:
        """Ends the run with these fields; one that is final stays as it is. Raises what the store raises."""
        with self._changed:
            return self._tell(
                self._store.close(
                    self._run.thread_id,
                    self._run.id,
                    lambda run: run if run.status.is_final else replace(run, **ending),
                )
            )

    def said(self, pieces: list[str]) -> None:
        """Tells what is on disk by now."""
        with self._changed:
            self._changes.append((len(self._pieces), pieces))
            self._pieces += pieces
            self._changed.notify_all()

    def leave(self) -> None:
        """Nothing more happens to it here: who listens hears the end."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _tell(self, run: Run) -> Run:
        self._run = run
        self._changes.append(run)
        self._changed.notify_all()
        return run

    # --- halting ------------------------------------------------------------------------------------------------

    def halt(self, why: Halt) -> None:
        """Wakes the thread that carries it out, whatever it waits for. The first reason counts."""
        with self._changed:
            if self._halt is None:
                self._halt = why
            if self._line is not None:
                self._line.close()

    @contextmanager
    def waiter(self) -> Iterator[Waiter]:
        """Waits for an engine, and takes a halt for a client that has gone."""
        ours, line = socket.socketpair()
        with ours, line:
            with self._changed:
                self._line = line
                if self._halt is not None:
                    line.close()
            try:
                yield Waiter(ours)
            finally:
                with self._changed:
                    self._line = None

    # --- listening ----------------------------------------------------------------------------------------------

    def watch(self, pause: float) -> Iterator[Change | None]:
        """The run now, all that it has said, and then every change; None after ``pause`` seconds without one."""
        with self._changed:
            heard, run, pieces = len(self._changes), self._run, list(self._pieces)
        yield run
        if pieces:
            yield 0, pieces
        while True:
            with self._changed:
                if heard == len(self._changes) and not self._over:
                    self._changed.wait(pause)
                news, over = self._changes[heard:], self._over
            heard += len(news)
            yield from news
            if not news:
                if over:
                    return
                yield None
