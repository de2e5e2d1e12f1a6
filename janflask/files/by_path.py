"""Replacing and syncing files by their paths: outside of the store, where a folder may be a link of the owner's.

Inside of it ``Disk`` does the same by descriptors.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from janflask.files.disk import FILE_MODE, Disk, opened_root, sync

SHARED_MODE = 0o666  # less the umask: of what is nobody's secret


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool, mode: int = FILE_MODE, temporary: str | None = None) -> Iterator[BinaryIO]:
    """A new file, open to be written, that takes the place of ``path`` in one step after the block.

    On an error there is what was there before. ``durable``: it is on the disk then. ``temporary`` as in
    ``Disk.replacing``. Raises OSError.
    """
    with (
        opened_root(path.parent) as folder,
        Disk(durable=durable).replacing(folder, path.name, mode=mode, temporary=temporary) as file,
        os.fdopen(file, "wb", closefd=False) as stream,
    ):
        yield stream


def replace(path: Path, data: bytes, *, durable: bool, mode: int = FILE_MODE, temporary: str | None = None) -> None:
    """The file has ``data``, or, on an error, what it had before. Arguments as of ``replacing``. Raises OSError."""
    with replacing(path, durable=durable, mode=mode, temporary=temporary) as file:
        file.write(data)


def sync_path(path: Path) -> None:
    """A file's content, or a folder's list of names, is on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)
