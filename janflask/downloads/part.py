"""A file on its way: ``<name>.part``, and ``<name>.part.json`` that says of what its bytes are.

Both outlive a killed process, so the next one goes on where this one was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import StorageFullError, UnavailableError
from janflask.files import by_path
from janflask.files.disk import is_full, write_all

RESERVE = 64 * 1024 * 1024  # bytes of the disk that are left alone


@dataclass(frozen=True, slots=True)
class About:
    """Of which file the bytes of a part are; ``validator`` is the server's word for its version."""

    url: str
    validator: str | None = None
    total: int | None = None  # bytes of the whole file


class Part:
    """The part of the file ``name`` in ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.part"
        self.whole = folder / name
        self._about = folder / f"{name}.part.json"

    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def about(self) -> About | None:
        """None when nobody can tell what the bytes are of."""
        try:
            about = json_decoder(About).decode(self._about.read_bytes())
        except (FileNotFoundError, ValueError):  # msgspec's errors are ValueErrors
            return None
        return about if about.total is None or about.total > 0 else None

    def describe(self, about: About) -> None:
        """Raises StorageFullError."""
        write_json(self._about, about)

    def open(self, start: int) -> int:
        """A descriptor to write from ``start`` on; what was behind it is gone. What is written outlives the process."""
        with disk_errors(self.name):
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                os.ftruncate(file, start)
                os.lseek(file, start, os.SEEK_SET)
            except BaseException:
                os.close(file)
                raise
        return file

    def write(self, file: int, data: memoryview) -> None:
        with disk_errors(self.name):
            write_all(file, data)

    def sync(self) -> None:
        """The bytes are on the disk."""
        with disk_errors(self.name):
            by_path.sync_path(self.path)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def finish(self) -> None:
        """It is whole: it takes the file's own name."""
        with disk_errors(self.name):
            self.path.replace(self.whole)
            self._about.unlink(missing_ok=True)

    def check_room(self, needed: int) -> None:
        """Raises StorageFullError unless the disk has ``needed`` bytes, and some to spare."""
        check_room(self.path.parent, needed, self.name)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises StorageFullError unless the folder's disk has ``needed`` bytes, and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise StorageFullError(
            f"{what} needs {needed / 2**30:.2f} GiB more, and {free / 2**30:.2f} GiB are free on the disk: "
            "make room and ask for it again"
        )


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Replaces a file in one step. Raises StorageFullError."""
    data = msgspec.json.encode(value)
    with disk_errors(path.name):
        by_path.replace(path, data, durable=durable, mode=by_path.SHARED_MODE, temporary=f"{path.name}.tmp")


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Keeps our own disk's errors apart from the network's, which are OSErrors as well."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if is_full(error):
            raise StorageFullError(
                f"{what} could not be written, since the disk or a quota is full ({reason}): "
                "make room and ask for it again"
            ) from error
        raise UnavailableError(f"{what} could not be written to the server's disk: {reason}") from error
