"""Runs as somebody sees them: those of their threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from janflask.storage.base import EventWriter, Page, RunStore, Slice
from janflask.storage.records import Run
from janflask.storage.run_log import LogEvent


class OwnedRunStore:
    """``base.RunStore`` over ``store``; ``check`` raises NotFoundError for a thread that is not to be seen.

    What looks after all open runs is the runner's, which is nobody's and works on the store itself.
    """

    def __init__(self, store: RunStore, check: Callable[[str], None]) -> None:
        self._store = store
        self._check = check

    def create(self, run: Run, still: Callable[[], bool] = lambda: True) -> bool:
        self._check(run.thread_id)
        return self._store.create(run, still)

    def get(self, thread_id: str, run_id: str) -> Run:
        self._check(thread_id)
        return self._store.get(thread_id, run_id)

    def update(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        self._check(thread_id)
        return self._store.update(thread_id, run_id, change)

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        self._check(thread_id)
        return self._store.list(thread_id, page)

    def ids(self, thread_id: str) -> Sequence[str]:
        self._check(thread_id)
        return self._store.ids(thread_id)

    def delete(self, thread_id: str, run_id: str) -> None:
        self._check(thread_id)
        self._store.delete(thread_id, run_id)

    def idle(self, thread_id: str) -> AbstractContextManager[bool]:
        self._check(thread_id)
        return self._store.idle(thread_id)

    def open_run(self, thread_id: str) -> str | None:
        self._check(thread_id)
        return self._store.open_run(thread_id)

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        self._check(thread_id)
        return self._store.close(thread_id, run_id, change)

    def all_open(self) -> Iterator[tuple[str, str]]:
        raise PermissionError("open runs are looked after by the runner alone")

    def forget(self, run_id: str) -> None:
        raise PermissionError("open runs are looked after by the runner alone")

    def event_log(self, thread_id: str, run_id: str) -> EventWriter:
        self._check(thread_id)
        return self._store.event_log(thread_id, run_id)

    def events(self, thread_id: str, run_id: str) -> Sequence[LogEvent]:
        self._check(thread_id)
        return self._store.events(thread_id, run_id)
