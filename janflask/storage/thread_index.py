"""Which threads there are, in the order of their creation: a SQLite file that can be thrown away at any time.

The folders are the truth. The index holds each one's name and time, and what the threads folder's own ``stat`` said
when the two agreed. Whoever adds or removes a thread here keeps them in agreement; when another program did, the
folder's time of change differs and its names are read again. Our own ids tell their time, so that only a foreign
thread's ``thread.json`` must be opened for it, once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from janflask.errors import InvalidRequestError, StoreBusyError
from janflask.storage import ids
from janflask.storage.base import Page

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS threads (id TEXT PRIMARY KEY, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON threads (created, id);
CREATE TABLE IF NOT EXISTS agreed (inode INTEGER, changed INTEGER, checked INTEGER);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_RACY = 100_000_000  # ns; a folder changed so shortly before we read it may change again within the clock's same tick
_TRUSTED_FOR = 600_000_000_000  # ns after which the names are read again in any case
_BATCH = 200  # names fetched at once where all are wanted


class ThreadIndex:
    """``time_of`` tells the creation (ms) of a folder whose name does not; ``file`` is where the index is."""

    def __init__(self, root: Path, file: Path, time_of: Callable[[str], int], timeout: float) -> None:
        self._root = root
        self._file = file
        self._time_of = time_of
        self._timeout = timeout
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened it
        self._inherited: list[sqlite3.Connection | None] = []

    def names(self, page: Page) -> Iterator[str]:
        """The ids between the page's cursors in its order, as many as are asked for; ``limit`` is the caller's to keep.

        Raises InvalidRequestError for a cursor that is no thread's.
        """
        with self._agreeing() as db:
            after, before = (self._place(db, getattr(page, name), name) for name in ("after", "before"))
        backwards = page.before is not None and page.after is None
        newest_first = (page.order == "desc") != backwards
        low, high = (before, after) if page.order == "desc" else (after, before)
        return self._between(low, high, newest_first)

    def count(self) -> int:
        """How many folders there are."""
        with self._agreeing() as db:
            return int(db.execute("SELECT count(*) FROM threads").fetchone()[0])

    @contextlib.contextmanager
    def adding(self, thread_id: str, created_ms: int) -> Iterator[None]:
        """The block makes the thread's folder; no other process of ours changes the threads folder meanwhile."""
        with self._changing("INSERT OR REPLACE INTO threads VALUES (?, ?)", (thread_id, created_ms)):
            yield

    @contextlib.contextmanager
    def removing(self, thread_id: str) -> Iterator[None]:
        """The block removes the thread's folder."""
        with self._changing("DELETE FROM threads WHERE id = ?", (thread_id,)):
            yield

    # --- reading ----------------------------------------------------------------------------------------------------

    def _between(self, low: tuple[int, str] | None, high: tuple[int, str] | None, newest_first: bool) -> Iterator[str]:
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT created, id FROM threads WHERE (created, id) > (?, ?) AND (created, id) < (?, ?) "  # noqa: S608
            f"ORDER BY created {order}, id {order} LIMIT {_BATCH}"
        )
        first, last = low or (-1, ""), high or (1 << 62, "")
        while True:
            with self._lock:
                rows = self._connect().execute(query, (*first, *last)).fetchall()
            yield from (name for _, name in rows)
            if len(rows) < _BATCH:
                return
            if newest_first:
                last = rows[-1]
            else:
                first = rows[-1]

    def _place(self, db: sqlite3.Connection, cursor: str | None, field: str) -> tuple[int, str] | None:
        if cursor is None:
            return None
        row = db.execute("SELECT created FROM threads WHERE id = ?", (cursor,)).fetchone()
        created = row[0] if row is not None else ids.time_of(cursor)
        if created is None:
            raise InvalidRequestError(f"{field} is {cursor[:128]!r}, and there is no such thread", param=field)
        return created, cursor

    # --- agreeing with the folder -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _agreeing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._connect()
            if not self._agrees(db):
                db = self._read_names()
            yield db

    def _agrees(self, db: sqlite3.Connection) -> bool:
        row = db.execute("SELECT inode, changed, checked FROM agreed").fetchone()
        now = time.time_ns()
        return row is not None and row[:2] == self._folder() and row[2] <= now < row[2] + _TRUSTED_FOR

    def _folder(self) -> tuple[int, int]:
        try:
            about = self._root.stat()
        except FileNotFoundError:
            return 0, 0
        return about.st_ino, about.st_mtime_ns

    def _read_names(self) -> sqlite3.Connection:
        try:
            return self._refresh(self._connect())
        except sqlite3.Error as error:
            return self._refresh(self._start_over(error))

    def _refresh(self, db: sqlite3.Connection) -> sqlite3.Connection:
        self._lock_file(db)
        try:
            if not self._agrees(db):  # another process may have seen to it while we waited for the lock
                self._take_names(db)
            db.execute("COMMIT")
        except BaseException:
            self._end(db, "ROLLBACK")
            raise
        return db

    def _take_names(self, db: sqlite3.Connection) -> None:
        started, folder = time.time_ns(), self._folder()
        there = set(self._scan())
        known = {row[0] for row in db.execute("SELECT id FROM threads")}
        db.executemany("DELETE FROM threads WHERE id = ?", ((name,) for name in known - there))
        db.executemany("INSERT INTO threads VALUES (?, ?)", ((name, self._created(name)) for name in there - known))
        # Read too soon after a change: another in the same tick would not show. Agree on nothing then, and look again.
        racy = folder[1] > started - _RACY
        self._agree(db, (folder[0], -1) if racy else folder)

    def _scan(self) -> Iterator[str]:
        try:
            with os.scandir(self._root) as entries:
                for entry in entries:
                    if ids.is_id(entry.name) and entry.is_dir(follow_symlinks=False):
                        yield entry.name
        except FileNotFoundError:
            return

    def _created(self, name: str) -> int:
        own = ids.time_of(name) if name.startswith(ids.THREAD) else None
        return self._time_of(name) if own is None else own

    def _agree(self, db: sqlite3.Connection, folder: tuple[int, int]) -> None:
        db.execute("DELETE FROM agreed")
        db.execute("INSERT INTO agreed VALUES (?, ?, ?)", (*folder, time.time_ns()))

    @contextlib.contextmanager
    def _changing(self, statement: str, values: tuple[object, ...]) -> Iterator[None]:
        """The block, and then the statement if the block succeeded.

        A thread is never refused because of its index: where that cannot be written, the two don't agree any more, and
        the next listing reads the names again.
        """
        with self._lock:
            db, agreed = self._begin()
            try:
                yield
            except BaseException:
                self._end(db, "ROLLBACK")
                raise
            try:
                if db is not None:
                    db.execute(statement, values)
                    if agreed:
                        self._agree(db, self._folder())
            except sqlite3.Error as error:
                log.warning("the index of threads cannot be written: %s", error)
                self._end(db, "ROLLBACK")
            else:
                self._end(db, "COMMIT")

    def _begin(self) -> tuple[sqlite3.Connection | None, bool]:
        try:
            db = self._connect()
            self._lock_file(db)
            return db, self._agrees(db)
        except sqlite3.Error as error:
            log.warning("the index of threads cannot be written: %s", error)
            return None, False

    def _lock_file(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise StoreBusyError(
                f"the index of threads is locked for more than {self._timeout:g} s; try again", retry_after=1
            ) from None

    def _end(self, db: sqlite3.Connection | None, word: str) -> None:
        if db is None or not db.in_transaction:
            return
        try:
            db.execute(word)
        except sqlite3.Error as error:
            log.warning("the index of threads cannot be written: %s", error)
            if word == "COMMIT":
                self._end(db, "ROLLBACK")

    # --- the file ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        if self._db is None or self._owner != os.getpid():
            self._inherited.append(self._db)  # neither used nor closed in a forked child: SQLite forbids both
            self._db, self._owner = self._open(), os.getpid()
        return self._db

    def _open(self) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return self._opened(str(self._file))
        except (sqlite3.Error, OSError) as error:
            return self._start_over(error)

    def _start_over(self, error: Exception) -> sqlite3.Connection:
        """A new file in place of one that is broken; in memory where none can be written."""
        log.warning("the index of threads (%s) is made anew: %s", self._file, error)
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._file}{suffix}").unlink(missing_ok=True)
            self._db = self._opened(str(self._file))
        except (sqlite3.Error, OSError) as second:
            log.warning("the index of threads is kept in memory: %s", second)
            self._db = self._opened(":memory:")
        self._owner = os.getpid()
        return self._db

    def _opened(self, name: str) -> sqlite3.Connection:
        db = sqlite3.connect(name, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")  # what a power cut breaks is made again
            db.execute("PRAGMA cache_size = -1024")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"it has version {version}, not {_SCHEMA_VERSION}")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db
