"""Conversations out of one repository and into another: what comes out goes in again, and nothing hostile does."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import InvalidRequestError, JanflaskError, NotFoundError, RequestTooLargeError, StorageFullError
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import branches
from janflask.storage.base import Page, Repository
from janflask.storage.jan import message_from_json
from janflask.storage.memory import memory_repository
from janflask.storage.records import Assistant, Message, StoredFile, Thread, ThreadAssistant
from janflask.storage.rounds import FIELD
from janflask.transfer.archive import ZipTree
from janflask.transfer.service import ImportReport, PortableService, Skipped
from janflask.transfer.tree import lines

CREATED = 1_717_666_232_000
PICTURE = bytes(range(256)) * 700  # more than one piece


def portable(tmp_path: Path, repository: Repository | None = None) -> tuple[PortableService, Repository]:
    repository = memory_repository() if repository is None else repository
    return PortableService(Settings(data_dir=tmp_path / "data", max_upload_mb=1), repository), repository


def upload(repository: Repository, content: bytes, name: str = "a.png") -> StoredFile:
    one = repository.files.begin()
    one.write(content)
    return one.commit(name, "vision")


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def conversation(repository: Repository, thread_id: str = "jan_1717666232") -> Thread:
    """Three messages, two uploaded files, two files of its own, an assistant, unknown fields everywhere."""
    one, other = upload(repository, PICTURE), upload(repository, b"", "empty.txt")
    repository.assistants.create(
        Assistant(id=f"of-{thread_id}", created_ms=CREATED, name="Ada", extra={"color": "red"})
    )
    thread = Thread(
        id=thread_id,
        created_ms=CREATED,
        updated_ms=CREATED + 9000,
        title="Grüße \N{WAVING HAND SIGN}",
        assistants=(ThreadAssistant(assistant_id=f"of-{thread_id}", assistant_name="Ada", extra={"x": 1}),),
        metadata={"a": {"b": [1, 2]}},
        tool_resources={"code_interpreter": {"file_ids": [one.id]}},
        extra={"lastMessage": "bye"},
    )
    image = {"type": "image_file", "image_file": {"file_id": one.id, "detail": "low"}}
    messages = [
        Message(
            id="01HZ", thread_id=thread_id, created_ms=CREATED + 1, content=(text("test"), image), extra={"y": [2]}
        ),
        Message(
            id="01J0",
            thread_id=thread_id,
            created_ms=CREATED + 2,
            role="assistant",
            assistant_id=f"of-{thread_id}",
            content=(text("line\u2028two\n"),),
            attachments=({"file_id": other.id, "tools": [{"type": "file_search"}]},),
            completed_ms=CREATED + 3,
        ),
        Message(id="01J1", thread_id=thread_id, created_ms=CREATED + 4, content=(text("bye"),), file_ids=(one.id,)),
    ]
    with repository.files.holding([one.id, other.id], thread_id):
        files = [("notes.txt", io.BytesIO(b"own file")), ("big.bin", io.BytesIO(PICTURE))]
        return repository.threads.create(thread, messages, files)


def exported(service: PortableService, thread_id: str = "jan_1717666232") -> dict[str, Any]:
    return json.loads(b"".join(service.export_thread(thread_id)))  # type: ignore[no-any-return]


def as_file(document: Any) -> io.BytesIO:
    return io.BytesIO(json.dumps(document).encode())


def messages_of(repository: Repository, thread_id: str) -> list[Message]:
    return list(repository.threads.all_messages(thread_id))


def content_of(repository: Repository, file_id: str) -> bytes:
    with repository.files.open(file_id) as file:
        return file.read()


def everything(repository: Repository) -> list[object]:
    """All that a repository holds, to compare."""
    threads = list(repository.threads.all())
    return [
        sorted(threads, key=lambda thread: thread.id),
        [messages_of(repository, thread.id) for thread in sorted(threads, key=lambda thread: thread.id)],
        [
            [(file.name, repository.threads.open_file(thread.id, file.name).read()) for file in of]
            for thread in threads
            for of in [repository.threads.files(thread.id)]
        ],
        sorted(repository.assistants.list(Page(limit=None)).items, key=lambda item: item.id),
        sorted(
            [(file.id, file.filename, file.created_ms, content_of(repository, file.id)) for file in _files(repository)]
        ),
    ]


def _files(repository: Repository) -> list[StoredFile]:
    return list(repository.files.list(Page(limit=None)).items)


# --- the document -------------------------------------------------------------------------------------------------


def test_a_document_holds_all_there_is(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    assert (document["object"], document["version"]) == ("thread.export", 1)
    assert document["thread"]["title"] == "Grüße \N{WAVING HAND SIGN}"
    assert document["thread"]["created"] == CREATED
    assert [message["id"] for message in document["messages"]] == ["01HZ", "01J0", "01J1"]
    assert [(file["filename"], file["bytes"]) for file in document["files"]] == [
        ("a.png", len(PICTURE)),
        ("empty.txt", 0),
    ]
    assert base64.b64decode(document["files"][0]["content"]) == PICTURE
    own = {item["name"]: base64.b64decode(item["content"]) for item in document["thread_files"]}
    assert own == {"notes.txt": b"own file", "big.bin": PICTURE}


def test_an_unknown_thread_is_told_at_the_call(tmp_path: Path) -> None:
    service, _ = portable(tmp_path)
    with pytest.raises(NotFoundError):
        service.export_thread("nothing")


def test_an_error_of_jans_without_words_travels(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    part = {"type": "text", "text": {"annotations": []}}
    raw = {"id": "01HZ", "role": "assistant", "status": "error", "created": CREATED, "content": [part]}
    thread = Thread(id="t", created_ms=CREATED, updated_ms=CREATED)
    repository.threads.create(thread, [message_from_json(raw, "t")])
    (message,) = messages_of(repository, service.import_document(as_file(exported(service, "t"))).id)
    assert message.is_error
    assert message.content == (part,)


def test_an_import_is_a_new_thread_that_says_the_same(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    old = conversation(repository)
    document = exported(service)
    new = service.import_document(as_file(document))
    assert new.id != old.id
    assert ids.time_of(new.id) == CREATED
    before, after = messages_of(repository, old.id), messages_of(repository, new.id)
    assert {message.id for message in before}.isdisjoint(message.id for message in after)
    assert all(message.thread_id == new.id for message in after)
    names = dict(zip(document_files(document), [file for message in after for file in message.files], strict=False))
    assert [content_of(repository, file) for file in names.values()] == [PICTURE, b""]
    one = after[0].files[0]
    assert after[2].file_ids == (one,)
    assert new.tool_resources == {"code_interpreter": {"file_ids": [one]}}
    same = dataclasses.replace(new, id=old.id, tool_resources=old.tool_resources)
    assert same == old
    again = exported(service, new.id)
    assert without_ids(again) == without_ids(document)


def test_rounds_of_calls_name_the_new_messages(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    call = {"id": "call_1", "name": "look", "arguments": "{}", "output": "a cat"}
    rounds = [
        {"message_id": "01J0", "calls": [call]},
        {"message_id": None, "calls": [call]},
        {"calls": [], "x": 1},
        "y",
    ]
    said = Message(id="01J0", thread_id="t", created_ms=CREATED, role="assistant", content=(text("Let me see."),))
    reply = dataclasses.replace(said, id="01J1", extra={FIELD: rounds})
    odd = dataclasses.replace(said, id="01J2", extra={FIELD: "z"})
    thread = Thread(id="t", created_ms=CREATED, updated_ms=CREATED)
    repository.threads.create(thread, [said, reply, odd])
    first, second, third = messages_of(repository, service.import_document(as_file(exported(service, "t"))).id)
    assert second.extra == {FIELD: [{"message_id": first.id, "calls": [call]}, *rounds[1:]]}
    assert third.extra == odd.extra


def test_a_summary_keeps_the_new_messages(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    said = Message(id="01J0", thread_id="t", created_ms=CREATED, content=(text("Look!"),))
    compaction = {"kept": ["01J0", "gone"], "encrypted_content": "x"}
    summary = dataclasses.replace(said, id="01J1", role="assistant", extra={"compaction": compaction})
    odd = dataclasses.replace(said, id="01J2", extra={"compaction": {"kept": "z"}})
    repository.threads.create(Thread(id="t", created_ms=CREATED, updated_ms=CREATED), [said, summary, odd])
    first, second, third = messages_of(repository, service.import_document(as_file(exported(service, "t"))).id)
    assert second.extra == {"compaction": {**compaction, "kept": [first.id, "gone"]}}
    assert third.extra == odd.extra


def test_no_imported_thread_has_a_conversations_name(tmp_path: Path) -> None:
    """The API would take it for the name of another thread."""
    service, repository = portable(tmp_path)
    repository.threads.create(Thread(id="conv_sea", created_ms=CREATED, updated_ms=CREATED, title="Sea"))
    archive = io.BytesIO(b"".join(service.export_all()))
    other_service, other = portable(tmp_path / "other")
    report = other_service.import_archive(archive)
    (thread_id,) = report.threads
    assert thread_id.startswith("thread_")
    assert report.renamed == {"conv_sea": thread_id}
    assert other.threads.get(thread_id).title == "Sea"


def branched(repository: Repository) -> tuple[Thread, Thread]:
    """A thread, and a branch of it."""
    first = repository.threads.create(Thread(id="jan_1", created_ms=CREATED, updated_ms=CREATED, title="Sea"))
    return first, repository.threads.create(branches.branch(first, ""))


def test_a_document_of_a_branch_becomes_a_conversation_of_its_own(tmp_path: Path) -> None:
    """Else it would be hidden behind another one."""
    service, repository = portable(tmp_path)
    _, branch = branched(repository)
    document = json.loads(b"".join(service.export_thread(branch.id)))
    copy = repository.threads.get(service.import_document(io.BytesIO(json.dumps(document).encode())).id)
    assert (copy.title, copy.metadata) == ("Sea", {})
    assert len(repository.threads.list(Page(branches=False)).items) == 2


def test_an_archive_keeps_families_where_it_keeps_ids(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    _, branch = branched(repository)
    data = archive_of(service)
    other, there = portable(tmp_path)
    other.import_archive(io.BytesIO(data))
    assert there.threads.get(branch.id).metadata == branch.metadata
    changed, here = portable(tmp_path)
    here.threads.create(dataclasses.replace(branch, title="another"))
    report = changed.import_archive(io.BytesIO(data))
    assert here.threads.get(report.renamed[branch.id]).metadata == {}
    assert here.threads.get(branch.id).metadata == branch.metadata


def document_files(document: dict[str, Any]) -> list[str]:
    return [file["id"] for file in document["files"]]


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    """A document in which every id is told by its place."""
    known = [document["thread"]["id"], *(item["id"] for item in document["messages"] + document["files"])]
    told = json.dumps({**document, "exported_at": 0})
    for number, name in enumerate(known):
        told = told.replace(f'"{name}"', f'"id {number}"')
    return json.loads(told)  # type: ignore[no-any-return]


def test_imported_files_cannot_be_deleted_under_their_messages(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    new = service.import_document(as_file(exported(service)))
    held = messages_of(repository, new.id)[0].files[0]
    asked: list[str] = []
    repository.files.delete(held, lambda thread_id: bool(asked.append(thread_id)))
    assert asked == [new.id]


def test_a_file_that_is_gone_is_told_and_stays_gone(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    old = conversation(repository)
    gone = messages_of(repository, old.id)[0].files[0]
    repository.files.delete(gone, lambda _: False)
    document = exported(service)
    assert {"id": gone, "missing": True} in document["files"]
    new = service.import_document(as_file(document))
    assert messages_of(repository, new.id)[0].files == (gone,)


def test_pieces_are_neither_tiny_nor_huge(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    sizes = [len(piece) for piece in service.export_thread("jan_1717666232")]
    assert all(1 << 16 <= size <= 1 << 18 for size in sizes[:-1])


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        target: Any = document
        for key in way:
            target = target[key]
        target[last] = value

    return change


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


WRONG = [
    ("object", "thread", "object"),
    ("version", 2, "version"),
    ("version", True, "version"),
    ("messages", {}, "messages"),
    ("files", "x", "files"),
    ("thread", None, "thread"),
    ("thread/title", 5, "thread.title"),
    ("thread/metadata", [], "thread.metadata"),
    ("thread/metadata", nested(100), "thread"),
    ("thread/created", "soon", "thread.created"),
    ("thread/created", -1, "thread.created"),
    ("thread/created", 1e300, "thread.created"),
    ("thread/assistants", {"a": 1}, "thread.assistants"),
    ("thread/assistants/0", 7, "thread.assistants[0]"),
    ("thread/assistants/0/assistant_id", None, "thread.assistants[0].assistant_id"),
    ("thread/title", "\ud800", None),
    ("messages/1", "hello", "messages[1]"),
    ("messages/1/role", None, "messages[1].role"),
    ("messages/1/role", "", "messages[1].role"),
    ("messages/1/content", 5, "messages[1].content"),
    ("messages/1/content/0", "x", "messages[1].content[0]"),
    ("messages/1/content/0/type", None, "messages[1].content[0].type"),
    ("messages/1/content/0/text", 5, "messages[1].content[0].text"),
    ("messages/1/content/0/text/value", 5, "messages[1].content[0].text.value"),
    ("messages/1/file_ids", ["file-elsewhere"], "messages[1]"),
    ("messages/1/file_ids", [5], "messages[1].file_ids[0]"),
    ("messages/1/attachments/0", 5, "messages[1].attachments[0]"),
    ("messages/1/metadata", nested(500), "messages[1]"),
    ("files/0/id", "../x", "files[0].id"),
    ("files/0/filename", 5, "files[0].filename"),
    ("files/0/content", "!!!!", "files[0].content"),
    ("files/0/content", "AA==AAAA", "files[0].content"),
    ("files/0/content", "AAA", "files[0].content"),
    ("files/0/content", "AAAA", "files[0].bytes"),
    ("files/0/sha256", "00", "files[0].sha256"),
    ("thread_files/0/name", 5, "thread_files[0].name"),
    ("thread_files/1/name", "dir/big.bin", "thread_files[1].name"),
]


@pytest.mark.parametrize(("path", "value", "param"), WRONG, ids=[f"{path}-{param}" for path, _, param in WRONG])
def test_a_wrong_document_is_refused_with_its_place(
    tmp_path: Path, path: str, value: object, param: str | None
) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    before = everything(repository)
    if path == "thread_files/1/name":
        document["thread_files"][0]["name"] = "big.bin"
    _set(path, value)(document)
    with pytest.raises(InvalidRequestError) as caught:
        service.import_document(as_file(document))
    assert caught.value.param == param
    assert everything(repository) == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("messages/0/content/0/text/value", "x" * (4 << 20)),
        ("files/0/content", base64.b64encode(bytes(1 << 20) + b"abc").decode()),
    ],
    ids=["message", "file"],
)
def test_what_is_too_large_is_refused(tmp_path: Path, path: str, value: object) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    _set(path, value)(document)
    with pytest.raises(RequestTooLargeError):
        service.import_document(as_file(document))


def test_a_failure_midway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    document = exported(service)
    before = everything(repository)

    def full(*_: object) -> Thread:
        raise StorageFullError("the disk is full")

    monkeypatch.setattr(repository.threads, "create", full)
    with pytest.raises(StorageFullError):
        service.import_document(as_file(document))
    assert everything(repository) == before


# --- the archive --------------------------------------------------------------------------------------------------


def archive_of(service: PortableService) -> bytes:
    return b"".join(service.export_all())


def test_an_archive_restores_an_empty_store(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository, "b")
    conversation(repository, "a")
    data = archive_of(service)
    other, empty = portable(tmp_path)
    report = other.import_archive(io.BytesIO(data))
    assert sorted(report.threads) == ["a", "b"]
    assert (len(report.assistants), len(report.files)) == (2, 4)
    assert (dict(report.renamed), report.skipped) == ({}, ())
    assert everything(empty) == everything(repository)


def test_the_second_import_changes_nothing(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository)
    before = everything(repository)
    report = service.import_archive(io.BytesIO(archive_of(service)))
    assert (report.threads, report.assistants, report.files) == ((), (), ())
    assert Skipped("threads/jan_1717666232", "it is here already") in report.skipped
    assert everything(repository) == before


def test_what_differs_comes_under_new_ids(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    thread = conversation(repository)
    data = archive_of(service)
    other, there = portable(tmp_path)
    there.assistants.create(Assistant(id="of-jan_1717666232", created_ms=1, name="Bob"))
    there.threads.create(Thread(id=thread.id, created_ms=1, updated_ms=1, title="another"))
    taken = messages_of(repository, thread.id)[0].files[0]
    one = there.files.begin()
    one.write(b"another")
    one.commit("x", "vision", file_id=taken)
    report = other.import_archive(io.BytesIO(data))
    assert set(report.renamed) == {"of-jan_1717666232", thread.id, taken}
    new = there.threads.get(report.renamed[thread.id])
    assert new.assistants[0].assistant_id == report.renamed["of-jan_1717666232"]
    messages = messages_of(there, new.id)
    assert messages[1].assistant_id == report.renamed["of-jan_1717666232"]
    assert content_of(there, messages[0].files[0]) == PICTURE
    assert there.threads.get(thread.id).title == "another"


def test_our_own_jan_gives_way_only_while_nobody_changed_it(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    repository.assistants.update("jan", lambda jan: dataclasses.replace(jan, instructions="Be brief."))
    data = archive_of(service)
    other, there = portable(tmp_path)
    assert other.import_archive(io.BytesIO(data)).assistants == ("jan",)
    assert there.assistants.get("jan").instructions == "Be brief."
    there.assistants.update("jan", lambda jan: dataclasses.replace(jan, instructions="Be long."))
    report = other.import_archive(io.BytesIO(data))
    assert there.assistants.get("jan").instructions == "Be long."
    assert there.assistants.get(report.renamed["jan"]).instructions == "Be brief."


def test_an_empty_store_is_an_archive_too(tmp_path: Path) -> None:
    service, _ = portable(tmp_path)
    assert service.import_archive(io.BytesIO(archive_of(service))) == ImportReport()


def test_a_large_entry_is_written_without_knowing_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.transfer.archive._IN_MEMORY", 1000)
    service, repository = portable(tmp_path)
    conversation(repository)
    pieces = list(service.export_all())
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.read("threads/jan_1717666232/files/big.bin") == PICTURE


def make_zip(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        for name, data in entries:
            archive.writestr(name, data)
    return io.BytesIO(out.getvalue())


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


GOOD = ("threads/a/thread.json", b'{"title": "A"}')


def lzma_zip() -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(*GOOD)
    return out


def encrypted_zip() -> io.BytesIO:
    data = bytearray(make_zip(GOOD).getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return io.BytesIO(bytes(data))


def nul_zip() -> io.BytesIO:
    return io.BytesIO(
        make_zip(GOOD, ("threads/b/thread.json", b"{}")).getvalue().replace(b"threads/b/", b"threads\0b/")
    )


HOSTILE = {
    "up": lambda: make_zip(GOOD, ("threads/../../x", b"x")),
    "absolute": lambda: make_zip(GOOD, ("/etc/x", b"x")),
    "backslash": lambda: make_zip(GOOD, ("threads\\..\\x", b"x")),
    "dot": lambda: make_zip(GOOD, ("threads/./b/thread.json", b"{}")),
    "dot up": lambda: make_zip(GOOD, ("./../threads/b/thread.json", b"{}")),
    "backslash up": lambda: make_zip(GOOD, ("..\\x", b"x")),
    "dot backslash up": lambda: make_zip(GOOD, (".\\..\\x", b"x")),
    "drive": lambda: make_zip(GOOD, ("C:\\threads\\b\\thread.json", b"{}")),
    "drive without a root": lambda: make_zip(GOOD, ("c:threads/b/thread.json", b"{}")),
    "share": lambda: make_zip(GOOD, ("\\\\host\\share\\x", b"x")),
    "root": lambda: make_zip(GOOD, ("/", b"")),
    "empty part": lambda: make_zip(GOOD, (".//threads/b/thread.json", b"{}")),
    "up in noise": lambda: make_zip(GOOD, ("__MACOSX/../../x", b"x")),
    "link in noise": lambda: make_zip(GOOD, (link("__MACOSX/._x"), b"/etc/passwd")),
    "twice by backslash": lambda: make_zip(GOOD, (GOOD[0].replace("/", "\\"), b"{}")),
    "twice by dot": lambda: make_zip(GOOD, (f"./{GOOD[0]}", b"{}")),
    "nul": lambda: nul_zip(),
    "link": lambda: make_zip(GOOD, (link("threads/a/messages.jsonl"), b"/etc/passwd")),
    "twice": lambda: make_zip(GOOD, GOOD),
    "file and folder": lambda: make_zip(GOOD, ("threads/a", b"x")),
    "bomb": lambda: make_zip(GOOD, ("threads/a/files/zeros", bytes(80 << 20))),
    "encrypted": encrypted_zip,
    "packed otherwise": lzma_zip,
    "no zip": lambda: io.BytesIO(b"PK\x03\x04 nothing"),
    "empty": lambda: io.BytesIO(b""),
    "cut": lambda: io.BytesIO(make_zip(GOOD).getvalue()[:-30]),
    "no conversations": lambda: make_zip(("a.txt", b"x"), ("b.txt", b"x")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_as_a_whole(tmp_path: Path, kind: str) -> None:
    service, repository = portable(tmp_path)
    with pytest.raises(InvalidRequestError):
        service.import_archive(HOSTILE[kind]())
    assert repository.threads.count() == 0


def test_entries_that_overlap_are_refused() -> None:
    data = bytearray(make_zip(GOOD, ("threads/b/thread.json", bytes(1000))).getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 24] = (1 << 20).to_bytes(4, "little")
    with pytest.raises(InvalidRequestError, match="overlap"):
        ZipTree(io.BytesIO(bytes(data)))


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.transfer.archive.MAX_ENTRIES", 1)
    with pytest.raises(InvalidRequestError, match="more than 1 entries"):
        ZipTree(make_zip(GOOD, ("threads/b/thread.json", b"{}")))


def test_damage_inside_an_archive_costs_only_what_it_hits(tmp_path: Path) -> None:
    stream = make_zip(GOOD, ("threads/b/thread.json", json.dumps({"title": os.urandom(60).hex()}).encode()))
    data = bytearray(stream.getvalue())
    at = data.index(b"threads/b/thread.json") + 40
    data[at : at + 10] = bytes(10)
    service, repository = portable(tmp_path)
    report = service.import_archive(io.BytesIO(bytes(data)))
    assert report.threads == ("a",)
    assert [item.path for item in report.skipped] == ["threads/b"]
    assert [thread.title for thread in repository.threads.all()] == ["A"]


@pytest.mark.parametrize("prefix", ["", "jan/", "backup/jan/"])
def test_a_zipped_jan_folder_is_found_inside(tmp_path: Path, prefix: str) -> None:
    service, _ = portable(tmp_path)
    noise = [("__MACOSX/._x", b""), (f"{prefix}models/tiny/model.json", b"{}"), (f"{prefix}.DS_Store", b"")]
    report = service.import_archive(make_zip((prefix + GOOD[0], GOOD[1]), *noise))
    assert report.threads == ("a",)


def unmarked(name: bytes, system: int = 3) -> tuple[zipfile.ZipInfo, bytes]:
    """The raw bytes of a name without the mark that they are UTF-8, as many programs write them."""

    class Raw(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return name, self.flag_bits

    info = Raw("x")
    info.create_system = system
    return info, b""


def whole_thread(*, slash: str = "/", prefix: str = "", folders: bool = False) -> list[tuple[Any, bytes]]:
    """A thread with a message and a file of its own, its paths as a system writes them."""
    message = json.dumps({"id": "m1", "role": "user", "content": "Grüße"}).encode()
    entries = [GOOD, ("threads/a/messages.jsonl", message), ("threads/a/files/pic.png", b"png")]
    made = ["threads/", "threads/a/", "threads/a/files/"] if folders else []
    return [(prefix + name.replace("/", slash), data) for name, data in [*((name, b"") for name in made), *entries]]


def dos_folder(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 0, 0x10
    return info


MAC_NOISE = [
    ("__MACOSX/", b""),
    ("__MACOSX/._threads", b"x"),
    ("__MACOSX/threads/a/._thread.json", b"x"),
    ("__MACOSX/threads/a/files/._pic.png", b"x"),
    (".DS_Store", b"x"),
    ("threads/.DS_Store", b"x"),
    ("threads/a/files/.DS_Store", b"x"),
    ("threads/a/files/._pic.png", b"x"),
    ("threads/a/._messages.jsonl", b"x"),
]
PACKED = {
    "macOS": [*whole_thread(folders=True), *MAC_NOISE],
    "macOS, a folder": [
        *whole_thread(prefix="jan/", folders=True),
        ("__MACOSX/._jan", b"x"),
        ("__MACOSX/jan/threads/a/._thread.json", b"x"),
    ],
    "macOS, one thread": [
        ("a/thread.json", GOOD[1]),
        ("a/messages.jsonl", whole_thread()[1][1]),
        ("a/files/pic.png", b"png"),
        ("__MACOSX/a/._thread.json", b"x"),
        ("__MACOSX/a/files/._pic.png", b"x"),
    ],
    "Windows": [
        *whole_thread(slash="\\", folders=True),
        ("threads\\a\\files\\Thumbs.db", b"x"),
        ("threads\\a\\desktop.ini", b"x"),
    ],
    "Windows, a folder": whole_thread(slash="\\", prefix="My Jan\\"),
    "Windows, folders by attribute": [(dos_folder("threads"), b""), (dos_folder("threads\\a"), b""), *whole_thread()],
    "a leading dot": [("./", b""), *whole_thread(prefix="./", folders=True)],
    "a leading dot, Windows": whole_thread(slash="\\", prefix=".\\"),
    "UTF-8 that is not marked": [*whole_thread(), unmarked("threads/a/files/Grüße/x".encode())],
    "code page 850": [*whole_thread(), unmarked("Grüße.txt".encode("cp850"), 0)],
    "latin-1": [*whole_thread(), unmarked("Grüße.txt".encode("latin-1"), 0)],
}


@pytest.mark.parametrize("kind", PACKED)
def test_archives_as_macos_and_windows_pack_them(tmp_path: Path, kind: str) -> None:
    service, repository = portable(tmp_path)
    report = service.import_archive(make_zip(*PACKED[kind]))
    assert report.threads == ("a",)
    assert [thread.title for thread in repository.threads.all()] == ["A"]
    assert [message.text for message in repository.threads.all_messages("a")] == ["Grüße"]
    assert [file.name for file in repository.threads.files("a")] == ["pic.png"]
    assert [item.path for item in report.skipped] == (["threads/a/files/Thumbs.db"] if kind == "Windows" else [])


def test_a_name_in_utf8_that_is_not_marked_is_read(tmp_path: Path) -> None:
    info, _ = unmarked("threads/Grüße/thread.json".encode())
    tree = ZipTree(make_zip((info, GOOD[1])))
    assert tree.folders("threads") == ["Grüße"]
    assert b"".join(tree.pieces("threads/Grüße/thread.json")) == GOOD[1]


def test_an_archive_with_zip64_sizes(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in whole_thread():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    service, repository = portable(tmp_path)
    assert service.import_archive(out).threads == ("a",)
    assert repository.threads.open_file("a", "pic.png").read() == b"png"


def test_two_messages_on_a_line_are_two(tmp_path: Path) -> None:
    """Jan 0.4.0 forgot the line break."""
    one, two, three = (json.dumps({"id": f"m{n}", "role": "user", "content": f"{n}"}).encode() for n in range(3))
    service, repository = portable(tmp_path)
    lines = one + two + b"\n" + three + b'{"id":"m4","role":"user","con\n'
    report = service.import_archive(make_zip(GOOD, ("threads/a/messages.jsonl", lines)))
    assert [message.id for message in repository.threads.all_messages("a")] == ["m0", "m1", "m2"]
    assert [(item.path, item.reason[:18]) for item in report.skipped] == [
        ("threads/a/messages.jsonl", "line 2 is not JSON")
    ]


# --- folders ------------------------------------------------------------------------------------------------------

JAN_THREAD = {
    "title": "Hi",
    "assistants": [{"assistant_id": "jan", "assistant_name": "Jan", "model": {"id": "tiny", "engine": "nitro"}}],
    "id": "jan_1717666232",
    "created": CREATED,
    "updated": CREATED,
}
JAN_MESSAGE = {
    "id": "01HZPKMAT2GANGVWPM4W78SW41",
    "thread_id": "jan_1717666232",
    "role": "user",
    "status": "ready",
    "created": 1_717_671_963_458,
    "updated": 1_717_671_963_458,
    "object": "thread.message",
    "content": [{"type": "text", "text": {"value": "test", "annotations": []}}],
}


def jan_folder(root: Path) -> Path:
    folder = root / "threads" / "jan_1717666232"
    (folder / "files").mkdir(parents=True)
    (folder / "thread.json").write_text(json.dumps(JAN_THREAD))
    (folder / "messages.jsonl").write_text(json.dumps(JAN_MESSAGE))  # without an end
    (folder / "files" / "a.txt").write_text("own")
    return folder


@pytest.mark.parametrize("part", [".", "threads", "threads/jan_1717666232"])
def test_a_jan_folder_a_folder_of_threads_and_a_threads_folder(tmp_path: Path, part: str) -> None:
    jan_folder(tmp_path / "jan")
    service, repository = portable(tmp_path)
    report = service.import_folder(tmp_path / "jan" / part)
    assert report == ImportReport(threads=("jan_1717666232",))
    thread = repository.threads.get("jan_1717666232")
    assert (thread.title, thread.created_ms, thread.assistants[0].model["id"]) == ("Hi", CREATED, "tiny")
    assert [message.text for message in messages_of(repository, thread.id)] == ["test"]
    assert [file.name for file in repository.threads.files(thread.id)] == ["a.txt"]


def test_one_bad_thing_costs_only_itself(tmp_path: Path) -> None:
    folder = jan_folder(tmp_path / "jan")
    good = json.dumps(JAN_MESSAGE)
    (folder / "messages.jsonl").write_bytes(
        f'{good}\n\nnonsense\n[1]\n{good}\n{"x" * (5 << 20)}\n{{"role": "user", "cont'.encode() + b"\xff"
    )
    for name, data in (("broken", b"{"), ("my chat", b'{"title": "T"}'), ("empty", None), ("nul.txt", b"{}")):
        (tmp_path / "jan" / "threads" / name).mkdir()
        if data is not None:
            (tmp_path / "jan" / "threads" / name / "thread.json").write_bytes(data)
    service, repository = portable(tmp_path)
    report = service.import_folder(tmp_path / "jan")
    assert [thread.title for thread in repository.threads.all()].count("Hi") == 1
    assert [len(messages_of(repository, thread)) for thread in ["jan_1717666232"]] == [2]
    assert set(report.renamed) == {"my chat", "nul.txt"}
    told = [(item.path.removeprefix("threads/"), item.reason) for item in report.skipped]
    assert [path for path, _ in told] == [
        "broken",
        "empty",
        *["jan_1717666232/messages.jsonl"] * 4,
    ]
    assert [reason.split()[1] for path, reason in told[2:]] == ["3", "4", "6", "7"]
    assert "doctor" not in str(told)


def test_a_thread_is_made_from_its_messages(tmp_path: Path) -> None:
    folder = jan_folder(tmp_path / "jan")
    (folder / "thread.json").write_text("{")
    service, repository = portable(tmp_path)
    report = service.import_folder(tmp_path / "jan")
    thread = repository.threads.get("jan_1717666232")
    assert (thread.title, thread.created_ms) == ("test", JAN_MESSAGE["created"])
    assert [item.path for item in report.skipped] == ["threads/jan_1717666232/thread.json"]


def test_what_nobody_can_mean_is_taken_and_named(tmp_path: Path) -> None:
    folder = jan_folder(tmp_path / "jan")
    file = folder / "thread.json"
    tables = {"parameters": {"temperature": "warm", "max_tokens": "3"}, "settings": {"ctx_len": "long", "mine": 1}}
    file.write_text(json.dumps(json.loads(file.read_text()) | tables))
    service, repository = portable(tmp_path)
    report = service.import_folder(tmp_path / "jan")
    assert repository.threads.get("jan_1717666232").parameters == tables["parameters"]
    assert [item.path for item in report.skipped] == ["threads/jan_1717666232/thread.json"] * 2
    assert report.skipped[0].reason.startswith('parameters.temperature is "warm": must be a number from 0 to 2; it was')
    assert report.skipped[1].reason.startswith("settings.ctx_len is 'long': must be")


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = jan_folder(tmp_path / "jan")
    (tmp_path / "secret").write_text("secret")
    (folder / "files" / "b.txt").symlink_to(tmp_path / "secret")
    (folder.parent / "linked").symlink_to(folder)
    (folder / "messages.jsonl").unlink()
    (folder / "messages.jsonl").symlink_to(tmp_path / "secret")
    service, repository = portable(tmp_path)
    report = service.import_folder(tmp_path / "jan")
    assert report.threads == ()
    assert repository.threads.count() == 0
    assert len(report.skipped) == 2


def test_our_own_folder_is_no_source_and_no_target(tmp_path: Path) -> None:
    service, _ = portable(tmp_path)
    jan_folder(tmp_path / "data")
    for call in (service.import_folder, service.export_folder):
        with pytest.raises(InvalidRequestError, match="own data folder"):
            call(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(InvalidRequestError, match="no folder"):
        service.import_folder(tmp_path / "nowhere")


def test_export_to_a_folder_and_back(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository, "a")
    conversation(repository, "b")
    seen: list[tuple[int, int]] = []
    report = service.export_folder(tmp_path / "jan", progress=lambda done, total: seen.append((done, total)))
    assert sorted(report.threads) == ["a", "b"]
    assert seen[-1] == (2, 2)
    assert json.loads((tmp_path / "jan/threads/a/thread.json").read_text())["created"] == CREATED
    assert (tmp_path / "jan/threads/a/files/big.bin").read_bytes() == PICTURE
    other, there = portable(tmp_path)
    assert other.import_folder(tmp_path / "jan").skipped == ()
    assert everything(there) == everything(repository)
    again = service.export_folder(tmp_path / "jan", ["a"])
    assert (again.threads, [item.path for item in again.skipped]) == ((), ["threads/a"])


def test_only_the_threads_that_were_asked_for_leave(tmp_path: Path) -> None:
    service, repository = portable(tmp_path)
    conversation(repository, "a")
    conversation(repository, "b")
    with pytest.raises(NotFoundError):
        service.export_folder(tmp_path / "jan", ["a", "nothing"])
    assert not (tmp_path / "jan").exists()
    service.export_folder(tmp_path / "jan", ["a"])
    kinds = ("threads", "assistants", "files")
    there = {kind: sorted(p.name for p in (tmp_path / "jan" / kind).iterdir() if p.name[0] != ".") for kind in kinds}
    assert (there["threads"], there["assistants"], len(there["files"])) == (["a"], ["of-a"], 2)


@pytest.mark.parametrize("size", range(1, 9))
def test_lines_however_they_come(size: int) -> None:
    data = b"one\n\ntwotwotwo\nlong\nend"
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    assert list(lines(pieces, 4)) == [b"one", b"", None, b"long", b"end"]


def test_nothing_else_is_imported_when_the_store_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jan_folder(tmp_path / "jan")
    service, repository = portable(tmp_path)

    def full(*_: object) -> Thread:
        raise StorageFullError("the disk is full")

    monkeypatch.setattr(repository.threads, "create", full)
    with pytest.raises(JanflaskError, match="full"):
        service.import_folder(tmp_path / "jan")
