"""A file with secrets is read only if it is its user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from janflask.errors import ConflictError
from janflask.files.disk import READ, read_all


class NotPrivateError(ValueError):
    """A file that cannot be trusted with what it is for; the message says why."""


def check_user(folder: Path, about: os.stat_result) -> None:
    """Raises ConflictError where root would leave files that the folder's own user cannot read."""
    if os.geteuid() == 0 and about.st_uid != 0:
        raise ConflictError(f"{folder} belongs to user {about.st_uid}: run this as that user (`sudo -u`)")


def read_private(path: Path, limit: int) -> bytes:
    """The file's content, or the first byte more than ``limit`` of it.

    Raises OSError, also for a link, and NotPrivateError for what others could have read or written.
    """
    file = os.open(path, READ)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise NotPrivateError("it is no plain file")
        if about.st_uid != os.geteuid():
            raise NotPrivateError("it is another user's")
        if about.st_mode & 0o077:
            raise NotPrivateError(f"its rights are {about.st_mode & 0o777:o}, not 600")
        return read_all(file, limit + 1)
    finally:
        os.close(file)
