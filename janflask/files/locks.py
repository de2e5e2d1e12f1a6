"""One writer at a time for each object, among threads and among processes, and nobody waits for ever.

The lock is the kernel's (``flock``) on the object's own folder: it leaves no file behind, and ends with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from janflask.errors import StoreBusyError
from janflask.files.disk import FOLDER, translate

_FIRST_NAP, _LONGEST_NAP = 0.0002, 0.01  # seconds; the kernel cannot wait for a flock with a limit


def try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Whether the open file or folder is now locked among processes; closing ``fd`` is the end of that."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Ends that at once, whoever else has the open file."""
    fcntl.flock(fd, fcntl.LOCK_UN)


class LockedFile:
    """An open file that is locked. ``release`` may be called more than once, by any thread."""

    def __init__(self, file: int) -> None:
        self._files = [file]

    def release(self) -> None:
        """Ends the lock and closes the file."""
        try:
            file = self._files.pop()
        except IndexError:
            return
        unlock(file)  # a child that is being forked may have the file, too
        os.close(file)


def lock_until(fd: int, deadline: float, kind: int = fcntl.LOCK_EX) -> bool:
    """``try_lock``, tried until a moment of the monotonic clock."""
    nap = _FIRST_NAP
    while not try_lock(fd, kind):
        if time.monotonic() >= deadline:
            return False
        time.sleep(nap * random.uniform(0.5, 1.0))  # noqa: S311 - so that two don't try in step
        nap = min(nap * 1.5, _LONGEST_NAP)
    return True


class FolderLocks:
    """``timeout``: seconds that a writer waits for another."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._guard = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    def exclusive(self, folder: Path, what: str, witness: str | None = None) -> _Exclusive:
        """A context manager: the folder's descriptor while nobody else writes there.

        ``what`` names the object in errors. ``witness`` is a file that an object of its kind has.
        Raises StoreBusyError, NotFoundError (also where there is no witness), and ConflictError for a symbolic link.
        """
        return _Exclusive(self, str(folder), what, witness)

    @contextlib.contextmanager
    def shared(self, folder: Path, what: str) -> Iterator[int]:
        """The same among others who share it; only ``exclusive`` has to wait."""
        fd = self.lock(str(folder), fcntl.LOCK_SH, what, time.monotonic() + self.timeout)
        try:
            yield fd
        finally:
            os.close(fd)

    def take_turn(self, folder: str, what: str) -> None:
        """Waits among the threads of this process, so that only one of them has to poll. ``end_turn`` ends it."""
        with self._guard:
            turn = self._turns.get(folder)
            if turn is None:
                turn = self._turns[folder] = _Turn()
            turn.users += 1
        if not turn.lock.acquire(timeout=self.timeout):
            self._leave(folder, turn)
            raise _busy(what, self.timeout)

    def end_turn(self, folder: str) -> None:
        """Lets the next thread have its turn."""
        turn = self._turns[folder]
        turn.lock.release()
        self._leave(folder, turn)

    def _leave(self, folder: str, turn: _Turn) -> None:
        with self._guard:
            turn.users -= 1
            if not turn.users:
                del self._turns[folder]

    def lock(self, folder: str, kind: int, what: str, deadline: float, witness: str | None = None) -> int:
        """The descriptor of the folder, locked among processes; closing it is the end of that."""
        while True:
            fd = -1
            try:
                fd = os.open(folder, FOLDER)
                if not lock_until(fd, deadline, kind):
                    raise _busy(what, self.timeout)
                if _is_in_place(folder, fd, witness):
                    return fd
            except BaseException as error:
                if fd >= 0:
                    os.close(fd)
                if isinstance(error, OSError):
                    raise translate(error, what) from error
                raise
            os.close(fd)  # it was moved away while we waited, and another is in its place


class _Exclusive:
    """See ``FolderLocks.exclusive``; a class because a message's way to the disk is short enough for that to count."""

    __slots__ = ("_fd", "_folder", "_locks", "_what", "_witness")

    def __init__(self, locks: FolderLocks, folder: str, what: str, witness: str | None) -> None:
        self._locks = locks
        self._folder = folder
        self._what = what
        self._witness = witness
        self._fd = -1

    def __enter__(self) -> int:
        deadline = time.monotonic() + self._locks.timeout
        self._locks.take_turn(self._folder, self._what)
        try:
            self._fd = self._locks.lock(self._folder, fcntl.LOCK_EX, self._what, deadline, self._witness)
        except BaseException:
            self._locks.end_turn(self._folder)
            raise
        return self._fd

    def __exit__(self, *_: object) -> None:
        try:
            os.close(self._fd)
        finally:
            self._locks.end_turn(self._folder)


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


def _is_in_place(folder: str, fd: int, witness: str | None) -> bool:
    """Whether the folder of that path is still the one that is open, told by a file in it where one has to be."""
    if witness is None:
        there, here = os.lstat(folder), os.fstat(fd)
    else:
        there = os.lstat(f"{folder}/{witness}")
        here = os.stat(witness, dir_fd=fd, follow_symlinks=False)
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def _busy(what: str, timeout: float) -> StoreBusyError:
    return StoreBusyError(
        f"{what} is being written by somebody else for more than {timeout:g} s; try again", retry_after=1
    )
