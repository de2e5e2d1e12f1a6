"""Runs on disk: ``threads/<id>/runs/<run id>.json``, and a run's event log in ``<run id>.reply`` (``run_log``).

The first says how far a run is, and is written before the log tells it.

While a run is not final its id stands in ``runs/open`` of its thread, made so that only one can be, and the run has a
file in the folder of all open runs. That one is written first and removed last: whoever starts up finds in it every
run that was left in the middle.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from janflask.errors import ConflictError, NotFoundError, RequestTooLargeError, StoreDamagedError
from janflask.files import ids
from janflask.files.disk import Disk, make_folder, opened_folder, opened_root, read_plain, translated
from janflask.files.locks import FolderLocks
from janflask.storage.base import Page, Slice
from janflask.storage.changes import run_changes
from janflask.storage.paging import Key, cut
from janflask.storage.records import Run, RunKind
from janflask.storage.run_json import decode_run, kind_of
from janflask.storage.run_log import LogEvent
from janflask.storage.run_log_file import LOG_SUFFIX, FileEventWriter, complete_log, logs_in, read_log
from janflask.webhooks.outbox import Telling, untold

RUNS, OPEN = "runs", "open"
MAX_RUN_FILE = 32 << 20  # bytes: a run lists every message that the model was not shown
MAX_NEW_RUN = 8 << 20  # bytes
BEING_MADE_MS = 60_000  # a run that is named and not there yet may be about to come for that long

log = logging.getLogger(__name__)


class FileRunStore:
    """``base.RunStore`` beside a FileThreadStore's threads; ``open_root`` is the folder of all open runs."""

    def __init__(
        self, threads_root: Path, open_root: Path, disk: Disk, locks: FolderLocks, telling: Telling = untold
    ) -> None:
        self._threads = threads_root
        self._open = open_root
        self._disk = disk
        self._locks = locks
        self._telling = telling

    # --- one run ------------------------------------------------------------------------------------------------

    def create(self, run: Run, still: Callable[[], bool] = lambda: True) -> bool:
        """See ``RunStore``."""
        name = f"{run.id}.json"
        data = msgspec.json.encode(run)
        if len(data) > MAX_NEW_RUN:  # what is written must be read again, also when it has grown
            raise RequestTooLargeError(f"the run has {len(data)} bytes as JSON, and {MAX_NEW_RUN} is the most")
        with translated(_what(run.id)), opened_root(self._open, make=True) as top:
            self._disk.create(top, name, msgspec.json.encode({"thread_id": run.thread_id}))
            try:
                self._disk.sync(top)
                created = self._create_in_thread(run, data, still)
            except BaseException:
                _forget(top, name)
                raise
            if not created:
                _forget(top, name)
        return created

    def _create_in_thread(self, run: Run, data: bytes, still: Callable[[], bool]) -> bool:
        with self._thread(run.thread_id) as thread:
            make_folder(thread, RUNS)
            self._disk.sync(thread)
            with opened_folder(RUNS, thread) as fd:
                if not self._mark_open(fd, run.thread_id, run.id):
                    return False
                try:
                    if not still():
                        _forget(fd, OPEN)
                        return False
                    for name in logs_in(fd):  # those of the runs before, whose messages are stored
                        if kind_of(name.removesuffix(LOG_SUFFIX)) is RunKind.RUN:
                            _forget(fd, name)
                    self._disk.replace(fd, f"{run.id}.json", data)
                except BaseException:
                    _forget(fd, f"{run.id}.json")
                    _forget(fd, OPEN)
                    raise
        return True

    def _mark_open(self, fd: int, thread_id: str, run_id: str) -> bool:
        """Whether that run is the thread's open one now. A mark of one that cannot go on is taken away."""
        for _ in range(2):
            try:
                self._disk.create(fd, OPEN, run_id.encode())
                return True
            except FileExistsError:
                with self._locked(thread_id):
                    if _open_run(fd, thread_id) is not None:
                        return False
                    _forget(fd, OPEN)
        return False

    def get(self, thread_id: str, run_id: str) -> Run:
        with self._runs(thread_id, run_id) as fd:
            return _read(fd, thread_id, run_id)

    def update(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        """The run with ``change`` made, under its thread's lock."""
        with self._runs(thread_id, run_id) as fd, self._locked(thread_id):
            return self._changed(fd, thread_id, run_id, change)

    def _changed(self, fd: int, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Under the thread's lock: the run with ``change`` made, which is told."""
        before = _read(fd, thread_id, run_id)
        after = change(before)
        with self._telling(*run_changes(before, after)):
            self._disk.replace(fd, f"{run_id}.json", msgspec.json.encode(after))
        return after

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        """By creation; one that cannot be read is left out, and logged."""
        with self._thread(thread_id) as thread:
            try:
                with opened_folder(RUNS, thread) as fd:
                    return cut(_keys(fd), page, lambda run_id: _readable(fd, thread_id, run_id))
            except FileNotFoundError:
                return cut([], page, lambda _: None)

    def ids(self, thread_id: str) -> Sequence[str]:
        """See ``RunStore``. Quick for a thread without runs, as most are that somebody looks through."""
        folder = self._threads / thread_id
        if ids.is_id(thread_id) and not os.path.lexists(folder / RUNS) and os.path.lexists(folder):
            return ()
        with self._thread(thread_id) as thread:
            try:
                with opened_folder(RUNS, thread) as fd:
                    return [run_id for _, run_id in _keys(fd)]
            except FileNotFoundError:
                return ()

    def delete(self, thread_id: str, run_id: str) -> None:
        """See ``RunStore``. The log goes first: a run without one is told by its message."""
        with self._runs(thread_id, run_id) as fd, self._locked(thread_id):
            if not _read(fd, thread_id, run_id).status.is_final:
                raise ConflictError(f"run {run_id} is under way: cancel it first", param="run_id")
            _forget(fd, f"{run_id}{LOG_SUFFIX}")
            os.unlink(f"{run_id}.json", dir_fd=fd)
            self._disk.sync(fd)

    @contextlib.contextmanager
    def idle(self, thread_id: str) -> Iterator[bool]:
        """See ``RunStore``. The mark of a process that died under it is given up as that of any run without a file."""
        with self._thread(thread_id) as thread:
            make_folder(thread, RUNS)
            with opened_folder(RUNS, thread) as fd:
                is_idle = self._mark_open(fd, thread_id, ids.new_id(ids.RUN))
                try:
                    yield is_idle
                finally:
                    if is_idle:
                        _forget(fd, OPEN)

    # --- the open ones ------------------------------------------------------------------------------------------

    def open_run(self, thread_id: str) -> str | None:
        """The id of the thread's run that is not final yet; one whose file nobody can read stands in nobody's way."""
        with self._thread(thread_id) as thread:
            try:
                with opened_folder(RUNS, thread) as fd:
                    return _open_run(fd, thread_id)
            except FileNotFoundError:
                return None

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        """The run with ``change`` made, which ends it: its thread is free for the next. Its message is stored before.

        Idempotent.
        """
        with self._runs(thread_id, run_id) as fd, self._locked(thread_id):
            run = self._changed(fd, thread_id, run_id, change)
            with contextlib.suppress(FileNotFoundError):
                if read_plain(fd, OPEN, 256, _what(run.id))[0] == run.id.encode():
                    complete_log(self._disk, fd, run)  # before the thread's next run forgets it
                    os.unlink(OPEN, dir_fd=fd)
            self._disk.sync(fd)
        self.forget(run.id)
        return run

    def all_open(self) -> Iterator[tuple[str, str]]:
        """(thread id, run id) of every run that is not final, also of one whose thread is gone."""
        with contextlib.suppress(FileNotFoundError), opened_root(self._open) as top:
            for run_id in sorted(_ids(top)):
                with contextlib.suppress(FileNotFoundError):  # it became final meanwhile
                    yield _thread_of(read_plain(top, f"{run_id}.json", 4096, _what(run_id))[0]), run_id

    def forget(self, run_id: str) -> None:
        """Nobody has to look after the run any more. Idempotent."""
        with contextlib.suppress(FileNotFoundError), opened_root(self._open) as top:
            os.unlink(f"{run_id}.json", dir_fd=top)
            self._disk.sync(top)

    # --- its events ---------------------------------------------------------------------------------------------

    def event_log(self, thread_id: str, run_id: str) -> FileEventWriter:
        """See ``RunStore``."""
        with self._runs(thread_id, run_id) as fd:
            os.stat(f"{run_id}.json", dir_fd=fd, follow_symlinks=False)  # no log without a run
            return FileEventWriter(self._disk, fd, run_id)

    def events(self, thread_id: str, run_id: str) -> Sequence[LogEvent]:
        """See ``RunStore``."""
        with self._runs(thread_id, run_id) as fd:
            return read_log(fd, run_id)

    # --- folders ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _thread(self, thread_id: str) -> Iterator[int]:
        if not ids.is_id(thread_id):
            raise NotFoundError(f"there is no thread {thread_id[:128]!r}", param="thread_id")
        with translated(f"thread {thread_id}"), opened_root(self._threads) as top, contextlib.ExitStack() as stack:
            try:
                thread = stack.enter_context(opened_folder(thread_id, top))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise NotFoundError(f"there is no thread {thread_id!r}", param="thread_id") from error
            yield thread

    def _locked(self, thread_id: str) -> contextlib.AbstractContextManager[int]:
        return self._locks.exclusive(self._threads / thread_id, f"thread {thread_id}")

    @contextlib.contextmanager
    def _runs(self, thread_id: str, run_id: str) -> Iterator[int]:
        if not ids.is_id(run_id):
            raise NotFoundError(f"there is no run {run_id[:128]!r}", param="run_id")
        with self._thread(thread_id) as thread, translated(_what(run_id)), opened_folder(RUNS, thread) as fd:
            yield fd


def _what(run_id: str) -> str:
    return f"run {run_id}"


def _read(fd: int, thread_id: str, run_id: str) -> Run:
    """Raises OSError, and StoreDamagedError where nothing can be read."""
    data, _ = read_plain(fd, f"{run_id}.json", MAX_RUN_FILE, _what(run_id))
    return decode_run(data, thread_id, run_id)


def _readable(fd: int, thread_id: str, run_id: str) -> Run | None:
    try:
        with translated(_what(run_id)):
            return _read(fd, thread_id, run_id)
    except (StoreDamagedError, ConflictError) as error:
        log.warning("a run of thread %s is left out: %s", thread_id, error.message)
    except NotFoundError:
        pass
    return None


def _open_run(fd: int, thread_id: str) -> str | None:
    """The run that ``open`` names; None if that is over, or if nobody can read it and it is not just being made."""
    try:
        data, about = read_plain(fd, OPEN, 256, f"thread {thread_id}")
    except FileNotFoundError:
        return None
    run_id = data.decode("ascii", "replace")
    is_new = about.st_mtime_ns // 1_000_000 > ids.now_ms() - BEING_MADE_MS
    try:
        if ids.is_id(run_id):
            return None if _read(fd, thread_id, run_id).status.is_final else run_id
    except FileNotFoundError:
        pass
    except (StoreDamagedError, OSError) as error:
        if not is_new:
            log.error("the open run of thread %s is given up: %s", thread_id, error)
    return run_id if is_new else None


def _thread_of(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["thread_id"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return ""  # nobody can tell: to be forgotten


def _keys(fd: int) -> list[Key]:
    return sorted((ids.time_of(run_id) or 0, run_id) for run_id in _ids(fd))


def _ids(fd: int) -> Iterator[str]:
    """The runs that have a file in a folder."""
    with os.scandir(fd) as entries:
        for entry in entries:
            run_id = entry.name.removesuffix(".json")
            if run_id != entry.name and ids.is_id(run_id):
                yield run_id


def _forget(fd: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=fd)
