"""Assistants on disk: Jan's own files, damage, links, what a crash leaves, and the order of what is synced."""

from __future__ import annotations

import errno
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError, NotFoundError, StorageFullError, StoreDamagedError
from janflask.files import disk as disk_module
from janflask.files.disk import STAGING, Disk
from janflask.files.locks import FolderLocks
from janflask.storage.base import Page
from janflask.storage.file_assistants import FileAssistantStore
from janflask.storage.jan_assistants import BUILT_IN
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant

JAN = {
    "avatar": "",
    "id": "jan",
    "object": "assistant",
    "created_at": 1712600000000,
    "name": "Jan",
    "description": "A default assistant",
    "model": "*",
    "instructions": "",
    "tools": [{"type": "retrieval", "enabled": False, "settings": {"top_k": 2}}],
    "file_ids": [],
    "thread_location": None,
    "theirs": {"kept": [1]},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "assistants"


@pytest.fixture
def store(root: Path) -> FileAssistantStore:
    return FileAssistantStore(root, Disk(), FolderLocks(0.2))


def put(root: Path, name: str, content: Any) -> Path:
    file = root / name / "assistant.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def listed(store: FileAssistantStore) -> list[str]:
    return [found.id for found in store.list(Page(order="asc", limit=None)).items]


def assistant(assistant_id: str, name: str = "A") -> Assistant:
    return Assistant(id=assistant_id, created_ms=1_700_000_000_000, name=name)


# --- what others wrote ------------------------------------------------------------------------------------------------


def test_jans_own_file_opens_and_survives_rewriting(root: Path, store: FileAssistantStore) -> None:
    file = put(root, "jan", JAN)
    found = store.get("jan")
    assert (found.created_ms, found.name, found.tools) == (1712600000000, "Jan", tuple(JAN["tools"]))
    store.update("jan", lambda before: replace(before, instructions="Rhyme."))
    assert json.loads(file.read_bytes()) == {**JAN, "version": "1.0", "instructions": "Rhyme."}
    assert listed(store) == ["jan"]


def test_the_name_of_the_folder_counts(root: Path, store: FileAssistantStore) -> None:
    put(root, "mine", {**JAN, "id": "../../other"})
    assert store.get("mine").id == "mine"
    assert sorted(listed(store)) == ["jan", "mine"]


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("temperature", "0.7", 0.7),
        ("temperature", "0", 0.0),
        ("temperature", "warm", None),
        ("temperature", True, None),
        ("top_p", "NaN", None),
        ("name", 5, ""),
        ("model", None, "*"),
        ("tools", {"not": "a list"}, ()),
        ("tools", ["not an object"], ()),
        ("file_ids", [1, 2], ()),
        ("metadata", [], {}),
        ("metadata", "text", {}),
        ("tool_resources", 5, None),
    ],
)
def test_wrong_types_are_tolerated(root: Path, store: FileAssistantStore, field: str, value: Any, wanted: Any) -> None:
    put(root, "a", {**JAN, field: value})
    found = store.get("a")
    assert getattr(found, field) == wanted
    store.update("a", lambda before: replace(before, description="new"))
    assert store.get("a") == replace(found, description="new")


def test_what_was_not_understood_is_kept_until_it_is_replaced(root: Path, store: FileAssistantStore) -> None:
    file = put(root, "a", {**JAN, "tools": "many", "temperature": "0"})
    store.update("a", lambda before: replace(before, name="B"))
    assert json.loads(file.read_bytes())["tools"] == "many"
    store.update("a", lambda before: replace(before, tools=({"type": "x"},), temperature=None))
    written = json.loads(file.read_bytes())
    assert written["tools"] == [{"type": "x"}]
    assert "temperature" not in written


@pytest.mark.parametrize(("value", "wanted"), [(1712600000, 1712600000000), ("1712600000000", 1712600000000)])
@pytest.mark.parametrize("name", ["created_at", "created"])
def test_times_in_every_form(root: Path, store: FileAssistantStore, name: str, value: Any, wanted: int) -> None:
    put(root, "a", {"name": "A", name: value})
    assert store.get("a").created_ms == wanted


def test_without_a_time_the_file_tells_it(root: Path, store: FileAssistantStore) -> None:
    os.utime(put(root, "a", {"name": "A"}), ns=(0, 1_600_000_000_123_000_000))
    assert store.get("a").created_ms == 1_600_000_000_123


# --- damage -----------------------------------------------------------------------------------------------------------

DAMAGED = [
    b"",
    b'{"id": "jan", "na',
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a": "\xff"}',
    b"{}" + b" " * (5 << 20),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file(
    root: Path, store: FileAssistantStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = put(root, "bad", content)
    put(root, "good", JAN)
    with pytest.raises(StoreDamagedError):
        store.get("bad")
    with pytest.raises(StoreDamagedError):
        store.update("bad", lambda before: before)
    with caplog.at_level(logging.WARNING):
        assert listed(store) == ["jan", "good"]
    assert "bad" in caplog.text
    assert file.read_bytes() == content
    store.delete("bad")
    assert not file.parent.exists()


def test_a_damaged_default_is_neither_hidden_nor_overwritten(root: Path, store: FileAssistantStore) -> None:
    file = put(root, "jan", b'{"instructions": "mine')
    assert list(store.list(Page()).items) == [BUILT_IN]
    with pytest.raises(StoreDamagedError):
        store.get(DEFAULT_ASSISTANT)
    with pytest.raises(StoreDamagedError):
        store.update(DEFAULT_ASSISTANT, lambda before: before)
    assert file.read_bytes() == b'{"instructions": "mine'


def test_the_default_has_no_file_before_it_is_changed(root: Path, store: FileAssistantStore) -> None:
    assert store.get(DEFAULT_ASSISTANT) == BUILT_IN
    assert listed(store) == ["jan"]
    assert not root.exists()
    store.update(DEFAULT_ASSISTANT, lambda before: replace(before, name="J"))
    assert json.loads((root / "jan" / "assistant.json").read_bytes())["name"] == "J"


def test_folders_that_are_no_assistants(root: Path, store: FileAssistantStore) -> None:
    (root / "empty").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "README.txt").write_text("x")
    (root / "a b").mkdir()
    assert listed(store) == ["jan"]
    for action in (store.get, store.delete):
        with pytest.raises(NotFoundError):
            action("empty")
    assert (root / "empty").is_dir()


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linked", DEFAULT_ASSISTANT])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_links_are_not_followed(root: Path, tmp_path: Path, store: FileAssistantStore, kind: str, name: str) -> None:
    outside = put(tmp_path / "outside", "secret", {**JAN, "name": "secret"})
    before = outside.read_bytes()
    root.mkdir()
    if kind == "folder":
        (root / name).symlink_to(outside.parent)
    else:
        (root / name).mkdir()
        (root / name / "assistant.json").symlink_to(outside)
    for action in (store.get, lambda text: store.update(text, lambda found: replace(found, name="new"))):
        with pytest.raises(ConflictError):
            action(name)
    with pytest.raises(ConflictError):
        store.create(assistant(name))
    assert listed(store) == ["jan"]
    assert store.list(Page()).items[0] == BUILT_IN
    assert outside.read_bytes() == before


def test_deleting_removes_a_link_and_not_what_it_names(root: Path, tmp_path: Path, store: FileAssistantStore) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    store.create(assistant("a"))
    (root / "a" / "link").symlink_to(outside)
    store.delete("a")
    assert (outside / "kept").read_text() == "x"


def test_a_fifo_does_not_hold_anybody(root: Path, store: FileAssistantStore) -> None:
    (root / "fifo").mkdir(parents=True)
    os.mkfifo(root / "fifo" / "assistant.json")
    with pytest.raises(ConflictError):
        store.get("fifo")
    assert listed(store) == ["jan"]


# --- crashes and the disk ---------------------------------------------------------------------------------------------


def test_what_is_synced_and_when(store: FileAssistantStore, calls: list[str]) -> None:
    store.create(assistant("a"))
    assert calls == ["sync assistant.json", "sync staged", "rename to a", "sync assistants"]
    calls.clear()
    store.update("a", lambda found: replace(found, name="B"))
    assert calls == ["sync temporary", "rename to assistant.json", "sync a"]
    calls.clear()
    store.delete("a")
    assert calls == ["rename to gone", "sync assistants"]
    calls.clear()
    store.update(DEFAULT_ASSISTANT, lambda found: found)
    assert calls == ["sync assistants", "sync temporary", "rename to assistant.json", "sync jan"]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_changes_nothing(
    root: Path, store: FileAssistantStore, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store.create(assistant("a", "before"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk_module.os, failing, full)
        for action in (
            lambda: store.create(assistant("b")),
            lambda: store.update("a", lambda found: replace(found, name="after")),
        ):
            with pytest.raises(StorageFullError):
                action()
        assert store.get("a").name == "before" or failing == "fsync"
    assert listed(store) == ["jan", "a"]
    assert [path.name for path in (root / "a").iterdir()] == ["assistant.json"]
    assert list((root / STAGING).iterdir()) == []
    store.create(assistant("b"))


def test_a_delete_that_is_not_synced_is_taken_back(
    root: Path, store: FileAssistantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(assistant("a"))

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(disk_module.os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output"):
            store.delete("a")
        with pytest.raises(OSError, match="Input/output"):
            store.create(assistant("b"))
    assert listed(store) == ["jan", "a"]


def test_what_a_crash_leaves_is_not_listed(root: Path, store: FileAssistantStore) -> None:
    store.create(assistant("a"))
    put(root / STAGING, "new-123", JAN)
    put(root / STAGING, "gone-123", JAN)
    (root / "a" / ".assistant.json.123.tmp").write_text("{")
    assert listed(store) == ["jan", "a"]
    assert store.get("a").name == "A"
    for text in (STAGING, f"{STAGING}/new-123"):
        with pytest.raises(NotFoundError):
            store.get(text)
