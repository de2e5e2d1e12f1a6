"""Requests that may have their effect once, however often they are sent: by their ``Idempotency-Key``.

Each key is a file of its caller's: locked while the request is under way, which ends with the process that answers it;
then the answer, for a day. A file that says it has begun and is not locked is of a request that was cut off: whether it
had its effect nobody knows, so it is not done again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import IdempotencyKeyInUseError, IdempotencyOutcomeUnknownError
from janflask.files.disk import FILE_MODE, TEMPORARY, Disk, opened_root, read_all, translated, write_all
from janflask.files.locks import LockedFile, try_lock

AGE = 24 * 3600.0  # seconds that an answer is kept
MAX_ANSWER = 4 << 20  # bytes; of a larger one it is known only that it was sent
MAX_KEYS = 10_000  # of one caller, and
MAX_BYTES = 64 << 20  # of their answers: beyond either the oldest go
_LOOK = 600.0  # seconds between two looks for what is too old,
_NEWS = 200  # or requests
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WHAT = "answer to a request with an Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. ``request`` is the digest of what was asked; ``body`` is None if it was too large."""

    request: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class _Line(msgspec.Struct):
    """The first line of a file. Without a status the request has begun."""

    at: float
    request: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = []
    body: bool = True


class Held:
    """A request that is under way: one of ``done``, ``forget`` and ``leave`` ends it, from any thread."""

    def __init__(self, folder: Path, disk: Disk, name: str, lock: LockedFile) -> None:
        self._folder = folder
        self._disk = disk
        self._name = name
        self._lock = lock

    def done(self, answer: Answer) -> None:
        """Keeps the answer. Raises StorageFullError, OSError; then it is as if the request had been cut off."""
        body = answer.body if answer.body is not None and len(answer.body) <= MAX_ANSWER else None
        line = _Line(time.time(), answer.request, answer.status, answer.headers, body is not None)
        temporary = f"{self._name}.{secrets.token_hex(4)}{TEMPORARY}"
        try:
            with (
                translated(_WHAT),
                opened_root(self._folder) as root,
                self._disk.replacing(root, self._name, temporary=temporary) as file,
            ):
                write_all(file, msgspec.json.encode(line) + b"\n" + (body or b""))
        finally:
            self.leave()

    def forget(self) -> None:
        """The request had no effect: it may be sent again."""
        with suppress(OSError), opened_root(self._folder) as root:
            os.unlink(self._name, dir_fd=root)
        self.leave()

    def leave(self) -> None:
        """What became of the request is not known."""
        self._lock.release()


class Once:
    """The keys of all callers. ``folder`` is theirs alone."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._guard = threading.Lock()
        self._looked = -_LOOK
        self._news = 0

    def begin(self, owner: str | None, key: str) -> Held | Answer:
        """Begins a caller's request, or gives the answer that it had.

        Raises IdempotencyKeyInUseError, IdempotencyOutcomeUnknownError, StorageFullError, OSError.
        """
        name = f"{_digest(owner or '')[:16]}-{_digest(key)}"
        with translated(_WHAT), opened_root(self._folder, make=True) as root:
            self._tidy(root)
            file = _locked(root, name)
            lock = LockedFile(file)
            try:
                found = _read(file)
                if isinstance(found, Answer):
                    lock.release()
                    return found
                if found is not None:
                    raise IdempotencyOutcomeUnknownError(
                        "the request that had this Idempotency-Key was cut off, and may have had its effect: look for "
                        "what it should have made; to send it again all the same, use another key"
                    )
                os.ftruncate(file, 0)
                os.pwrite(file, msgspec.json.encode(_Line(time.time())) + b"\n", 0)
                self._disk.sync(file)
                self._disk.sync(root)
            except BaseException:
                lock.release()
                raise
        return Held(self._folder, self._disk, name, lock)

    def _tidy(self, root: int) -> None:
        """Now and then: what is too old goes, and of a caller who has too many the oldest."""
        with self._guard:
            self._news += 1
            if self._news < _NEWS and time.monotonic() - self._looked < _LOOK:
                return
            self._news, self._looked = 0, time.monotonic()
        kept: dict[str, list[int]] = {}
        now = time.time()
        for at, size, name in sorted(_files(root), reverse=True):
            counts = kept.setdefault(name.partition("-")[0], [0, 0])
            counts[0] += 1
            counts[1] += size
            if now - at > AGE or counts[0] > MAX_KEYS or counts[1] > MAX_BYTES:
                _remove(root, name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _locked(root: int, name: str) -> int:
    """The file, locked and still in its place. Raises IdempotencyKeyInUseError, OSError."""
    while True:
        file = os.open(name, _OPEN, FILE_MODE, dir_fd=root)
        try:
            if not try_lock(file):
                raise IdempotencyKeyInUseError("a request with this Idempotency-Key is under way", retry_after=1)
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=root, follow_symlinks=False).st_ino == os.fstat(file).st_ino:
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # it was answered, or taken away, while we opened it


def _read(file: int) -> Answer | _Line | None:
    """The answer in a file, or that a request has begun; None if there is none yet, or it is too old."""
    first, _, body = read_all(file, MAX_ANSWER + (1 << 20)).partition(b"\n")
    if not first:
        return None
    try:
        line = json_decoder(_Line).decode(first)
    except msgspec.DecodeError:
        return _Line(0.0)  # it was cut while it was written
    if time.time() - line.at > AGE:
        return None
    return Answer(line.request, line.status, line.headers, body if line.body else None) if line.status else line


def _files(root: int) -> list[tuple[float, int, str]]:
    found = []
    for name in os.listdir(root):
        with suppress(FileNotFoundError):
            about = os.stat(name, dir_fd=root, follow_symlinks=False)
            found.append((about.st_mtime, about.st_size, name))
    return found


def _remove(root: int, name: str) -> None:
    """Unless its request is under way."""
    with suppress(OSError):
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
        try:
            if try_lock(file):
                os.unlink(name, dir_fd=root)
        finally:
            os.close(file)
