"""Runs in memory, and the events of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from types import TracebackType
from typing import Self

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Page, Slice
from janflask.storage.memory_threads import MemoryThreadStore
from janflask.storage.paging import Key, cut
from janflask.storage.records import Run, RunKind
from janflask.storage.run_log import LogEvent, missing


class _EventWriter:
    def __init__(self, events: list[LogEvent]) -> None:
        self._events = events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return

    def add(self, events: Sequence[LogEvent]) -> None:
        self._events.extend(events)

    def sync(self) -> None:
        return


class MemoryRunStore:
    """Runs of the threads in ``threads``."""

    def __init__(self, threads: MemoryThreadStore) -> None:
        self._lock = threading.RLock()
        self._threads = threads
        self._runs: dict[tuple[str, str], Run] = {}
        self._logs: dict[tuple[str, str], list[LogEvent]] = {}
        self._idle: set[str] = set()

    def create(self, run: Run, still: Callable[[], bool] = lambda: True) -> bool:
        with self._lock:
            if run.thread_id in self._idle or self.open_run(run.thread_id) is not None or not still():
                return False
            for key in [key for key in self._logs if key[0] == run.thread_id]:
                if self._runs[key].kind is RunKind.RUN:
                    del self._logs[key]
            self._runs[run.thread_id, run.id] = deepcopy(run)
            return True

    def get(self, thread_id: str, run_id: str) -> Run:
        self._threads.get(thread_id)
        if (thread_id, run_id) not in self._runs:
            raise NotFoundError(f"there is no run {run_id[:128]!r}", param="run_id")
        return deepcopy(self._runs[thread_id, run_id])

    def update(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        with self._lock:
            self._runs[thread_id, run_id] = deepcopy(change(self.get(thread_id, run_id)))
            return self.get(thread_id, run_id)

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        return cut(self._keys(thread_id), page, lambda run_id: self.get(thread_id, run_id))

    def ids(self, thread_id: str) -> Sequence[str]:
        return [run_id for _, run_id in self._keys(thread_id)]

    def delete(self, thread_id: str, run_id: str) -> None:
        with self._lock:
            if not self.get(thread_id, run_id).status.is_final:
                raise ConflictError(f"run {run_id} is under way: cancel it first", param="run_id")
            self._logs.pop((thread_id, run_id), None)
            del self._runs[thread_id, run_id]

    @contextmanager
    def idle(self, thread_id: str) -> Iterator[bool]:
        with self._lock:
            is_idle = thread_id not in self._idle and self.open_run(thread_id) is None
            if is_idle:
                self._idle.add(thread_id)
        try:
            yield is_idle
        finally:
            if is_idle:
                self._idle.remove(thread_id)

    def open_run(self, thread_id: str) -> str | None:
        self._threads.get(thread_id)
        runs = [run for (thread, _), run in self._runs.items() if thread == thread_id]
        return next((run.id for run in runs if not run.status.is_final), None)

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        with self._lock:
            was_open = self.open_run(thread_id) == run_id
            run = self.update(thread_id, run_id, change)
            if was_open:
                events = self._logs.setdefault((thread_id, run_id), [])
                events += missing(run, events)
            return run

    def all_open(self) -> Iterator[tuple[str, str]]:
        return iter([key for key, run in list(self._runs.items()) if not run.status.is_final])

    def forget(self, run_id: str) -> None:
        with self._lock:
            for key in [key for key in self._runs if key[1] == run_id and not self._runs[key].status.is_final]:
                del self._runs[key]

    def event_log(self, thread_id: str, run_id: str) -> _EventWriter:
        self.get(thread_id, run_id)
        return _EventWriter(self._logs.setdefault((thread_id, run_id), []))

    def events(self, thread_id: str, run_id: str) -> Sequence[LogEvent]:
        self.get(thread_id, run_id)
        return list(self._logs.get((thread_id, run_id), []))

    def _keys(self, thread_id: str) -> Sequence[Key]:
        self._threads.get(thread_id)
        return sorted((ids.time_of(run) or 0, run) for thread, run in list(self._runs) if thread == thread_id)
