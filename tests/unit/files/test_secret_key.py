"""A secret of the data folder: made once, its user's alone, replaced when others may know it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from janflask.files.secret_key import SIZE, secret_key

NAME = "key"


def key_in(folder: Path) -> bytes:
    return secret_key(folder / NAME, use="the key of words", loss="words are said again")


def test_it_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    assert len(key) == SIZE
    assert len(set(key)) > 8
    assert key_in(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_two_folders_have_two_and_are_made_if_need_be(tmp_path: Path) -> None:
    assert key_in(tmp_path / "a") != key_in(tmp_path / "b")


def test_processes_that_start_together_have_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(key_in, [tmp_path] * 64))) == 1


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (link, "symbolic links"),
        (dangling, "symbolic links"),
        (pipe, "no plain file"),
        (lambda path: path.write_bytes(b""), "32 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "32 bytes"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "32 bytes"),
        (lambda path: path.chmod(0o640), "rights are 640, not 600"),
        (lambda path: path.chmod(0o604), "rights are 604, not 600"),
        (lambda path: path.chmod(0o622), "rights are 622, not 600"),
    ],
    ids=["link", "dangling", "pipe", "empty", "short", "long", "group", "others", "writable"],
)
def test_one_that_others_may_know_is_replaced_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], reason: str
) -> None:
    old = key_in(tmp_path)
    spoil(tmp_path / NAME)
    new = key_in(tmp_path)
    assert new != old
    assert reason in caplog.text
    assert "the key of words" in caplog.text
    assert "said again" in caplog.text
    for key in (old, new):
        assert key.hex() not in caplog.text
    assert key_in(tmp_path) == new
    assert not (tmp_path / NAME).is_symlink()
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "nowhere").exists()


def test_another_users_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = key_in(tmp_path)
    monkeypatch.setattr("janflask.files.private.os.geteuid", lambda: os.getuid() + 1)
    assert key_in(tmp_path) != old


def test_one_that_cannot_be_read_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = key_in(tmp_path)
    opened = os.open

    def refused(path, flags: int, *rest: object, **more: object) -> int:
        if Path(path) == tmp_path / NAME:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr("janflask.files.private.os.open", refused)
        new = key_in(tmp_path)
    assert key_in(tmp_path) == new != old


def test_one_that_cannot_be_read_at_the_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_in(tmp_path)

    def short(file: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("janflask.files.private.os.read", short)
        with pytest.raises(OSError, match="Input/output"):
            key_in(tmp_path)
    assert key_in(tmp_path) == key


def test_one_that_cannot_be_made_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("janflask.files.private.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        key_in(tmp_path)
    assert list(tmp_path.iterdir()) == []
