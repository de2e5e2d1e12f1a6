"""Runs on disk: one open at a time, found again whatever happened, and what was said is not lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from janflask.errors import NotFoundError, RequestTooLargeError, StorageFullError, StoreDamagedError
from janflask.files import ids
from janflask.files.disk import Disk
from janflask.files.locks import FolderLocks
from janflask.storage.base import Page
from janflask.storage.file_runs import MAX_NEW_RUN, FileRunStore
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import TextEvent, texts_of


def new_run(thread_id: str = "t1", **fields: object) -> Run:
    given = {"assistant_id": "jan", "model": "m", "created_ms": 1, "expires_ms": 2} | fields
    return Run(id=ids.new_id(ids.RUN), thread_id=thread_id, message_id="msg_1", step_id="step_1", **given)


def ended(run: Run) -> Run:
    return replace(run, status=RunStatus.COMPLETED, completed_ms=7)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("t1", "t2"):
        (tmp_path / "threads" / name).mkdir(parents=True)
        (tmp_path / "threads" / name / "thread.json").write_text("{}")
    return tmp_path


@pytest.fixture
def store(root: Path) -> FileRunStore:
    return FileRunStore(root / "threads", root / "runs", Disk(), FolderLocks(5))


def test_a_run_comes_back_as_it_was_given(store: FileRunStore) -> None:
    run = new_run(
        instructions="Be brief.",
        parameters={"seed": 1},
        metadata={"a": "b"},
        tools=({"type": "code_interpreter"},),
        left_out=("msg_0",),
        last_messages=3,
    )
    assert store.create(run)
    assert store.get("t1", run.id) == run
    assert store.open_run("t1") == run.id
    assert list(store.all_open()) == [("t1", run.id)]


def test_a_thread_has_one_open_run(store: FileRunStore) -> None:
    first, second = new_run(), new_run()
    assert store.create(first)
    assert not store.create(second)
    assert list(store.all_open()) == [("t1", first.id)]
    assert store.create(new_run("t2"))
    with pytest.raises(NotFoundError):
        store.get("t1", second.id)


def test_an_ended_run_makes_room_for_the_next(store: FileRunStore, root: Path) -> None:
    run = new_run()
    store.create(run)
    with store.event_log("t1", run.id) as writer:
        writer.add([TextEvent("hello")])
    assert store.close("t1", run.id, ended) == ended(run)
    assert store.close("t1", run.id, ended) == ended(run)  # whoever is not sure may do it again
    assert store.get("t1", run.id).status is RunStatus.COMPLETED
    assert store.open_run("t1") is None
    assert list(store.all_open()) == []
    assert texts_of(store.events("t1", run.id)) == ["hello"], "whoever was cut off may still hear it"
    second = new_run()
    assert store.create(second)
    assert texts_of(store.events("t1", run.id)) == []
    files = {path.name for path in (root / "threads" / "t1" / "runs").iterdir()}
    assert files == {f"{run.id}.json", f"{second.id}.json", "open"}


def test_ending_one_late_does_not_free_the_thread_of_another(store: FileRunStore) -> None:
    first, second = new_run(), new_run()
    store.create(first)
    store.close("t1", first.id, ended)
    store.create(second)
    store.close("t1", first.id, ended)
    assert store.open_run("t1") == second.id
    assert list(store.all_open()) == [("t1", second.id)]


def test_runs_are_listed_by_creation(store: FileRunStore) -> None:
    runs = []
    for _ in range(5):
        runs.append(new_run())
        store.create(runs[-1])
        store.close("t1", runs[-1].id, ended)
    names = [run.id for run in runs]
    assert [run.id for run in store.list("t1", Page(limit=3)).items] == names[:1:-1]
    page = store.list("t1", Page(limit=2, order="asc", after=names[1]))
    assert [run.id for run in page.items] == names[2:4]
    assert page.has_more
    assert store.list("t2", Page()).items == []


def test_a_change_is_kept(store: FileRunStore) -> None:
    run = new_run()
    store.create(run)
    store.update("t1", run.id, lambda now: replace(now, metadata={"x": "y"}))
    assert store.get("t1", run.id).metadata == {"x": "y"}


def test_what_is_said_is_there_at_once_and_goes_on(store: FileRunStore) -> None:
    run = new_run()
    store.create(run)
    assert texts_of(store.events("t1", run.id)) == []
    with store.event_log("t1", run.id) as writer:
        writer.add([TextEvent("Once\n")])
        assert texts_of(store.events("t1", run.id)) == ["Once\n"]
        writer.add([TextEvent("\u2028 “upon”")])
        writer.sync()
    with store.event_log("t1", run.id) as writer:
        writer.add([TextEvent(" a time")])
    assert texts_of(store.events("t1", run.id)) == ["Once\n", "\u2028 “upon”", " a time"]


def test_a_piece_that_was_cut_short_counts_for_nothing(store: FileRunStore, root: Path) -> None:
    run = new_run()
    store.create(run)
    with store.event_log("t1", run.id) as writer:
        writer.add([TextEvent("whole")])
    file = root / "threads" / "t1" / "runs" / f"{run.id}.reply"
    file.write_bytes(file.read_bytes() + b'"cut sh')
    assert texts_of(store.events("t1", run.id)) == ["whole"]
    with store.event_log("t1", run.id) as writer:
        writer.add([TextEvent(" again")])
    assert texts_of(store.events("t1", run.id)) == ["whole", " again"]


@pytest.mark.parametrize("thread_id", ["nobody", "../t1", ""])
def test_no_thread_no_run(store: FileRunStore, thread_id: str) -> None:
    for action in (
        lambda: store.create(new_run(thread_id)),
        lambda: store.get(thread_id, "run_1"),
        lambda: store.list(thread_id, Page()),
        lambda: store.open_run(thread_id),
    ):
        with pytest.raises(NotFoundError):
            action()
    assert list(store.all_open()) == []


@pytest.mark.parametrize("run_id", ["run_1", "../thread", "open"])
def test_an_unknown_run(store: FileRunStore, run_id: str) -> None:
    store.create(new_run())
    with pytest.raises(NotFoundError):
        store.get("t1", run_id)


def test_a_damaged_run_is_told(store: FileRunStore, root: Path) -> None:
    run = new_run()
    store.create(run)
    (root / "threads" / "t1" / "runs" / f"{run.id}.json").write_text('{"id": 7}')
    with pytest.raises(StoreDamagedError, match=run.id):
        store.get("t1", run.id)


def path_of(root: Path, run: Run, suffix: str = ".json") -> Path:
    return root / "threads" / "t1" / "runs" / f"{run.id}{suffix}"


def test_numbers_as_text_are_numbers(store: FileRunStore, root: Path) -> None:
    run = new_run(temperature=0.5, max_completion_tokens=3, metadata={"a": 1})
    store.create(run)
    raw = json.loads(path_of(root, run).read_text())
    odd = {"temperature": "0.5", "max_completion_tokens": 3.0, "created_ms": "1", "later": True, "thread_id": "t2"}
    path_of(root, run).write_text(json.dumps(raw | odd))
    assert store.get("t1", run.id) == run
    assert store.open_run("t1") == run.id


@pytest.mark.parametrize(("field", "value"), [("temperature", "warm"), ("status", 7), ("parameters", {"a": [10**30]})])
def test_an_open_run_that_cannot_be_understood_has_failed(
    store: FileRunStore, root: Path, field: str, value: object
) -> None:
    run = new_run()
    store.create(run)
    raw = json.loads(path_of(root, run).read_text())
    path_of(root, run).write_text(json.dumps(raw | {field: value}))
    read = store.get("t1", run.id)
    assert read.status is RunStatus.FAILED
    assert f"{run.id}.json cannot be understood: {field} is" in (read.error_message or "")
    msgspec.msgpack.encode(read)
    assert store.open_run("t1") is None
    assert store.create(new_run()), "it stands in nobody's way"


def test_an_ended_run_that_cannot_be_understood_is_as_it_was(store: FileRunStore, root: Path) -> None:
    run = new_run()
    store.create(run)
    store.close("t1", run.id, ended)
    raw = json.loads(path_of(root, run).read_text())
    path_of(root, run).write_text(json.dumps(raw | {"temperature": "warm", "model": None}))
    assert store.get("t1", run.id) == replace(ended(run), model="")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": 7}'])
def test_a_damaged_run_stands_in_nobodys_way(store: FileRunStore, root: Path, content: str) -> None:
    whole, run = new_run(), new_run()
    store.create(whole)
    store.close("t1", whole.id, ended)
    store.create(run)
    path_of(root, run).write_text(content)
    assert store.open_run("t1") == run.id, "it may just be written"
    os.utime(root / "threads" / "t1" / "runs" / "open", (1, 1))
    assert store.open_run("t1") is None
    assert [item.id for item in store.list("t1", Page()).items] == [whole.id]
    assert store.create(new_run())


@pytest.mark.parametrize("content", [b"", b"../x", b"run_none", b"\xff"])
def test_a_mark_that_names_no_run(store: FileRunStore, root: Path, content: bytes) -> None:
    store.create(new_run())
    mark = root / "threads" / "t1" / "runs" / "open"
    mark.write_bytes(content)
    assert store.open_run("t1") is not None, "it may just be written"
    assert not store.create(new_run())
    os.utime(mark, (1, 1))
    assert store.open_run("t1") is None
    assert store.create(new_run())


def test_what_is_written_can_be_read_again(store: FileRunStore) -> None:
    run = new_run(instructions="\x01" * 512_000)
    assert store.create(run)
    left_out = tuple(ids.new_id(ids.MESSAGE) for _ in range(50_000))
    store.update("t1", run.id, lambda now: replace(now, left_out=left_out))
    assert store.get("t1", run.id).left_out == left_out
    with pytest.raises(RequestTooLargeError, match="bytes as JSON"):
        store.create(new_run("t2", instructions="x" * (MAX_NEW_RUN + 1)))
    assert store.open_run("t2") is None


def test_a_marker_that_nobody_can_read_is_still_found(store: FileRunStore, root: Path) -> None:
    store.create(new_run())
    (root / "runs" / "run_x.json").write_text("{")
    assert ("", "run_x") in list(store.all_open())
    store.forget("run_x")
    store.forget("run_x")
    assert len(list(store.all_open())) == 1


@pytest.mark.parametrize("step", range(1, 8))
def test_a_full_disk_leaves_nothing_half_made(
    store: FileRunStore, root: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    calls = 0
    sync = os.fsync

    def failing(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(28, "No space left on device")
        sync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    run = new_run()
    try:
        store.create(run)
    except StorageFullError:
        assert list(store.all_open()) == []
        assert store.open_run("t1") is None
        assert store.list("t1", Page()).items == []
    else:
        assert calls < step
    monkeypatch.undo()
    assert calls < step or store.create(new_run())
