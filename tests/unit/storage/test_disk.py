"""What reaches the disk, in which order, and what is never followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.errors import ConflictError, JanflaskError, NotFoundError, StorageFullError, StoreDamagedError
from janflask.files import disk as module
from janflask.files.disk import STAGING, Disk, opened_folder, read_plain, translated


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    with opened_folder(tmp_path) as fd:
        yield fd


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that make a change durable, with the name of what they are about."""
    found: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "fdatasync", "rename")}

    def sync(kind: str) -> object:
        def call(fd: int) -> None:
            found.append(f"{kind} {Path(f'/proc/self/fd/{fd}').readlink().name.split('.')[-1]}")
            real[kind](fd)

        return call

    def rename(source: str, target: str, **folders: int) -> None:
        found.append(f"rename to {target}")
        real["rename"](source, target, **folders)

    monkeypatch.setattr(module.os, "fsync", sync("fsync"))
    monkeypatch.setattr(module.os, "fdatasync", sync("fdatasync"))
    monkeypatch.setattr(module.os, "rename", rename)
    return found


def test_a_replaced_file_is_on_disk_before_it_is_in_its_place(folder: int, tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "x.json").write_text("old")
    Disk().replace(folder, "x.json", b"new")
    assert calls == ["fsync tmp", "rename to x.json", f"fsync {tmp_path.name}"]
    assert (tmp_path / "x.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_without_durability_nothing_is_waited_for(folder: int, calls: list[str]) -> None:
    Disk(durable=False).replace(folder, "x.json", b"new")
    assert calls == ["rename to x.json"]


def test_a_published_folder_is_on_disk_before_it_is_there(tmp_path: Path, calls: list[str]) -> None:
    disk, root = Disk(), tmp_path / "threads"
    with disk.staged(root) as (staged, fd):
        disk.create(fd, "x", b"content")
        calls.clear()
        disk.publish(root, staged, fd, "thread_1")
        disk.sync_root(root)
    assert calls == [f"fsync {staged}", "rename to thread_1", "fsync threads"]
    assert (root / "thread_1" / "x").read_text() == "content"
    assert list((root / STAGING).iterdir()) == []


def test_what_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    disk, root = Disk(), tmp_path / "threads"
    with disk.staged(root) as (_, fd):
        disk.create(fd, "x", b"content")
    assert list((root / STAGING).iterdir()) == []
    assert [path.name for path in root.iterdir()] == [STAGING]


def test_a_place_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    disk, root = Disk(), tmp_path / "threads"
    (root / "thread_1").mkdir(parents=True)
    (root / "thread_1" / "x").write_text("old")
    with pytest.raises(ConflictError), translated("thread thread_1"), disk.staged(root) as (staged, fd):
        disk.publish(root, staged, fd, "thread_1")
    assert (root / "thread_1" / "x").read_text() == "old"


def test_a_retired_folder_is_gone_in_one_step(tmp_path: Path) -> None:
    disk, root = Disk(), tmp_path / "threads"
    (root / "thread_1" / "files").mkdir(parents=True)
    (root / "thread_1" / "files" / "x").write_text("old")
    gone = disk.retire(root, "thread_1")
    assert not (root / "thread_1").exists()
    disk.restore(root, f"{STAGING}/{gone}", "thread_1")
    assert (root / "thread_1" / "files" / "x").read_text() == "old"
    disk.discard(root, disk.retire(root, "thread_1"))
    assert list((root / STAGING).iterdir()) == []


@pytest.mark.parametrize("failing", ["first", "second"])
def test_several_files_are_replaced_together_or_not_at_all(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"old {name}")
    rename = os.rename

    def broken(source: str, target: str, **folders: int) -> None:
        if target == failing and "before" not in source:
            raise OSError(errno.ENOSPC, "full")
        rename(source, target, **folders)

    monkeypatch.setattr(module.os, "rename", broken)
    with pytest.raises(OSError, match="full"):
        Disk().replace_both(folder, ("first", b"new first"), ("second", b"new second"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "first": "old first",
        "second": "old second",
    }
    monkeypatch.undo()
    Disk().replace_both(folder, ("first", b"new first"), ("second", b"new second"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "first": "new first",
        "second": "new second",
    }


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_plain_files_are_read(folder: int, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    place = tmp_path / "x"
    if kind == "link":
        place.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(ConflictError), translated("it"):
        read_plain(folder, "x", 100, "it")


def test_a_link_is_replaced_and_its_target_is_not(folder: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    (tmp_path / "x").symlink_to(outside)
    Disk().replace(folder, "x", b"ours")
    assert outside.read_text() == "theirs"
    assert (tmp_path / "x").read_text() == "ours"


def test_a_file_is_read_up_to_a_limit(folder: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_plain(folder, "x", 5, "it")[0] == b"12345"
    with pytest.raises(StoreDamagedError):
        read_plain(folder, "x", 4, "it")


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (errno.ENOSPC, StorageFullError, 507),
        (errno.EDQUOT, StorageFullError, 507),
        (errno.EFBIG, StorageFullError, 507),
        (errno.ENOENT, NotFoundError, 404),
        (errno.ELOOP, ConflictError, 409),
        (errno.ENOTEMPTY, ConflictError, 409),
    ],
)
def test_what_the_operating_system_says(number: int, kind: type[JanflaskError], status: int) -> None:
    with pytest.raises(kind) as caught, translated("thread thread_1"):
        raise OSError(number, os.strerror(number))
    assert caught.value.status == status
    assert "thread thread_1" in caught.value.message


def test_what_we_do_not_understand_is_said_as_it_is() -> None:
    with pytest.raises(PermissionError), translated("thread thread_1"):
        raise PermissionError(errno.EACCES, "no")
