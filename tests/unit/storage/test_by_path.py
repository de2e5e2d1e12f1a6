"""Files that are replaced by their paths: whole, or as they were."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.files import by_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(path: Path) -> None:
    with by_path.replacing(path, durable=False) as file:
        file.write(b"n" * 100_000)
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"n" * 100_000
    assert names(path) == ["x.json"]


@pytest.mark.parametrize("temporary", [None, ".x.tmp"])
def test_an_error_leaves_the_old_file_and_nothing_else(path: Path, temporary: str | None) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), by_path.replacing(path, durable=False, temporary=temporary) as file:
        file.writelines(pieces())
    assert (path.read_bytes(), names(path)) == (b"old", ["x.json"])


def test_a_place_that_a_file_cannot_take_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "x" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        by_path.replace(tmp_path / "x", b"new", durable=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_what_one_that_was_killed_left_is_overwritten(path: Path) -> None:
    (path.parent / ".x.tmp").write_bytes(b"half of a longer one")
    by_path.replace(path, b"new", durable=False, temporary=".x.tmp")
    assert (path.read_bytes(), names(path)) == (b"new", ["x.json"])


def test_a_link_planted_under_the_temporary_name_is_not_followed(path: Path) -> None:
    (path.parent / ".x.tmp").symlink_to(path.parent / "elsewhere")
    by_path.replace(path, b"new", durable=False, temporary=".x.tmp")
    assert (path.read_bytes(), path.is_symlink(), names(path)) == (b"new", False, ["x.json"])


def test_it_is_the_users_alone_unless_it_may_be_shared(path: Path) -> None:
    before = os.umask(0o027)
    try:
        by_path.replace(path, b"secret", durable=False)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        by_path.replace(path, b"not", durable=False, mode=by_path.SHARED_MODE)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_durable_is_the_file_before_the_step_and_the_folder_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename = os.rename

    def noted(*names: str, **folders: int) -> None:
        steps.append("rename")
        rename(*names, **folders)

    monkeypatch.setattr(os, "fsync", lambda fd: steps.append(f"{os.fstat(fd).st_ino} of {os.fstat(fd).st_size}"))
    monkeypatch.setattr(os, "rename", noted)
    by_path.replace(path, b"12345", durable=True)
    folder = path.parent.stat()
    assert steps == [f"{path.stat().st_ino} of 5", "rename", f"{folder.st_ino} of {folder.st_size}"]
    steps.clear()
    by_path.replace(path, b"12345", durable=False)
    assert steps == ["rename"]
