"""How a run is listened to: each change by itself, or what comes in some time together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self, cast

import pytest

from janflask.errors import UnavailableError
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.services.run_changes import REJOINS, Change, changes_of
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import LifecycleEvent, LogEvent, ReasoningEvent, TextEvent

RUN = Run(
    id="run_1",
    thread_id="thread_1",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=1,
    expires_ms=9,
    model="m",
    status=RunStatus.IN_PROGRESS,
)
ENDED = RunChanged(replace(RUN, status=RunStatus.COMPLETED))
News = list[RunChanged | RunSaid]


class Listening:
    """A runner, its watch, and who waits for it: ``news`` come one list after the other."""

    def __init__(self, *news: News) -> None:
        self.news = list(news)
        self.waits: list[float | str] = []  # for how long, and what for
        self._watched = False

    def watch(self, *args: Any) -> Self:
        self._watched = args == (self,)  # else the runner is asked
        return self

    def unwatch(self, _: Any) -> None:
        self._watched = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        return

    def wait(self, timeout: float) -> list[int]:
        self.waits.append("news" if self._watched else timeout)
        return [1] if self._watched else []

    def receive(self) -> News | None:
        return self.news.pop(0) if self.news else None

    def changes(self, every: float) -> list[Change]:
        return list(changes_of(cast(RunnerClient, self), "thread_1", "run_1", cast(Waiter, self), 9.0, every))


def said(first: int, *events: LogEvent) -> RunSaid:
    return RunSaid(first, list(events))


def of(changes: Sequence[Change]) -> list[Any]:
    return [
        None
        if change is None
        else change.run.status
        if isinstance(change, RunChanged)
        else (change.first, change.events)
        for change in changes
    ]


def test_behind_words_nobody_listens_for_a_while() -> None:
    begun = LifecycleEvent("run.created", 1)
    listening = Listening(
        [RunChanged(RUN), said(1, begun)],
        [said(2, ReasoningEvent("a"))],
        [said(3, TextEvent("b")), said(4, TextEvent("c"))],
        [ENDED],
    )
    told = listening.changes(0.25)
    assert of(told) == [
        *(RunStatus.IN_PROGRESS, (1, [begun])),
        *((2, [ReasoningEvent("a")]), (3, [TextEvent("b"), TextEvent("c")])),
        RunStatus.COMPLETED,
    ]
    assert listening.waits == ["news", "news", 0.25, "news", 0.25, "news", "news"]


def test_without_a_time_each_change_is_told_as_it_comes() -> None:
    news: News = [said(1, TextEvent("b")), said(2, TextEvent("c"))]
    listening = Listening(news, [ENDED])
    assert listening.changes(0) == [*news, ENDED]
    assert listening.waits == ["news"] * 3


def test_what_becomes_of_the_run_stays_between_its_words() -> None:
    listening = Listening([said(1, TextEvent("b")), ENDED, said(2, TextEvent("c")), said(3, TextEvent("d"))], [ENDED])
    assert of(listening.changes(0.25)) == [
        *((1, [TextEvent("b")]), RunStatus.COMPLETED, (2, [TextEvent("c"), TextEvent("d")])),
        RunStatus.COMPLETED,
    ]


def test_a_runner_that_goes_away_again_and_again_is_an_error() -> None:
    listening = Listening()
    with pytest.raises(UnavailableError, match="ends again and again"):
        listening.changes(0.25)
    assert len(listening.waits) == REJOINS
