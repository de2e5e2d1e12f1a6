"""How many answers of a key are under way at once: each holds a locked file, among all workers.

The kernel ends a lock with its process, so that a worker that is killed takes no place along.
"""

from __future__ import annotations

import os
from pathlib import Path

from janflask.files.disk import FILE_MODE, opened_root
from janflask.files.locks import LockedFile, try_lock

SUFFIX = ".slot"


def take(folder: Path, key_id: str, limit: int) -> LockedFile | None:
    """One of the key's ``limit`` places, or None if all are taken. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with opened_root(folder, make=True) as root:
        for number in range(limit):
            file = os.open(f"{key_id}-{number}{SUFFIX}", flags, FILE_MODE, dir_fd=root)
            if try_lock(file):
                return LockedFile(file)
            os.close(file)
    return None
