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
from janflask.storage.disk import FOLDER, translated

_FIRST_NAP, _LONGEST_NAP = 0.0002, 0.01  # seconds; the kernel cannot wait for a flock with a limit


class FolderLocks:
    """``timeout``: seconds that a writer waits for another."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._guard = threading.Lock()
        self._turns: dict[Path, _Turn] = {}

    @contextlib.contextmanager
    def exclusive(self, folder: Path, what: str) -> Iterator[int]:
        """The folder's descriptor while nobody else writes there. ``what`` names the object in errors.

        Raises StoreBusyError, NotFoundError, and ConflictError for a symbolic link.
        """
        deadline = time.monotonic() + self.timeout
        with self._turn(folder, what):  # threads of this process queue here, so that only one of them has to poll
            fd = self._locked(folder, fcntl.LOCK_EX, what, deadline)
            try:
                yield fd
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def shared(self, folder: Path, what: str) -> Iterator[int]:
        """The same among others who share it; only ``exclusive`` has to wait."""
        fd = self._locked(folder, fcntl.LOCK_SH, what, time.monotonic() + self.timeout)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _turn(self, folder: Path, what: str) -> Iterator[None]:
        with self._guard:
            turn = self._turns.setdefault(folder, _Turn())
            turn.users += 1
        try:
            if not turn.lock.acquire(timeout=self.timeout):
                raise _busy(what, self.timeout)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._guard:
                turn.users -= 1
                if not turn.users:
                    del self._turns[folder]

    def _locked(self, folder: Path, kind: int, what: str, deadline: float) -> int:
        while True:
            with translated(what):
                fd = os.open(folder, FOLDER)
            try:
                _flock(fd, kind, deadline, what, self.timeout)
                with translated(what):
                    there, here = os.lstat(folder), os.fstat(fd)
                if (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was moved away while we waited, and another is in its place


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


def _flock(fd: int, kind: int, deadline: float, what: str, timeout: float) -> None:
    nap = _FIRST_NAP
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _busy(what, timeout) from None
        time.sleep(nap * random.uniform(0.5, 1.0))  # noqa: S311 - so that two don't try in step
        nap = min(nap * 1.5, _LONGEST_NAP)


def _busy(what: str, timeout: float) -> StoreBusyError:
    return StoreBusyError(
        f"{what} is being written by somebody else for more than {timeout:g} s; try again", retry_after=1
    )
