"""A file of secrets that any number of processes read and change, read again whenever it changes."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from janflask.errors import JanflaskError, StoreBusyError
from janflask.files import by_path
from janflask.files.disk import opened_root
from janflask.files.locks import lock_until
from janflask.files.private import NotPrivateError, check_user, read_private

T = TypeVar("T")
_Stamp = tuple[int, int, int]


class SecretsFile(Generic[T]):
    """Its content as ``T``. Thread-safe.

    Args:
        path: the file, its user's alone. A change makes its folder.
        decode: raises ValueErrors whose messages say what is wrong.
        encode: the other way round; JSON.
        unusable: makes the error of a file that cannot be used, out of the reason.
        limit: bytes that it may have.
        lock_timeout: seconds that a change waits for others'.
    """

    def __init__(
        self,
        path: Path,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes],
        unusable: Callable[[str], JanflaskError],
        *,
        limit: int,
        lock_timeout: float,
    ) -> None:
        self.path = path
        self._name = str(path)
        self._decode = decode
        self._encode = encode
        self._unusable = unusable
        self._limit = limit
        self._lock_timeout = lock_timeout
        self._reading = threading.Lock()
        self._seen: tuple[_Stamp, T] | None = None

    def current(self) -> T | None:
        """What it holds now, None where it is not there: one question to the file system if nothing has changed.

        Raises what ``unusable`` makes.
        """
        stamp, seen = self._stamp(), self._seen
        if seen is not None and seen[0] == stamp:
            return seen[1]
        with self._reading:
            stamp = self._stamp()  # others may have been here meanwhile
            if stamp is None:
                return None
            found = self._read()
            self._seen = stamp, found  # read after the stamp was taken: a change in between is read again
            return found

    def change(self, changed: Callable[[T | None], T]) -> T:
        """Writes what ``changed`` makes of it (None: of no file), and returns it.

        Raises StoreBusyError, OSError, what ``unusable`` makes, and the errors of ``changed``.
        """
        with opened_root(self.path.parent, make=True) as folder:
            if not lock_until(folder, time.monotonic() + self._lock_timeout, fcntl.LOCK_EX):
                raise StoreBusyError(f"{self.path} is being changed by another process: try again", retry_after=1)
            check_user(self.path.parent, os.fstat(folder))
            new = changed(None if self._stamp() is None else self._read())
            data = msgspec.json.format(self._encode(new), indent=2) + b"\n"
            by_path.replace(self.path, data, durable=True, mode=0o600)
        return new

    def _stamp(self) -> _Stamp | None:
        """What changes with the file; None where there is none."""
        try:
            about = os.lstat(self._name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None
        return about.st_ctime_ns, about.st_ino, about.st_size

    def _read(self) -> T:
        try:
            data = read_private(self.path, self._limit)
            if len(data) > self._limit:
                raise NotPrivateError(f"it is larger than {self._limit >> 20} MiB")
            return self._decode(data)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None
        except (ValueError, RecursionError) as error:  # also NotPrivateError, and msgspec's
            raise self._unusable(str(error)) from None
