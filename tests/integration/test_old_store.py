"""A store written by an earlier version opens with everything that was in it, and what was under way goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.doctor.examination import examine
from janflask.storage.records import Message, Run, RunStatus, Thread
from janflask.storage.run_log import texts_of
from tests.unit.runner import run_world
from tests.unit.runner.run_world import RunWorld, hanging, saying

OLD = Path(__file__).parents[1] / "data" / "store_0.1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    return Settings(data_dir=tmp_path)


@pytest.fixture
def repository(settings: Settings) -> Repository:
    return open_repository(settings)


def thread_of(repository: Repository, kind: str) -> Thread:
    (found,) = [thread for thread in repository.threads.all() if thread.metadata["kind"] == kind]
    return found


def messages(repository: Repository, thread: Thread) -> list[Message]:
    return list(repository.threads.all_messages(thread.id))


def test_threads_and_messages(repository: Repository) -> None:
    kinds = {thread.metadata["kind"] for thread in repository.threads.all()}
    assert kinds == {"completed", "incomplete", "cancelled", "failed", "open"}
    said = messages(repository, thread_of(repository, "completed"))
    assert [(message.role, message.text) for message in said] == [
        ("user", "What is the capital of France?"),
        ("assistant", "The capital of France is Paris."),
        ("user", "And of Italy? é世😀"),
        ("assistant", "Italy is also the capital of the Italian region."),
    ]
    cut = messages(repository, thread_of(repository, "incomplete"))[-1]
    assert (cut.status, cut.incomplete_details) == ("incomplete", {"reason": "max_tokens"})


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("completed", [RunStatus.COMPLETED, RunStatus.COMPLETED]),
        ("incomplete", [RunStatus.INCOMPLETE]),
        ("cancelled", [RunStatus.CANCELLED]),
        ("failed", [RunStatus.FAILED]),
        ("open", [RunStatus.IN_PROGRESS]),
    ],
)
def test_runs_and_what_they_said(repository: Repository, kind: str, statuses: list[RunStatus]) -> None:
    thread = thread_of(repository, kind)
    runs = repository.runs.list(thread.id, Page(order="asc")).items
    assert [run.status for run in runs] == statuses
    said = "".join(texts_of(repository.runs.events(thread.id, runs[-1].id)))
    texts = {message.id: message.text for message in messages(repository, thread)}
    assert said == (texts.get(runs[-1].message_id, "") if kind != "open" else said)
    assert bool(said) == (kind != "failed")


def test_uploads_and_assistants(repository: Repository) -> None:
    (file,) = repository.files.list(Page()).items
    with repository.files.open(file.id) as content:
        assert (file.filename, content.read()) == ("glass.txt", b"Sand, soda and lime.")
    names = {assistant.name for assistant in repository.assistants.list(Page()).items}
    assert names == {"Jan", "Glazier"}


def test_the_doctor_finds_nothing(settings: Settings) -> None:
    assert list(examine(settings)) == []


@pytest.fixture
def world(settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunWorld]:
    monkeypatch.setattr(run_world, "CONTEXT", 4096)
    world = RunWorld(saying(" and on"))
    world.runner.close()
    world.settings, world.repository = settings, repository
    yield world
    world.runner.close()


def set_expiry(world: RunWorld, run: Run, expires_ms: int) -> None:
    path = world.settings.threads_dir / run.thread_id / "runs" / f"{run.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "expires_ms": expires_ms}))


def test_a_run_that_was_under_way_goes_on_behind_what_it_said(world: RunWorld) -> None:
    thread = thread_of(world.repository, "open")
    (run,) = world.repository.runs.list(thread.id, Page()).items
    before = "".join(texts_of(world.repository.runs.events(thread.id, run.id)))
    set_expiry(world, run, ids.now_ms() + 60_000)
    world.new_runner().recover()
    final = world.done(run)
    assert final.status is RunStatus.COMPLETED
    assert messages(world.repository, thread)[-1].text == before + " and on"
    assert world.model.requests[0].begun == before


def test_its_time_is_over_where_it_comes_too_late(world: RunWorld) -> None:
    thread = thread_of(world.repository, "open")
    (run,) = world.repository.runs.list(thread.id, Page()).items
    before = "".join(texts_of(world.repository.runs.events(thread.id, run.id)))
    set_expiry(world, run, ids.now_ms())
    world.model.scripts = [hanging()]
    world.new_runner().recover()
    assert world.done(run).status is RunStatus.EXPIRED
    last = messages(world.repository, thread)[-1]
    assert (last.text, last.status) == (before, "incomplete")
