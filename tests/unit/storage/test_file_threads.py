"""Threads that other programs wrote: messages without ids, folders that are still being copied, broken files."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from janflask.errors import NotFoundError
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import message_log, open_repository
from janflask.storage.base import Page, ThreadStore
from janflask.storage.doctor.examination import examine
from janflask.storage.records import Message, Thread

ALL = Page(limit=None, order="asc")


@pytest.fixture
def store(settings: Settings) -> ThreadStore:
    return open_repository(settings).threads


def text_line(text: str, **fields: object) -> bytes:
    return json.dumps({"role": "user", "content": text, **fields}).encode()


def write_thread(settings: Settings, name: str, *lines: bytes, created: int = 1_700_000_000_000) -> Path:
    folder = settings.threads_dir / name
    folder.mkdir(parents=True)
    (folder / "messages.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "thread.json").write_text(json.dumps({"id": name, "title": name, "created": created}))
    return folder


def texts(store: ThreadStore, name: str = "jan_1") -> dict[str, str]:
    return {message.id: message.text for message in store.list_messages(name, ALL).items}


LINES = tuple(text_line(text) for text in ("one", "two", "two", "four"))


def test_an_id_that_a_line_lacks_stays_with_its_message(settings: Settings, store: ThreadStore) -> None:
    write_thread(settings, "jan_1", *LINES)
    before = texts(store)
    assert list(before.values()) == ["one", "two", "two", "four"]
    second, third = list(before)[1:3]
    store.delete_message("jan_1", second)
    del before[second]
    assert texts(store) == before
    with pytest.raises(NotFoundError):
        store.delete_message("jan_1", second)
    store.update_message("jan_1", third, lambda message: replace(message, metadata={"seen": True}))
    assert texts(store) == before
    assert list(store.message_ids("jan_1")) == list(before)
    stored = [json.loads(line) for line in (settings.threads_dir / "jan_1/messages.jsonl").read_text().splitlines()]
    assert [line["id"] for line in stored] == list(before)


def test_an_unfinished_end_of_the_file_moves_no_id(settings: Settings, store: ThreadStore) -> None:
    folder = write_thread(settings, "jan_1", b"", *LINES)
    before = texts(store)
    with (folder / "messages.jsonl").open("ab") as file:
        file.write(b'{"role": "us')
    store.append("jan_1", [Message(id=ids.new_id(ids.MESSAGE), thread_id="jan_1", created_ms=1)])
    assert list(texts(store).items())[:4] == list(before.items())


def test_a_line_that_another_program_moves_is_another_message(settings: Settings, store: ThreadStore) -> None:
    folder = write_thread(settings, "jan_1", *LINES)
    second = list(texts(store))[1]
    (folder / "messages.jsonl").write_bytes(b"\n".join((LINES[0], text_line("2.0"), LINES[3])) + b"\n")
    with pytest.raises(NotFoundError):
        store.delete_message("jan_1", second)


def test_an_id_that_is_stored_is_given_to_no_line_that_lacks_one(settings: Settings, store: ThreadStore) -> None:
    lacking = text_line("lacking")
    own = message_log.line_id(message_log.Line(0, lacking))
    write_thread(settings, "jan_1", lacking, text_line("stored", id=own), text_line("last", id="last"))
    store.delete_message("jan_1", "last")
    assert texts(store) == {f"{own}-2": "lacking", own: "stored"}


def test_the_doctor_gives_the_id_by_which_a_message_was_shown(settings: Settings, store: ThreadStore) -> None:
    write_thread(settings, "jan_1", b"no json", LINES[0], b"  ", text_line("two", id=5), LINES[3] + b" ")
    before = texts(store)
    assert list(before.values()) == ["one", "two", "four"]
    findings = list(examine(settings, fix=True))
    assert [finding.fixed for finding in findings] == [True] * 4
    assert texts(store) == before
    assert list(examine(settings)) == []


def test_two_messages_on_a_line_are_two(settings: Settings, store: ThreadStore) -> None:
    """Jan 0.4.0 forgot the line break; each of them can be read, paged, found, edited and deleted."""
    names = [f"m{number}" for number in range(8)]
    lines = [text_line(f"word{number}", id=name) for number, name in enumerate(names)]
    lines = [lines[0], lines[1] + lines[2] + lines[3], lines[4] + b" " + lines[5], lines[6] + lines[7]]
    folder = write_thread(settings, "jan_1", *lines)
    assert list(texts(store)) == list(store.message_ids("jan_1")) == names
    for number, name in enumerate(names):
        assert store.get_message("jan_1", name).text == f"word{number}"
        assert [item.id for item in store.search(f"WORD{number}", Page()).items] == ["jan_1"]
        page = store.list_messages("jan_1", Page(limit=2, order="asc", after=name))
        assert [item.id for item in page.items] == names[number + 1 : number + 3]
        page = store.list_messages("jan_1", Page(limit=1, order="desc", after=name))
        assert [item.id for item in page.items] == names[max(0, number - 1) : number]
    store.update_message("jan_1", "m2", lambda message: replace(message, metadata={"seen": True}))
    store.delete_message("jan_1", "m4")
    store.append("jan_1", [Message(id="m8", thread_id="jan_1", created_ms=1)])
    left = [*names[:4], *names[5:], "m8"]
    assert list(texts(store)) == left
    assert store.get_message("jan_1", "m2").metadata == {"seen": True}
    stored = (folder / "messages.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in stored] == left


def test_half_of_a_character_costs_only_itself(settings: Settings, store: ThreadStore) -> None:
    """Jan cuts titles and streams between the two halves of an emoji, and JavaScript writes such a half down."""
    half = b'{"id":"a","role":"user","content":"cut \\ud83d"}'
    whole = b'{"id":"b","role":"user","content":"\\ud83d\\ude00 and \\\\ud83d"}'
    folder = write_thread(settings, "jan_1", half, whole, half.replace(b'"a"', b'"c"') + whole.replace(b'"b"', b'"d"'))
    (folder / "thread.json").write_text('{"id":"jan_1","title":"a title \\ud83d","created":1700000000000}')
    assert store.get("jan_1").title == "a title \ufffd"
    said = {"a": "cut \ufffd", "b": "\U0001f600 and \\ud83d", "c": "cut \ufffd", "d": "\U0001f600 and \\ud83d"}
    assert texts(store) == said
    assert list(store.message_ids("jan_1")) == list("abcd")
    assert len(store.search("cut", Page()).items) == 1
    store.delete_message("jan_1", "d")
    assert texts(store) == {name: said[name] for name in "abc"}
    assert list(examine(settings)) == []


def test_an_index_grows_behind_two_messages_on_a_line(settings: Settings, store: ThreadStore) -> None:
    folder = write_thread(settings, "jan_1", text_line("one", id="a") + text_line("two", id="b"))
    assert list(store.message_ids("jan_1")) == ["a", "b"]
    with (folder / "messages.jsonl").open("ab") as file:
        file.write(text_line("three", id="c"))
    assert list(store.message_ids("jan_1")) == ["a", "b", "c"]
    with (folder / "messages.jsonl").open("ab") as file:
        file.write(text_line("four", id="d") + b"\n")
    assert list(store.message_ids("jan_1")) == ["a", "b", "c", "d"]
    assert store.get_message("jan_1", "c").text == "three"


def test_a_thread_has_its_place_when_it_can_be_read(settings: Settings, store: ThreadStore) -> None:
    for number in (1, 3):
        write_thread(settings, f"jan_{number}", created=number * 1_000_000_000_000)
    folder = settings.threads_dir / "jan_2"
    folder.mkdir()
    assert [thread.id for thread in store.list(Page()).items] == ["jan_3", "jan_1"]
    assert store.count() == 2
    whole = json.dumps({"id": "jan_2", "created": 2_000_000_000_000})
    (folder / "thread.json").write_text(whole[:20])
    assert [thread.id for thread in store.list(Page()).items] == ["jan_3", "jan_1"]
    (folder / "thread.json").write_text(whole)
    for again in (store, open_repository(settings).threads):
        assert [thread.id for thread in again.list(Page()).items] == ["jan_3", "jan_2", "jan_1"]
        assert again.count() == 3
    store.delete("jan_2")
    assert store.count() == 2


@pytest.mark.parametrize("name", sorted(ids.ROUTES))
def test_a_thread_called_like_a_route_is_not_listed(settings: Settings, store: ThreadStore, name: str) -> None:
    write_thread(settings, name)
    assert (store.list(Page()).items, store.count()) == ([], 0)
    (finding,) = examine(settings)
    assert finding.path == f"threads/{name}"
    assert "rename" in finding.problem


def test_a_broken_thread_is_told_once_for_each_state(
    settings: Settings, store: ThreadStore, caplog: pytest.LogCaptureFixture
) -> None:
    mine = ids.new_id(ids.THREAD)
    store.create(Thread(id=mine, created_ms=1, updated_ms=1))
    path = settings.threads_dir / mine / "thread.json"
    path.write_text("{")
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        assert store.list(Page()).items == []
        assert store.search("word", Page()).items == []
    assert [mine in record.getMessage() for record in caplog.records] == [True]
    path.write_text("[1]")
    store.list(Page())
    store.list(Page())
    assert len(caplog.records) == 2


def test_what_is_too_large_is_told_in_the_doctors_own_words(settings: Settings, store: ThreadStore) -> None:
    folder = write_thread(settings, "jan_1", LINES[0])
    (folder / "thread.json").write_bytes(b" " * (5 << 20))
    finding = next(finding for finding in examine(settings) if finding.path.endswith("thread.json"))
    assert finding.problem == "it is larger than 4194304 bytes; it can be made from the messages"


def test_the_doctor_removes_what_the_deletion_of_a_model_left_over(settings: Settings) -> None:
    gone = settings.models_dir / ".janflask" / "gone-0"
    gone.mkdir(parents=True)
    (gone / "model.gguf").write_bytes(b"GGUF")
    for path in (gone / "model.gguf", gone):
        os.utime(path, (1, 1))
    assert [finding.path for finding in examine(settings)] == ["models/.janflask/gone-0"]
    assert [finding.fixed for finding in examine(settings, fix=True)] == [True]
    assert not gone.exists()
