"""Uploaded files on disk: their folders, damage, links, what a crash leaves, and the order of what is synced."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError, NotFoundError, StorageFullError, StoreBusyError, StoreDamagedError
from janflask.files import disk as disk_module
from janflask.files import ids
from janflask.files.disk import STAGING, Disk
from janflask.files.locks import FolderLocks
from janflask.storage import file_uploads
from janflask.storage.base import Page
from janflask.storage.file_uploads import UploadStore
from janflask.storage.records import StoredFile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def store(root: Path) -> UploadStore:
    return UploadStore(root, Disk(), FolderLocks(0.2))


def upload(store: UploadStore, content: bytes = b"hello", file_id: str | None = None) -> StoredFile:
    received = store.begin()
    received.write(content)
    return received.commit("a.txt", "assistants", file_id=file_id)


def listed(store: UploadStore) -> list[str]:
    return [found.id for found in store.list(Page(order="asc", limit=None)).items]


def put(root: Path, name: str, description: Any, content: bytes | None = b"x") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "file.json").write_bytes(
        description if isinstance(description, bytes) else json.dumps(description).encode()
    )
    if content is not None:
        (folder / "content").write_bytes(content)
    return folder


def never_held(_: str) -> bool:
    return False


# --- the folder -------------------------------------------------------------------------------------------------------


def test_what_is_on_disk(root: Path, store: UploadStore) -> None:
    stored = upload(store)
    with store.holding([stored.id], "thread_1"):
        pass
    folder = root / stored.id
    assert sorted(path.name for path in folder.iterdir()) == ["content", "file.json", "threads"]
    assert (folder / "content").read_bytes() == b"hello"
    assert [(path.name, path.stat().st_size) for path in (folder / "threads").iterdir()] == [("thread_1", 0)]
    assert json.loads((folder / "file.json").read_bytes()) == {
        "id": stored.id,
        "object": "file",
        "filename": "a.txt",
        "purpose": "assistants",
        "bytes": 5,
        "created_at": stored.created_ms,
        "sha256": stored.sha256,
    }
    assert [path.stat().st_mode & 0o77 for path in (folder, folder / "content", folder / "file.json")] == [0, 0, 0]


def test_nothing_is_left_in_the_staging_area(root: Path, store: UploadStore) -> None:
    upload(store)
    store.begin().discard()
    stored = upload(store)
    store.delete(stored.id, never_held)
    assert list((root / STAGING).iterdir()) == []


def test_an_upload_that_nobody_ends_is_removed_with_its_object(root: Path, store: UploadStore) -> None:
    received = store.begin()
    received.write(b"x")
    assert len(list((root / STAGING).iterdir())) == 1
    del received
    assert list((root / STAGING).iterdir()) == []


def open_below(root: Path) -> list[str]:
    """What this process has open of the folder; other tests' leftovers may be closed at any moment."""
    places = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own descriptor
            places.append(str(link.readlink()))
    return [place for place in places if place.startswith(str(root))]


def test_no_descriptor_is_left_open(root: Path, store: UploadStore) -> None:
    stored = upload(store)
    upload(store)
    store.begin().discard()
    refused = store.begin()
    with pytest.raises(ConflictError):
        refused.commit("x", "assistants", file_id=stored.id)
    refused.discard()
    with store.holding([stored.id], "t"):
        pass
    store.open(stored.id).close()
    store.list(Page())
    store.delete(stored.id, never_held)
    assert open_below(root) == []


def test_a_page_reads_no_more_files_than_it_shows(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    made = [upload(store).id for _ in range(20)]
    put(root, "theirs", {"filename": "t", "created_at": 1_600_000_000_000, "bytes": 1})
    read: list[str] = []
    get = store.get

    def counted(file_id: str) -> StoredFile:
        read.append(file_id)
        return get(file_id)

    monkeypatch.setattr(store, "get", counted)
    store.list(Page(limit=3))
    assert sorted(read) == sorted(["theirs", *made[:-5:-1]])  # the foreign one for its time, and one for has_more


# --- what others wrote, and damage ------------------------------------------------------------------------------------


def test_a_foreign_file(root: Path, store: UploadStore) -> None:
    own = upload(store)
    os.utime(put(root, "theirs", {"filename": "t.pdf", "theirs": [1]}, b"four") / "file.json", ns=(0, 10**18))
    found = store.get("theirs")
    assert (found.filename, found.bytes, found.created_ms, found.extra) == ("t.pdf", 4, 10**12, {"theirs": [1]})
    assert listed(store) == ["theirs", own.id]
    with store.holding(["theirs"], "t1"):
        pass
    asked: list[str] = []
    store.delete("theirs", lambda name: asked.append(name) is not None)
    assert asked == ["t1"]


@pytest.mark.parametrize("content", [b"", b'{"id": "x", "na', b"[]", b"\xff\xfe\x00", b"[" * 100_000, b" " * (2 << 20)])
@pytest.mark.parametrize("name", ["theirs", ids.new_id(ids.FILE, 5)], ids=["theirs", "ours"])
def test_a_damaged_description(
    root: Path, store: UploadStore, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    own = upload(store)
    put(root, name, content)
    with pytest.raises(StoreDamagedError):
        store.get(name)
    assert listed(store) == [own.id]
    assert name in caplog.text
    with store.open(name) as opened:
        assert opened.read() == b"x"
    store.delete(name, never_held)
    assert not (root / name).exists()


def test_folders_that_are_no_files(root: Path, store: UploadStore) -> None:
    for name in ("empty", ".hidden", "a b", ids.new_id(ids.FILE)):
        (root / name).mkdir(parents=True)
    (root / "notes.txt").write_text("x")
    assert listed(store) == []
    with pytest.raises(NotFoundError):
        store.delete("empty", never_held)
    assert (root / "empty").is_dir()


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_a_link(root: Path, tmp_path: Path, store: UploadStore) -> None:
    outside = put(tmp_path / "outside", "secret", {"filename": "s", "bytes": 1})
    root.mkdir()
    (root / "linked").symlink_to(outside)
    for action in (
        lambda: store.get("linked"),
        lambda: store.open("linked"),
        lambda: store.delete("linked", never_held),
        lambda: store.holding(["linked"], "t").__enter__(),
        lambda: upload(store, file_id="linked"),
    ):
        with pytest.raises(ConflictError):
            action()
    assert listed(store) == []
    assert sorted(path.name for path in outside.iterdir()) == ["content", "file.json"]


@pytest.mark.parametrize("name", ["content", "file.json", "threads"])
def test_files_that_are_links(root: Path, tmp_path: Path, store: UploadStore, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("{}")
    stored = upload(store)
    place = root / stored.id / name
    place.rmdir() if name == "threads" else place.unlink()
    place.symlink_to(outside if name == "threads" else outside / "secret")
    action = {
        "content": lambda: store.open(stored.id),
        "file.json": lambda: store.get(stored.id),
        "threads": lambda: store.holding([stored.id], "t").__enter__(),
    }[name]
    with pytest.raises(ConflictError):
        action()
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "{}"


# --- several processes, crashes and the disk --------------------------------------------------------------------------


def test_another_process_counts_too(root: Path, store: UploadStore) -> None:
    """Another store over the same folder shares nothing with the first but the folder."""
    other = UploadStore(root, Disk(), FolderLocks(0.2))
    stored = upload(store)
    with other.holding([stored.id], "t1"):
        with pytest.raises(StoreBusyError):
            store.delete(stored.id, never_held)
    with pytest.raises(ConflictError, match="t1"):
        store.delete(stored.id, lambda name: name == "t1")


def test_what_a_crash_leaves_is_not_listed(root: Path, store: UploadStore) -> None:
    stored = upload(store)
    put(root / STAGING, "new-123", {"filename": "x"})
    put(root / STAGING, "gone-123", {"filename": "x"})
    assert listed(store) == [stored.id]


def test_what_is_synced_and_when(store: UploadStore, calls: list[str]) -> None:
    upload(store, file_id="f")
    assert calls == ["sync content", "sync file.json", "sync staged", "rename to f", "sync files"]
    calls.clear()
    with store.holding(["f"], "t1"):
        assert calls == ["sync t1", "sync threads"]
    calls.clear()
    with store.holding(["f"], "t1"):
        # Again: who made the mark may be another process that has not synced it yet.
        assert calls == ["sync threads"]
    calls.clear()
    store.delete("f", never_held)
    assert calls == ["rename to gone", "sync files"]


@pytest.mark.parametrize("failing", ["write_all", "fsync", "rename"])
def test_a_full_disk_leaves_nothing(
    root: Path, store: UploadStore, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = upload(store)
    received = store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(file_uploads if failing == "write_all" else disk_module.os, failing, full)
        with pytest.raises(StorageFullError):  # noqa: PT012 - either of the two
            received.write(b"x")
            received.commit("x", "assistants")
    received.discard()
    assert listed(store) == [kept.id]
    assert list((root / STAGING).iterdir()) == []
    upload(store)


def test_a_commit_whose_last_sync_fails_is_taken_back(
    root: Path, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(store)
    real = os.fsync

    def broken(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink() == root:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    before = listed(store)
    received = store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(disk_module.os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output"):
            received.commit("x", "assistants")
        with pytest.raises(OSError, match="Input/output"):
            store.delete(before[0], never_held)
    received.discard()
    assert listed(store) == before
