"""Streams that can be sought."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path
from typing import IO, Any

import pytest

from janflask.errors import StorageFullError
from janflask.services.spool import spooled


def fail_in(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be made in ``folder``."""
    make = tempfile.TemporaryFile

    def refused(*args: Any, dir: Path | None = None, **kwargs: Any) -> IO[bytes]:
        if dir == folder:
            raise OSError(number, "no")
        return make(*args, dir=dir, **kwargs)

    monkeypatch.setattr("janflask.services.spool.tempfile.TemporaryFile", refused)


def test_what_a_stream_gives_can_be_sought_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with spooled(io.BytesIO(b"content"), folder) as file:
        assert file.read() == b"content"
        file.seek(3)
        assert file.read() == b"tent"
        assert list(folder.iterdir()) == []
    assert file.closed


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    fail_in(tmp_path, number, monkeypatch)
    with spooled(io.BytesIO(b"content"), tmp_path) as file:
        assert file.read() == b"content"
    assert str(tmp_path) in caplog.text


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in(tmp_path, errno.ENOSPC, monkeypatch)
    with pytest.raises(StorageFullError), spooled(io.BytesIO(b"content"), tmp_path):
        pytest.fail("there is no file")
