"""What every store keeps of a run's events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from janflask.errors import NotFoundError
from janflask.files import ids
from janflask.storage.base import Repository
from janflask.storage.records import Run, RunStatus, Thread
from janflask.storage.run_log import LogEvent, ReasoningEvent, TextEvent, ToolCallEvent, missing, texts_of

SAID: list[LogEvent] = [ReasoningEvent("Hm."), TextEvent("Hel"), ToolCallEvent(0, "call_1", "look"), TextEvent("lo")]


def begun(repository: Repository, thread_id: str = "t") -> Run:
    if thread_id not in [thread.id for thread in repository.threads.all()]:
        repository.threads.create(Thread(id=thread_id, created_ms=1, updated_ms=1))
    run = Run(
        id=ids.new_id(ids.RUN),
        thread_id=thread_id,
        assistant_id="jan",
        message_id=ids.new_id(ids.MESSAGE),
        step_id="step_1",
        created_ms=1,
        expires_ms=2,
        model="m",
    )
    assert repository.runs.create(run)
    return repository.runs.update(
        thread_id, run.id, lambda run: replace(run, status=RunStatus.IN_PROGRESS, started_ms=3, replied_ms=4)
    )


def ended(run: Run) -> Run:
    return replace(run, status=RunStatus.COMPLETED, completed_ms=7)


def test_events_are_there_at_once_and_in_their_order(repository: Repository) -> None:
    run = begun(repository)
    assert list(repository.runs.events("t", run.id)) == []
    with repository.runs.event_log("t", run.id) as writer:
        writer.add(missing(run, []))
        writer.add(SAID[:1])
        assert list(repository.runs.events("t", run.id)) == [*missing(run, []), SAID[0]]
    with repository.runs.event_log("t", run.id) as writer:
        writer.add(SAID[1:])
        writer.sync()
    assert list(repository.runs.events("t", run.id)) == [*missing(run, []), *SAID]
    assert list(texts_of(repository.runs.events("t", run.id))) == ["Hel", "lo"]


def test_the_end_of_a_run_completes_its_log_once(repository: Repository) -> None:
    run = begun(repository)
    with repository.runs.event_log("t", run.id) as writer:
        writer.add([*missing(run, []), *SAID])
    whole = [*missing(run, []), *SAID, *missing(ended(run), missing(run, []))]
    for _ in range(2):
        repository.runs.close("t", run.id, ended)
        assert list(repository.runs.events("t", run.id)) == whole


def test_a_run_that_never_began_has_a_log_in_the_end(repository: Repository) -> None:
    run = begun(repository)
    repository.runs.close("t", run.id, ended)
    assert list(repository.runs.events("t", run.id)) == missing(ended(run), [])


def test_the_threads_next_run_forgets_it_for_good(repository: Repository) -> None:
    first, other = begun(repository), begun(repository, "other")
    for run in (first, other):
        with repository.runs.event_log(run.thread_id, run.id) as writer:
            writer.add(SAID)
        repository.runs.close(run.thread_id, run.id, ended)
    second = begun(repository)
    assert list(repository.runs.events("t", first.id)) == []
    repository.runs.close("t", first.id, ended)
    assert list(repository.runs.events("t", first.id)) == [], "whoever is late brings nothing back"
    assert list(repository.runs.events("t", second.id)) == []
    assert list(texts_of(repository.runs.events("other", other.id))) == ["Hel", "lo"]


def test_no_run_no_events(repository: Repository) -> None:
    begun(repository)
    for thread_id, run_id in (("t", "run_0"), ("nobody", "run_0"), ("t", "../x")):
        with pytest.raises(NotFoundError):
            repository.runs.event_log(thread_id, run_id)
    for thread_id, run_id in (("nobody", "run_0"), ("t", "../x")):
        with pytest.raises(NotFoundError):
            repository.runs.events(thread_id, run_id)
