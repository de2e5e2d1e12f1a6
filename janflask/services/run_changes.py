"""Listening to a run, be it that runners go away under it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from janflask.errors import UnavailableError
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.storage.records import RunStatus
from janflask.storage.run_log import ReasoningEvent, TextEvent

REJOINS = 20  # times that a runner may go away under a watcher

Change = RunChanged | RunSaid | None  # None: a silence
Changes = Generator[Change, None, None]


def changes_of(
    runner: RunnerClient, thread_id: str, run_id: str, waiter: Waiter, beat: float, every: float = 0
) -> Changes:
    """See ``RunService.watch``."""
    for _ in range(REJOINS):
        last: RunStatus | None = None
        for change in _heard(runner, thread_id, run_id, waiter, beat, every):
            if isinstance(change, RunChanged):
                last = change.run.status
            yield change
        if last is not None and (last.is_final or last is RunStatus.REQUIRES_ACTION):
            return
    raise UnavailableError(f"the runner ends again and again under run {run_id}; its log says why", retry_after=5)


def _heard(runner: RunnerClient, thread_id: str, run_id: str, waiter: Waiter, beat: float, every: float) -> Changes:
    """From one runner. Behind words it is not listened to for ``every`` seconds: what comes meanwhile is one change."""
    with runner.watch(thread_id, run_id) as watch:
        while True:
            waiter.watch(watch)
            try:
                is_silent = not waiter.wait(beat)
            finally:
                waiter.unwatch(watch)
            if is_silent:
                yield None
                continue
            news = watch.receive()
            if news is None:
                return
            yield from _joined(news) if every else news
            if every and any(map(_has_words, news)):
                waiter.wait(every)


def _joined(news: Iterable[RunChanged | RunSaid]) -> Iterator[RunChanged | RunSaid]:
    """The same, events that follow each other in one change."""
    held: RunSaid | None = None
    for change in news:
        if isinstance(change, RunSaid):
            held = change if held is None else RunSaid(held.first, [*held.events, *change.events])
            continue
        if held is not None:
            yield held
            held = None
        yield change
    if held is not None:
        yield held


def _has_words(change: RunChanged | RunSaid) -> bool:
    return isinstance(change, RunSaid) and any(isinstance(event, TextEvent | ReasoningEvent) for event in change.events)
