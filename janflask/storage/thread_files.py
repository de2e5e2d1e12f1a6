"""A thread's own files: the folder ``files/`` in its folder, which nobody but the thread knows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import BinaryIO

from janflask.errors import NotFoundError
from janflask.files import ids
from janflask.files.disk import FOLDER_MODE, Disk, open_plain, opened_folder, translated
from janflask.storage.jan import FILES_FOLDER
from janflask.storage.records import ThreadFile


def add(disk: Disk, fd: int, files: Sequence[tuple[str, BinaryIO]]) -> None:
    """Writes the files (name, content) of a new thread into its folder ``fd``. Raises OSError."""
    os.mkdir(FILES_FOLDER, FOLDER_MODE, dir_fd=fd)
    taken: set[str] = set()
    with opened_folder(FILES_FOLDER, fd) as folder:
        for name, content in files:
            safe = ids.free_name(ids.safe_name(name), taken)
            taken.add(safe)
            with disk.creating(folder, safe) as file, os.fdopen(file, "wb", closefd=False) as out:
                shutil.copyfileobj(content, out)
        disk.sync(folder)


def listed(fd: int) -> Sequence[ThreadFile]:
    """The plain files of the thread in the folder ``fd``, by name. Raises OSError."""
    try:
        with opened_folder(FILES_FOLDER, fd) as folder, os.scandir(folder) as entries:
            plain = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
            found = [ThreadFile(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in plain]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda file: file.name)


def opened(fd: int, thread_id: str, name: str) -> BinaryIO:
    """One of them, to read. Raises NotFoundError, ConflictError for a symbolic link."""
    what = f"file {name[:200]!r} in thread {thread_id}"
    if not _is_file_name(name):
        raise NotFoundError(f"there is no {what}")
    with translated(what), opened_folder(FILES_FOLDER, fd) as folder:
        return os.fdopen(open_plain(folder, name), "rb")


def _is_file_name(name: str) -> bool:
    try:
        data = name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(data) < 256 and b"/" not in data and b"\0" not in data and data not in (b".", b"..")
