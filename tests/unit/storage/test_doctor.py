"""The doctor finds each kind of damage, repairs it without losing anything, and finds nothing wrong afterwards."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Repository
from janflask.storage.doctor.examination import Finding, examine
from janflask.storage.records import Assistant, Message, Run, RunKind, RunStatus, Thread


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", durability="os", lock_timeout=0.2)


@pytest.fixture
def repository(settings: Settings) -> Repository:
    """A healthy store: thread ``a`` with two messages, a file that one of them holds, an assistant."""
    repository = open_repository(settings)
    upload = repository.files.begin()
    upload.write(b"content")
    upload.commit("a.txt", "assistants", file_id="file-1", created_ms=5)
    repository.assistants.create(Assistant(id="ada", created_ms=5, name="Ada"))
    messages = [message("m1", "hello there"), dataclasses.replace(message("m2", "bye"), file_ids=("file-1",))]
    with repository.files.holding(["file-1"], "a"):
        thread = Thread(id="a", created_ms=5000, updated_ms=6000, title="A")
        repository.threads.create(thread, messages, [("own.txt", io.BytesIO(b"own"))])
    return repository


def message(message_id: str, value: str) -> Message:
    part = {"type": "text", "text": {"value": value, "annotations": []}}
    return Message(id=message_id, thread_id="a", created_ms=1_717_671_963_458, content=(part,))


def found(settings: Settings, fix: bool = False) -> list[Finding]:
    return list(examine(settings, fix))


def texts(repository: Repository) -> list[str]:
    return [item.text for item in repository.threads.all_messages("a")]


def repaired(settings: Settings, path: str, word: str) -> Finding:
    """One fixable finding; after the repair there is none. Looking alone changes nothing."""
    before = snapshot(settings)
    (finding,) = found(settings)
    assert snapshot(settings) == before
    assert (finding.path, finding.fixable, finding.fixed) == (path, True, False)
    assert word in finding.problem
    (finding,) = found(settings, fix=True)
    assert finding.fixed
    assert found(settings) == []
    if finding.kept is not None:
        assert (settings.data_dir / finding.kept).read_bytes() == before[path]
    return finding


def snapshot(settings: Settings) -> dict[str, bytes]:
    paths = sorted(path for path in settings.data_dir.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {str(path.relative_to(settings.data_dir)): path.read_bytes() for path in paths}


def test_a_healthy_store_has_no_findings(settings: Settings, repository: Repository) -> None:
    seen: list[tuple[int, int]] = []
    assert list(examine(settings, False, lambda done, total: seen.append((done, total)))) == []
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def put(file: Path, content: bytes | None) -> None:
    """Another content; None: no file at all."""
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def test_no_store_is_healthy(settings: Settings) -> None:
    assert found(settings, fix=True) == []
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_a_thread_is_made_again_from_its_messages(
    settings: Settings, repository: Repository, content: bytes | None
) -> None:
    file = settings.threads_dir / "a" / "thread.json"
    put(file, content)
    finding = repaired(settings, "threads/a/thread.json", "from the messages")
    assert (finding.kept is None) == (content is None)
    thread = open_repository(settings).threads.get("a")
    assert (thread.title, thread.created_ms) == ("hello there", 1_717_671_963_458)


def test_wrong_fields_of_a_thread(settings: Settings, repository: Repository) -> None:
    file = settings.threads_dir / "a" / "thread.json"
    file.write_text(json.dumps({"id": "b", "title": 5, "metadata": [1], "created": 5, "mine": "kept"}))
    finding = repaired(settings, "threads/a/thread.json", "title must be text")
    assert "folder's name" in finding.problem
    assert json.loads(file.read_text())["mine"] == "kept"
    assert json.loads(file.read_text())["id"] == "a"


BROKEN = [
    (b"nonsense\n", "line 3", ["hello there", "bye"]),
    (b'{"id":"m3","content":[', "torn", ["hello there", "bye"]),
    (b'{"id":"m3","role":"user","content":"more"}', "does not end", ["hello there", "bye", "more"]),
    (b'{"id":"m1","role":"user","content":"twin"}\n', "earlier line", ["hello there", "bye", "twin"]),
    (b'{"role":"user","content":"anonymous"}\n', "id must be there", ["hello there", "bye", "anonymous"]),
    (b'{"id":"m3","thread_id":"b","content":"lost"}\n', "thread_id must be a", ["hello there", "bye", "lost"]),
    (b'{"id":"m3","metadata":5,"content":"x","mine":1}\n', "metadata must be", ["hello there", "bye", "x"]),
]


@pytest.mark.parametrize(("tail", "word", "left"), BROKEN, ids=[word for _, word, _ in BROKEN])
def test_a_broken_line(settings: Settings, repository: Repository, tail: bytes, word: str, left: list[str]) -> None:
    with (settings.threads_dir / "a" / "messages.jsonl").open("ab") as file:
        file.write(tail)
    repaired(settings, "threads/a/messages.jsonl", word)
    again = open_repository(settings)
    assert texts(again) == left
    assert len(set(again.threads.message_ids("a"))) == len(left)


THIRD, FOURTH = (f'{{"id":"m{number}","role":"user","content":"{number}"}}'.encode() for number in (3, 4))
CUT = b'{"id":"m5","role":"user","content":[{"type":"text","text":{"val'
BESIDE = [
    (THIRD + FOURTH + b"\n", "line 3: it holds 2 messages: line breaks are missing", ["3", "4"]),
    (THIRD + b" " + FOURTH + b"\r\n", "line breaks are missing", ["3", "4"]),
    (THIRD + b"garbage\n", "beside a message there is something else", ["3"]),
    (CUT + THIRD + b"\n", "beside a message there is something else", ["3"]),
    (THIRD + b"\0\0\0\n" + FOURTH + b"\n", "beside a message there is something else", ["3", "4"]),
    (THIRD + CUT, "line 3, the last one, is torn", ["3"]),
]


@pytest.mark.parametrize(("tail", "word", "more"), BESIDE)
def test_what_stands_beside_a_message_costs_only_itself(
    settings: Settings, repository: Repository, tail: bytes, word: str, more: list[str]
) -> None:
    with (settings.threads_dir / "a" / "messages.jsonl").open("ab") as file:
        file.write(tail)
    assert texts(repository) == ["hello there", "bye", *more]
    repaired(settings, "threads/a/messages.jsonl", word)
    assert texts(open_repository(settings)) == ["hello there", "bye", *more]
    lines = (settings.threads_dir / "a" / "messages.jsonl").read_bytes().splitlines()
    assert len([json.loads(line) for line in lines]) == 2 + len(more)


def test_two_messages_and_more_on_a_line(settings: Settings, repository: Repository) -> None:
    with (settings.threads_dir / "a" / "messages.jsonl").open("ab") as file:
        file.write(THIRD + FOURTH + b"x\n")
    findings = found(settings, fix=True)
    assert [finding.problem.split(":")[1] for finding in findings] == [
        " it holds 2 messages",
        " beside a message there is something else",
    ]
    assert found(settings) == []
    assert texts(open_repository(settings)) == ["hello there", "bye", "3", "4"]


def test_many_broken_lines_are_one_repair(settings: Settings, repository: Repository) -> None:
    file = settings.threads_dir / "a" / "messages.jsonl"
    before = b"junk\n" + file.read_bytes() + b"\n\n[1]\nju"
    file.write_bytes(before)
    findings = found(settings, fix=True)
    assert [finding.problem.split()[1].strip(":,") for finding in findings] == ["1", "6", "7"]
    assert {finding.kept for finding in findings} == {findings[0].kept}
    assert (settings.data_dir / str(findings[0].kept)).read_bytes() == before
    assert texts(open_repository(settings)) == ["hello there", "bye"]
    assert found(settings) == []


def test_a_missing_mark_of_a_holder(settings: Settings, repository: Repository) -> None:
    (settings.files_dir / "file-1" / "threads" / "a").unlink()
    repaired(settings, "files/file-1/threads/a", "could be deleted")


def test_a_file_that_a_message_misses(settings: Settings, repository: Repository) -> None:
    repository.files.delete("file-1", lambda _: False)
    (finding,) = found(settings, fix=True)
    assert not finding.fixable
    assert "file-1, which is not there" in finding.problem


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_description_is_made_from_the_content(
    settings: Settings, repository: Repository, content: bytes | None
) -> None:
    before = repository.files.get("file-1")
    file = settings.files_dir / "file-1" / "file.json"
    put(file, content)
    findings = found(settings, fix=True)
    assert [(item.path, item.fixed) for item in findings] == [("files/file-1/file.json", True)]
    after = open_repository(settings).files.get("file-1")
    assert (after.bytes, after.sha256, after.filename) == (before.bytes, before.sha256, "file-1")
    assert found(settings) == []


@pytest.mark.parametrize("content", [b"contenT", b"content and more", None])
def test_content_that_differs_cannot_be_repaired(
    settings: Settings, repository: Repository, content: bytes | None
) -> None:
    file = settings.files_dir / "file-1" / "content"
    put(file, content)
    (finding,) = found(settings, fix=True)
    assert (finding.path, finding.fixable) == ("files/file-1/content", False)
    assert "backup" in finding.problem or "bring it back" in finding.problem


@pytest.mark.parametrize("content", [b"{", b'{"id": "bob"}', b'{"id": "ada", "tools": 5}'])
def test_an_assistant(settings: Settings, repository: Repository, content: bytes) -> None:
    (settings.assistants_dir / "ada" / "assistant.json").write_bytes(content)
    repaired(settings, "assistants/ada/assistant.json", "")
    assert open_repository(settings).assistants.get("ada").id == "ada"


def test_misplaced_things_are_told_and_left_alone(settings: Settings, repository: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thread.json").write_text("{")
    (settings.threads_dir / "link").symlink_to(outside)
    (settings.threads_dir / "my chat").mkdir()
    (settings.threads_dir / "readme.txt").write_text("x")
    (settings.threads_dir / "empty").mkdir()
    findings = found(settings, fix=True)
    assert [item.path for item in findings] == [
        f"threads/{name}" for name in ("empty", "link", "my chat", "readme.txt")
    ]
    assert not any(item.fixable for item in findings)
    assert [path.name for path in outside.iterdir()] == ["thread.json"]


@pytest.mark.parametrize("name", ["thread.json", "messages.jsonl", "files/own.txt", "files"])
def test_links_are_never_followed(settings: Settings, repository: Repository, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("junk")
    place = settings.threads_dir / "a" / name
    if place.is_dir():
        place.rename(tmp_path / "moved")
    else:
        place.unlink()
    place.symlink_to(secret)
    findings = found(settings, fix=True)
    assert [(item.path, item.fixed) for item in findings] == [(f"threads/a/{name}", False)]
    assert place.is_symlink()
    assert secret.read_text() == "junk"


def test_leftovers_go_once_they_are_old(settings: Settings, repository: Repository) -> None:
    staging = settings.threads_dir / ".janflask"
    folder = staging / "new-abc"
    folder.mkdir(parents=True)
    (folder / "thread.json").write_text("{}")
    temporary = settings.threads_dir / "a" / ".thread.json.abc.tmp"
    temporary.write_text("{}")
    assert found(settings, fix=True) == []
    past = time.time() - 7200
    for path in (folder / "thread.json", folder, temporary):
        os.utime(path, (past, past))
    assert [item.fixed for item in found(settings)] == [False, False]
    assert [item.fixed for item in found(settings, fix=True)] == [True, True]
    assert not folder.exists()
    assert not temporary.exists()
    assert found(settings) == []


def test_a_thread_that_is_being_written_is_told(settings: Settings, repository: Repository) -> None:
    told: list[Finding] = []

    def change(thread: Thread) -> Thread:
        told.extend(found(settings))
        return thread

    repository.threads.update("a", change)
    assert [(item.path, item.fixable) for item in told] == [("threads/a", False)]
    assert "somebody else" in told[0].problem


def test_parameters_and_settings_that_nobody_can_mean(settings: Settings, repository: Repository) -> None:
    """They are told and left alone: nobody but their owner knows what they should be."""
    thread = settings.threads_dir / "a" / "thread.json"
    entry = {"assistant_id": "jan", "model": {"parameters": {"top_k": "x"}, "settings": {"ngl": []}}}
    tables = {"parameters": {"temperature": "warm", "max_tokens": "3", "mine": 1}, "settings": {"ctx_len": "long"}}
    thread.write_text(json.dumps(json.loads(thread.read_text()) | tables | {"assistants": [entry]}))
    assistant = settings.assistants_dir / "ada" / "assistant.json"
    assistant.write_text(json.dumps(json.loads(assistant.read_text()) | {"top_p": 7, "temperature": "0.5"}))
    before = snapshot(settings)
    findings = found(settings, fix=True)
    assert snapshot(settings) == before
    assert not any(finding.fixable for finding in findings)
    told = [f"{finding.path}: {finding.problem}" for finding in findings]
    for number, (path, start) in enumerate(
        [
            ("assistants/ada/assistant.json", "top_p is 7: must be from 0 to 1"),
            ("threads/a/thread.json", 'parameters.temperature is "warm": must be a number from 0 to 2'),
            ("threads/a/thread.json", "settings.ctx_len is 'long': must be"),
            ("threads/a/thread.json", 'assistants.0.model.parameters.top_k is "x": must be a whole number'),
            ("threads/a/thread.json", "assistants.0.model.settings.ngl is '[]': must be a number or text"),
        ]
    ):
        assert told[number].startswith(f"{path}: {start}")
    assert len(told) == 5


def make_run(repository: Repository, settings: Settings, **fields: Any) -> Path:
    """The file of a run of thread ``a``."""
    given = {"id": ids.new_id(ids.RUN), "assistant_id": "jan", "message_id": "m9", "step_id": "s", **fields}
    run = Run(thread_id="a", created_ms=1, expires_ms=2, model="m", **given)
    repository.runs.create(run)
    return settings.threads_dir / "a" / "runs" / f"{run.id}.json"


def test_odd_fields_of_a_run(settings: Settings, repository: Repository) -> None:
    file = make_run(repository, settings)
    assert found(settings) == []
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": "warm"}))
    repaired(settings, f"threads/a/runs/{file.name}", 'temperature is "warm"')
    run = repository.runs.get("a", file.stem)
    assert (run.status, run.temperature) == (RunStatus.FAILED, None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_run_of_which_nothing_is_left(settings: Settings, repository: Repository, content: bytes) -> None:
    file = make_run(repository, settings)
    put(file, content)
    finding = repaired(settings, f"threads/a/runs/{file.name}", "the run is lost")
    assert not file.exists()
    assert finding.kept is not None


@pytest.mark.parametrize(
    "log",
    [
        b'"of an"\n" earlier version"\n',
        b'"gone on"\n{"type":"text","text":" with"}\n{"type":"lifecycle","event":"run.completed","at":7}\n',
        b'{"type":"text","text":"a"}\n{"type":"of a later version"}\n{"type":"text","te',
    ],
)
def test_a_log_of_any_version_is_fine(settings: Settings, repository: Repository, log: bytes) -> None:
    make_run(repository, settings).with_suffix(".reply").write_bytes(log)
    assert found(settings) == []


def test_a_log_that_holds_something_else(settings: Settings, repository: Repository) -> None:
    file = make_run(repository, settings).with_suffix(".reply")
    file.write_bytes(b'{"type":"text","text":"a"}\n{"type":"text","text":5}\n')
    (finding,) = found(settings, fix=True)
    assert (finding.path, finding.fixable) == (f"threads/a/runs/{file.name}", False)
    assert "line 2 is no event" in finding.problem


def test_a_reply_that_cannot_be_read(settings: Settings, repository: Repository) -> None:
    file = make_run(repository, settings)
    file.with_suffix(".reply").write_bytes(b'"a"\n5\n"torn')
    (finding,) = found(settings, fix=True)
    assert (finding.path, finding.fixable) == (f"threads/a/runs/{file.stem}.reply", False)
    assert "line 2" in finding.problem


def test_an_answer_whose_file_says_that_it_is_something_else(settings: Settings, repository: Repository) -> None:
    file = make_run(repository, settings, id=ids.new_answer_id(ids.RESPONSE, "a"), kind=RunKind.RESPONSE)
    assert list(examine(settings)) == []
    file.write_bytes(file.read_bytes().replace(b'"kind":"response"', b'"kind":"chat"'))
    assert repository.runs.get("a", file.stem).kind is RunKind.RESPONSE
    repaired(settings, f"threads/a/runs/{file.name}", 'kind is "chat": its id is that of a response')
    assert repository.runs.get("a", file.stem).kind is RunKind.RESPONSE
