"""Counts of one process that others can read, also when it is dead: a small file in the runtime folder, mapped.

Counting is a few additions in memory. A file is a table of rows; each has a key and sixteen numbers. What a dead
process counted is added to one file for all of them by the next process that opens its counts: a server whose workers
are replaced again and again keeps few files, and no count ever goes back.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from janflask.errors import StoreBusyError
from janflask.files.locks import lock_until, try_lock

SUFFIX = ".counts"
GONE = f"gone{SUFFIX}"
LOCK = f"lock{SUFFIX}"  # held while files are made, merged, or read all together
LOCK_TIME = 2.0  # seconds
ROWS = 1024
NUMBERS = 16
KEY_BYTES = 128
ROW = struct.Struct(f"{KEY_BYTES}s{NUMBERS}d")
REST = "other"  # the key of what finds no row
NOW = "now "  # how keys begin whose numbers are a state: it ends with its process


class SharedCounts:
    """This process's. ``add`` is for any thread."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when the folder cannot be written to, StoreBusyError when others are at it for too long."""
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}  # key -> its first number in ``_numbers``
        self._descriptor = -1
        with _all_locked(folder):
            _merge_dead(folder)
            path = folder / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try_lock(descriptor)  # until this process ends
        os.ftruncate(descriptor, ROWS * ROW.size)
        self._map = mmap.mmap(descriptor, ROWS * ROW.size)
        self._numbers = memoryview(self._map).cast("d")
        self._descriptor = descriptor

    def add(self, key: str, *amounts: tuple[int, float]) -> None:
        """Adds to numbers (their places, from 0, and how much) of the row of ``key``."""
        with self._lock:
            first = self._rows.get(key)
            if first is None:
                first = self._new_row(key)
            for number, amount in amounts:
                self._numbers[first + number] += amount

    def _new_row(self, key: str) -> int:
        name = key.encode()
        if key != REST and (len(name) > KEY_BYTES or len(self._rows) >= ROWS - 1):
            return self._rows[REST] if REST in self._rows else self._new_row(REST)
        start = len(self._rows) * ROW.size
        self._map[start : start + len(name)] = name
        self._rows[key] = first = (start + KEY_BYTES) // 8
        return first

    def close(self) -> None:
        """As the process's end does; what was counted stays. Idempotent."""
        if self._descriptor >= 0:
            self._numbers.release()
            self._map.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def read_all(folder: Path) -> tuple[dict[str, list[float]], list[int]]:
    """The sums over all processes, dead ones too, and the ids of those that count now. Raises OSError, StoreBusyError.

    Only under the lock is it known who is dead: to look, a file's lock is tried, which its process must find free.
    """
    with _all_locked(folder):
        sums = _read(folder / GONE)
        living = []
        for path in _owned(folder):
            is_dead = _is_dead(path)
            _add(sums, _read(path), is_dead=is_dead)
            living += [] if is_dead else [_owner(path)]
        return sums, sorted(living)


@contextlib.contextmanager
def _all_locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock_until(descriptor, time.monotonic() + LOCK_TIME):
            raise StoreBusyError("the counts are being read or merged by somebody else")
        yield
    finally:
        os.close(descriptor)


def _owned(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"*-*{SUFFIX}") if path.name.partition("-")[0].isdigit()]


def _owner(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _is_dead(path: Path) -> bool:
    """Its process held the lock as long as it lived."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def _merge_dead(folder: Path) -> None:
    dead = [path for path in _owned(folder) if _is_dead(path)]
    if not dead:
        return
    sums = _read(folder / GONE)
    for path in dead:
        _add(sums, _read(path), is_dead=True)
    fresh = folder / f"{GONE}.tmp"
    fresh.write_bytes(b"".join(ROW.pack(key.encode(), *numbers) for key, numbers in sums.items()))
    fresh.replace(folder / GONE)
    for path in dead:  # who is killed before this counts them twice: rather that than counts that fall
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, list[float]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    found: dict[str, list[float]] = {}
    for start in range(0, len(data) - ROW.size + 1, ROW.size):
        name, *numbers = ROW.unpack_from(data, start)
        key = name.rstrip(b"\0").decode("utf-8", "replace")
        if not key:
            break
        found[key] = numbers
    return found


def _add(sums: dict[str, list[float]], rows: Mapping[str, list[float]], *, is_dead: bool) -> None:
    for key, numbers in rows.items():
        if is_dead and key.startswith(NOW):
            continue
        known = sums.get(key)
        sums[key] = numbers if known is None else [a + b for a, b in zip(known, numbers, strict=True)]
