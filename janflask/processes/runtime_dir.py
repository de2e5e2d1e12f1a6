"""The private folder where a server's processes meet: their sockets, a lock, and what the supervisor remembers.

By default each server makes its own, ``janflask-<uid>-<random>`` with mode 0700, under ``XDG_RUNTIME_DIR`` or the
temporary folder, and removes it at its end. The lock in it is held as long as a process of the server lives (workers
inherit it from gunicorn's master), so that a later server can tell what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from janflask.errors import SettingsError
from janflask.files.locks import try_lock
from janflask.ipc.shutdown import DRAINING_NAME

CHANNEL_VARIABLE = "JANFLASK_SUPERVISOR_FD"  # the supervisor's end of its socket pair with the launcher
MAX_SOCKET_PATH = 104  # bytes with the closing NUL: sockaddr_un on macOS and the BSDs; Linux has 108
LONGEST_NAME = "engine-4194304-999999.sock"  # of the files in the folder
LOCK_NAME = "lock"
GRACE = 5.0  # seconds in which a folder that nobody has locked may belong to a server that is just starting


class RuntimeDir:
    """A runtime folder that this process holds. ``path`` is what the others are told."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, wanted: Path | None) -> RuntimeDir:
        """``wanted`` (made if it is not there), or a fresh one. Removes what dead servers left where fresh ones go.

        Raises SettingsError when the folder is not private, is another server's, or its path is too long for a socket.
        """
        if wanted is not None:
            wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(wanted)
            held = cls(wanted, _lock(wanted))
            clear(wanted)
            return held
        bases = list(_bases())
        for base in bases:
            remove_stale(base)
        if not bases:
            raise SettingsError(
                "no temporary folder can be written to: set JANFLASK_RUNTIME_DIR", param="JANFLASK_RUNTIME_DIR"
            )
        path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=bases[0]))
        return cls(path, _lock(path))

    def remove(self) -> None:
        """Gives the folder back: removes a fresh one; one that the user named keeps existing, without our files."""
        if is_fresh(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            clear(self.path)
        os.close(self._lock)


def is_fresh(path: Path) -> bool:
    """Whether ``path`` was made for one server alone, by its name."""
    return path.name.startswith(_prefix())


def check_private(path: Path) -> None:
    """Raises SettingsError unless ``path`` is this user's folder, closed to others, and short enough for sockets."""
    where = path.lstat()
    name = "JANFLASK_RUNTIME_DIR"
    if not stat.S_ISDIR(where.st_mode):
        raise SettingsError(f"{name}: {path} is not a folder (a symbolic link will not do)", param=name)
    if where.st_uid != os.geteuid():
        raise SettingsError(f"{name}: {path} belongs to user {where.st_uid}, not to {os.geteuid()}", param=name)
    if where.st_mode & 0o077:
        raise SettingsError(f"{name}: others can enter {path}: chmod 700 it", param=name)
    check_socket_path(path / LONGEST_NAME)


def check_socket_path(path: Path) -> None:
    """Raises SettingsError when ``path`` does not fit a Unix socket's address."""
    size = len(os.fsencode(path)) + 1
    if size > MAX_SOCKET_PATH:
        raise SettingsError(
            f"{path} is too long for a Unix socket ({size} bytes, at most {MAX_SOCKET_PATH}): "
            "set JANFLASK_RUNTIME_DIR to a shorter folder",
            param="JANFLASK_RUNTIME_DIR",
        )


def clear(path: Path) -> None:
    """Removes the files that a server keeps in its runtime folder, all but the lock."""
    for name in path.iterdir():
        if name.name == DRAINING_NAME or name.suffix in (".sock", ".json", ".tmp", ".places", ".counts"):
            name.unlink(missing_ok=True)


def _prefix() -> str:
    return f"janflask-{os.geteuid()}-"


def _bases() -> Iterator[Path]:
    """Folders where a fresh one can be made, the best first."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108
    for base in dict.fromkeys(Path(text) for text in candidates if text):
        room = len(os.fsencode(base / (_prefix() + "12345678") / LONGEST_NAME)) < MAX_SOCKET_PATH
        if room and base.is_dir() and os.access(base, os.W_OK | os.X_OK):
            yield base


def _lock(path: Path) -> int:
    descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not try_lock(descriptor):
        os.close(descriptor)
        raise SettingsError(f"JANFLASK_RUNTIME_DIR: {path} is in use by another server", param="JANFLASK_RUNTIME_DIR")
    return descriptor


def remove_stale(base: Path) -> None:
    """Removes the fresh folders under ``base`` whose servers are dead."""
    for path in base.glob(_prefix() + "*"):
        with contextlib.suppress(OSError):  # another server may be removing it right now
            where = path.lstat()
            ours = stat.S_ISDIR(where.st_mode) and where.st_uid == os.geteuid()
            if ours and time.time() - where.st_mtime > GRACE and _is_abandoned(path):
                shutil.rmtree(path)


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)
