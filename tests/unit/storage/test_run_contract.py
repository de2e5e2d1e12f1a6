"""What every store keeps of a run's events."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Page, Repository
from janflask.storage.records import Run, RunKind, RunStatus, Thread
from janflask.storage.run_log import LogEvent, ReasoningEvent, TextEvent, ToolCallEvent, missing, texts_of

SAID: list[LogEvent] = [ReasoningEvent("Hm."), TextEvent("Hel"), ToolCallEvent(0, "call_1", "look"), TextEvent("lo")]


def new_run(repository: Repository, thread_id: str = "t", kind: RunKind = RunKind.RUN) -> Run:
    """One of a thread that is there, and that nobody has stored yet."""
    if thread_id not in [thread.id for thread in repository.threads.all()]:
        repository.threads.create(Thread(id=thread_id, created_ms=1, updated_ms=1))
    prefix = {RunKind.RESPONSE: ids.RESPONSE, RunKind.CHAT: ids.CHAT}.get(kind)
    return Run(
        id=ids.new_id(ids.RUN) if prefix is None else ids.new_answer_id(prefix, thread_id),
        thread_id=thread_id,
        assistant_id="jan",
        message_id=ids.new_id(ids.MESSAGE),
        step_id="step_1",
        created_ms=1,
        expires_ms=2,
        model="m",
        kind=kind,
    )


def begun(repository: Repository, thread_id: str = "t", kind: RunKind = RunKind.RUN) -> Run:
    run = new_run(repository, thread_id, kind)
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


@pytest.mark.parametrize("kind", [RunKind.RESPONSE, RunKind.CHAT])
def test_an_answer_keeps_its_log_whatever_comes_behind_it(repository: Repository, kind: RunKind) -> None:
    first = begun(repository, kind=kind)
    with repository.runs.event_log("t", first.id) as writer:
        writer.add(SAID)
    repository.runs.close("t", first.id, ended)
    before = list(repository.runs.events("t", first.id))
    for later in (kind, RunKind.RUN):
        repository.runs.close("t", begun(repository, kind=later).id, ended)
    assert list(repository.runs.events("t", first.id)) == before


def test_a_run_is_not_made_where_something_has_changed(repository: Repository) -> None:
    run = new_run(repository)
    before = list(repository.runs.all_open())
    assert not repository.runs.create(run, lambda: False)
    assert (list(repository.runs.ids("t")), list(repository.runs.all_open())) == ([], before)
    assert repository.runs.open_run("t") is None
    assert repository.runs.create(run, lambda: True)


def test_nobody_else_makes_a_run_while_it_is_asked_whether_something_has_changed(repository: Repository) -> None:
    run, other = new_run(repository), new_run(repository)
    made: list[bool] = []
    asking = threading.Thread(target=lambda: made.append(repository.runs.create(other)))

    def still() -> bool:
        asking.start()
        asking.join(0.2)  # it may have to wait for us
        return made != [True]

    assert repository.runs.create(run, still)
    asking.join()
    assert made == [False]
    assert list(repository.runs.ids("t")) == [run.id]


def test_runs_are_named_by_their_creation(repository: Repository) -> None:
    names = []
    for _ in range(3):
        names.append(begun(repository, kind=RunKind.RESPONSE).id)
        repository.runs.close("t", names[-1], ended)
    assert list(repository.runs.ids("t")) == names
    with pytest.raises(NotFoundError):
        repository.runs.ids("nowhere")
    assert [run.id for run in repository.runs.list("t", Page(order="asc")).items] == names


def test_a_run_is_deleted_with_its_log_once_it_is_over(repository: Repository) -> None:
    run = begun(repository, kind=RunKind.RESPONSE)
    with pytest.raises(ConflictError):
        repository.runs.delete("t", run.id)
    repository.runs.close("t", run.id, ended)
    repository.runs.delete("t", run.id)
    assert list(repository.runs.ids("t")) == []
    for act in (repository.runs.get, repository.runs.delete):
        with pytest.raises(NotFoundError):
            act("t", run.id)


def test_no_run_is_made_in_a_thread_that_is_kept_idle(repository: Repository) -> None:
    run = new_run(repository)
    with repository.runs.idle("t") as is_idle:
        assert is_idle
        assert not repository.runs.create(run)
        with repository.runs.idle("t") as twice:
            assert not twice
        assert not repository.runs.create(run)
    assert repository.runs.create(run)
    with repository.runs.idle("t") as is_idle:
        assert not is_idle
    assert repository.runs.open_run("t") == run.id


def test_a_thread_is_deleted_while_it_is_kept_idle(repository: Repository) -> None:
    new_run(repository)
    with repository.runs.idle("t"):
        repository.threads.delete("t")
    with pytest.raises(NotFoundError):
        repository.runs.ids("t")
