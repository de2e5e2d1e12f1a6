"""Event logs on disk, each a file of its thread's ``runs`` folder; ``fd`` is that folder's descriptor everywhere.

Lines are with the operating system before anybody hears of their events, so whoever comes back after a crash of ours
finds all that was told. A log is written only while ``runs/open`` names its run.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from janflask.errors import JanflaskError, StoreDamagedError
from janflask.files.disk import FILE_MODE, Disk, open_plain, read_all, size_of_plain, translated, write_all
from janflask.storage.records import Run
from janflask.storage.run_log import LogEvent, decode_events, encode_events, missing

LOG_SUFFIX = ".reply"  # from the time when there was nothing else in it
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

log = logging.getLogger(__name__)


class FileEventWriter:
    """Adds to one log. One thread uses it; a context manager that closes it."""

    def __init__(self, disk: Disk, fd: int, run_id: str) -> None:
        """A line that a crash cut short is taken out. Raises OSError."""
        self._disk = disk
        self._file = os.open(f"{run_id}{LOG_SUFFIX}", _APPEND, FILE_MODE, dir_fd=fd)
        try:
            self._size = _truncate_to_whole_lines(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._file)

    def add(self, events: Sequence[LogEvent]) -> None:
        """They survive the end of any process of ours. Raises StorageFullError, and then none of them is there."""
        data = encode_events(events)
        with translated("run's log"):
            try:
                write_all(self._file, data)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                raise
        self._size += len(data)

    def sync(self) -> None:
        """What was added survives a power cut, too."""
        with translated("run's log"):
            self._disk.sync_data(self._file)


def read_log(fd: int, run_id: str) -> list[LogEvent]:
    """The events of a run; none if it has no log. Raises OSError, and StoreDamagedError for what is no event."""
    try:
        file = open_plain(fd, f"{run_id}{LOG_SUFFIX}")
    except FileNotFoundError:
        return []
    try:
        data = read_all(file, size_of_plain(file))
    finally:
        os.close(file)
    try:
        return decode_events(data)
    except StoreDamagedError as error:
        raise StoreDamagedError(f"the log of run {run_id} cannot be read: {error.message}") from None


def complete_log(disk: Disk, fd: int, run: Run) -> None:
    """Writes down what the log of ``run``, whose file says how it ended, lacks.

    A failure is logged and no more: whoever reads the log completes what was read all the same.
    """
    try:
        with FileEventWriter(disk, fd, run.id) as writer:
            if events := missing(run, read_log(fd, run.id)):
                writer.add(events)
    except (JanflaskError, OSError) as error:
        log.warning("the end of run %s is not in its log: %s", run.id, error)


def logs_in(fd: int) -> Iterator[str]:
    """The names of the logs in a folder."""
    with os.scandir(fd) as entries:
        yield from [entry.name for entry in entries if entry.name.endswith(LOG_SUFFIX)]


def _truncate_to_whole_lines(file: int) -> int:
    """The size that is left, in bytes."""
    size = size_of_plain(file)
    whole = read_all(file, size).rfind(b"\n") + 1
    if whole < size:
        os.ftruncate(file, whole)
    return whole
