"""How many requests are under way, counted over all processes of a server.

A place is a byte of a file that is locked by its holder (Linux's locks of open file descriptions): the kernel gives it
back when the process dies, however it does. Where there are no such locks, or no file, each process counts for itself.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x" if struct.calcsize("P") == 8 else "hhqqi")  # the kernel's struct flock
_AVAILABLE = hasattr(fcntl, "F_OFD_SETLK")


class PlacesFile:
    """An open file of places, as long as somebody uses it."""

    def __init__(self, path: Path) -> None:
        """Makes it if it is not there. Raises OSError."""
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def open_places(path: Path | None) -> PlacesFile | None:
    """The file; None where places can be counted in this process only. Raises OSError."""
    return PlacesFile(path) if path is not None and _AVAILABLE else None


class Places:
    """``size`` places, the bytes from ``first`` on. Thread-safe; a file may serve several that don't overlap."""

    def __init__(self, file: PlacesFile | None, first: int, size: int) -> None:
        self._file = file
        self._first = first
        self._size = size
        self._lock = threading.Lock()
        self._own: set[int] = set()

    def take(self) -> int | None:
        """A place, to be given back; None when all are taken."""
        with self._lock:
            others = self._others()
            if len(self._own) + len(others) >= self._size:
                return None
            for place in range(self._size):
                if place not in self._own and place not in others and self._set(place, fcntl.F_WRLCK):
                    self._own.add(place)
                    return place
        return None

    def give(self, place: int) -> None:
        """Gives a place back."""
        with self._lock:
            self._own.discard(place)
            self._set(place, fcntl.F_UNLCK)

    def taken(self) -> int:
        """How many are taken, by whichever process."""
        with self._lock:
            return len(self._own) + len(self._others())

    def _set(self, place: int, kind: int) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.fcntl(
                self._file.descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, self._first + place, 1, 0)
            )
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX has it
            return False
        return True

    def _others(self) -> set[int]:
        """The places of other processes. The kernel tells the first one that is in the way, adjacent ones as one."""
        found: set[int] = set()
        start = self._first
        end = self._first + self._size
        while self._file is not None and start < end:
            question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
            answer = _FLOCK.unpack(fcntl.fcntl(self._file.descriptor, fcntl.F_OFD_GETLK, question))
            kind, _, begins, length, _ = answer
            if kind == fcntl.F_UNLCK:
                break
            last = min(end, begins + length) if length else end
            found.update(range(max(begins, start) - self._first, last - self._first))
            start = last
        return found
