"""Runs in memory, and what each has said so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from types import TracebackType
from typing import Self

from janflask.errors import NotFoundError
from janflask.files import ids
from janflask.storage.base import Page, Slice
from janflask.storage.memory_threads import MemoryThreadStore
from janflask.storage.paging import Key, cut
from janflask.storage.records import Run


class _Said:
    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return

    def add(self, *pieces: str) -> None:
        self._pieces.extend(pieces)

    def sync(self) -> None:
        return


class MemoryRunStore:
    """Runs of the threads in ``threads``."""

    def __init__(self, threads: MemoryThreadStore) -> None:
        self._lock = threading.RLock()
        self._threads = threads
        self._runs: dict[tuple[str, str], Run] = {}
        self._said: dict[tuple[str, str], list[str]] = {}

    def create(self, run: Run) -> bool:
        with self._lock:
            if self.open_run(run.thread_id) is not None:
                return False
            for key in [key for key in self._said if key[0] == run.thread_id]:
                del self._said[key]
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
        self._threads.get(thread_id)
        keys: list[Key] = sorted((ids.time_of(run) or 0, run) for thread, run in self._runs if thread == thread_id)
        return cut(keys, page, lambda run_id: self.get(thread_id, run_id))

    def open_run(self, thread_id: str) -> str | None:
        self._threads.get(thread_id)
        runs = [run for (thread, _), run in self._runs.items() if thread == thread_id]
        return next((run.id for run in runs if not run.status.is_final), None)

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        return self.update(thread_id, run_id, change)

    def all_open(self) -> Iterator[tuple[str, str]]:
        return iter([key for key, run in list(self._runs.items()) if not run.status.is_final])

    def forget(self, run_id: str) -> None:
        with self._lock:
            for key in [key for key in self._runs if key[1] == run_id and not self._runs[key].status.is_final]:
                del self._runs[key]

    def reply(self, thread_id: str, run_id: str) -> _Said:
        self.get(thread_id, run_id)
        return _Said(self._said.setdefault((thread_id, run_id), []))

    def said(self, thread_id: str, run_id: str) -> Sequence[str]:
        self.get(thread_id, run_id)
        return list(self._said.get((thread_id, run_id), []))
