"""The key by which an engine knows a KV state as one that this data folder's engines wrote.

It is 32 random bytes in ``cache/kv/key``, made by the first engine that keeps states, readable by its user alone. It
goes nowhere else: it is not part of an export, not served and not logged. A data folder that is copied keeps its states
if the key is copied with them; without it they are computed again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
from pathlib import Path

from janflask.files import by_path
from janflask.files.disk import READ, opened_root

log = logging.getLogger(__name__)

NAME = "key"
SIZE = 32  # bytes


class StateKeyError(ValueError):
    """A file that holds no secret; the message says why."""


def state_key(root: Path) -> bytes:
    """The key of the states below ``root``, made if there is none. Raises OSError when it cannot be made.

    A file that others could have read or written (a link, another user's, one with rights for anybody else), that
    cannot be read, or that has another size than a key gets a new one in its place: what was written under the old one
    is worthless then, and computed again.
    """
    with opened_root(root) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)  # engines that start together agree on one
        try:
            return _read(root / NAME)
        except FileNotFoundError:
            return _make(root)
        except (OSError, StateKeyError) as error:
            log.warning(
                "%s cannot serve as the key of conversations' KV states (%s): a new one takes its place, and states "
                "kept so far are computed again",
                root / NAME,
                error.strerror if isinstance(error, OSError) else error,
            )
            return _make(root)


def _read(path: Path) -> bytes:
    file = os.open(path, READ)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise StateKeyError("it is no plain file")
        if about.st_uid != os.geteuid():
            raise StateKeyError("it is another user's")
        if about.st_mode & 0o077:
            raise StateKeyError(f"its rights are {about.st_mode & 0o777:o}, not 600")
        key = os.read(file, SIZE + 1)
    finally:
        os.close(file)
    if len(key) != SIZE:
        raise StateKeyError(f"it has not {SIZE} bytes")
    return key


def _make(root: Path) -> bytes:
    """Puts a new key in the place of whatever is there, in one step."""
    key = secrets.token_bytes(SIZE)
    by_path.replace(root / NAME, key, durable=True, mode=0o600)
    return key
