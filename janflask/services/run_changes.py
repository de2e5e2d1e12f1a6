"""Listening to a run, be it that runners go away under it."""

from __future__ import annotations

from collections.abc import Generator

from janflask.errors import UnavailableError
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.storage.records import RunStatus

REJOINS = 20  # times that a runner may go away under a watcher

Change = RunChanged | RunSaid | None  # None: a silence
Changes = Generator[Change, None, None]


def changes_of(runner: RunnerClient, thread_id: str, run_id: str, waiter: Waiter, beat: float) -> Changes:
    """See ``RunService.watch``."""
    for _ in range(REJOINS):
        last: RunStatus | None = None
        for change in _heard(runner, thread_id, run_id, waiter, beat):
            if isinstance(change, RunChanged):
                last = change.run.status
            yield change
        if last is not None and (last.is_final or last is RunStatus.REQUIRES_ACTION):
            return
    raise UnavailableError(f"the runner ends again and again under run {run_id}; its log says why", retry_after=5)


def _heard(runner: RunnerClient, thread_id: str, run_id: str, waiter: Waiter, beat: float) -> Changes:
    """From one runner."""
    with runner.watch(thread_id, run_id) as watch:
        waiter.watch(watch)
        try:
            while True:
                if not waiter.wait(beat):
                    yield None
                    continue
                news = watch.receive()
                if news is None:
                    return
                yield from news
        finally:
            waiter.unwatch(watch)
