"""What a change tells is in the spool before the change is made, and certain once it is.

So a process that is killed at any moment leaves either no change, or one that is told. Where it left nobody who knows
(its lock file in ``writers/`` is free), whoever delivers looks at the object.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from janflask.errors import ConflictError, JanflaskError, NotFoundError, StoreBusyError
from janflask.files import ids
from janflask.files.disk import FILE_MODE, FOLDER_MODE, translated
from janflask.files.locks import lock_until, try_lock
from janflask.settings import Settings
from janflask.webhooks.endpoints import EndpointFile
from janflask.webhooks.events import Event

if TYPE_CHECKING:
    from janflask.webhooks.spool import Spool

WRITERS, ORDER = "writers", "order"  # folders of lock files
_ORDERS = 256  # lock files among which objects are divided
_NOT_MADE = (ConflictError, NotFoundError, FileExistsError, FileNotFoundError)  # the change found something in its way

log = logging.getLogger(__name__)


class Telling(Protocol):
    """A context manager: the block makes the change that the events tell of.

    ``alone``: nobody else makes such changes of that object meanwhile, where no lock of its own sees to that.
    """

    def __call__(self, *events: Event, alone: bool = False) -> AbstractContextManager[None]: ...


def untold(*events: Event, alone: bool = False) -> AbstractContextManager[None]:
    """Nobody is told."""
    return contextlib.nullcontext()


class Outbox:
    """A data folder's spool as who changes something sees it. Thread-safe; where nobody is told it makes no file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoints = EndpointFile(settings.secrets_dir, settings.lock_timeout)
        self._folder = settings.webhooks_dir
        self._timeout = settings.lock_timeout
        self._lock = threading.Lock()  # guards what follows
        self._made: Spool | None = None
        self._writer: Writer | None = None
        self._late: list[int] = []  # numbers of events that are certain, and that the spool did not take as such

    def telling(self, *events: Event, alone: bool = False) -> AbstractContextManager[None]:
        """See ``Telling``. Raises what ``Spool`` does before the block, and nothing behind it."""
        wanted = self._endpoints.wanted(events)
        return self._telling(wanted, alone) if wanted else contextlib.nullcontext()

    def tell(self, event: Event) -> None:
        """Something has happened that nobody could undo. Raises what ``Spool`` does."""
        if self._endpoints.wanted([event]):
            self._spool.begin([event], None)

    @contextlib.contextmanager
    def _telling(self, events: list[Event], alone: bool) -> Iterator[None]:
        with self._in_turn(events[0].about) if alone else contextlib.nullcontext():
            numbers = self._spool.begin(events, self._name())
            try:
                yield
            except BaseException as error:
                self._give_back(numbers, error)
                raise
            self._confirm(numbers)

    def _give_back(self, numbers: list[int], error: BaseException) -> None:
        try:
            if _is_refusal(error):
                self._spool.withdraw(numbers)
            else:
                self._spool.doubt(numbers)
        except JanflaskError as second:  # they stay this process's, which is asked for when it has ended
            log.warning("events %s are left in doubt: %s", numbers, second.message)

    def _confirm(self, numbers: list[int]) -> None:
        with self._lock:
            self._late += numbers
            numbers = list(self._late)
        try:
            self._spool.confirm(numbers)
        except JanflaskError as error:
            log.warning("events %s are told later: %s", numbers, error.message)
            return
        with self._lock:
            self._late = [number for number in self._late if number not in numbers]

    @property
    def _spool(self) -> Spool:
        """Made when there is something to tell: most servers tell nobody anything, and need no SQLite for it."""
        from janflask.webhooks.spool import Spool

        with self._lock:
            if self._made is None:
                self._made = Spool(self._folder, durable=self._settings.durability == "disk", timeout=self._timeout)
            return self._made

    def _name(self) -> str:
        with self._lock:
            if self._writer is None or self._writer.pid != os.getpid():
                with translated("the webhooks' spool"):
                    self._writer = Writer(self._folder / WRITERS)
            return self._writer.name

    @contextlib.contextmanager
    def _in_turn(self, about: str) -> Iterator[None]:
        number = hashlib.sha256(about.encode()).digest()[0] % _ORDERS
        folder = self._folder / ORDER
        with translated("the webhooks' spool"):
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            file = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            if not lock_until(file, time.monotonic() + self._timeout, fcntl.LOCK_EX):
                raise StoreBusyError(f"{about} is being changed by somebody else; try again", retry_after=1)
            yield
        finally:
            os.close(file)


class Writer:
    """This process, as the spool knows it: a file that it holds locked until it ends."""

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        self.name = ids.new_id("w_")
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        self._file = -1
        while self._file < 0 or os.fstat(self._file).st_nlink == 0:  # it was taken for one that a dead process left
            if self._file >= 0:
                os.close(self._file)
            self._file = os.open(folder / self.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
            fcntl.flock(self._file, fcntl.LOCK_EX)


def is_gone(folder: Path, name: str) -> bool:
    """Whether the writer of that name has ended."""
    path = folder / WRITERS / name
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        return try_lock(file)
    finally:
        os.close(file)


def _is_refusal(error: BaseException) -> bool:
    """Whether a change that ended so was certainly not made."""
    return isinstance(error, _NOT_MADE) or (isinstance(error, OSError) and error.errno == errno.ENOTEMPTY)
