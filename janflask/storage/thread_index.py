"""Which threads there are, in the order of their creation: a SQLite file that can be thrown away at any time.

The folders are the truth. The index holds each one's name and time, and what the threads folder's own ``stat`` said
when the two agreed. Whoever adds or removes a thread here keeps them in agreement; when another program did, the
folder's time of change differs and its names are read again. Our own ids tell their time, so that only a foreign
thread's ``thread.json`` must be opened for it, once. One that cannot be read, such as a thread that is still being
copied here, has no place yet; every listing tries again.

Whose a thread is stands in its ``thread.json``, and so does the family that it is a branch of. Both are read when a
list is first cut by one of them, and kept here; whoever reads a thread that says otherwise meanwhile tells (``doubt``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from janflask.errors import StoreBusyError
from janflask.files import ids
from janflask.storage.base import EVERYTHING, Page
from janflask.storage.index_file import IndexFile
from janflask.storage.paging import time_of_gone

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 4
# ``owner`` is NULL as long as the thread's file was not read, "" for nobody; then ``root`` is NULL for no branch.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS threads (id TEXT PRIMARY KEY, created INTEGER NOT NULL, owner TEXT, root TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON threads (created, id);
CREATE INDEX IF NOT EXISTS by_owner ON threads (owner, created, id);
CREATE INDEX IF NOT EXISTS by_root ON threads (root) WHERE root IS NOT NULL;
CREATE TABLE IF NOT EXISTS unread (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agreed (inode INTEGER, changed INTEGER, links INTEGER, checked INTEGER);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_RACY = 100_000_000  # ns; a folder changed so shortly before we read it may change again within the clock's same tick
_TRUSTED_FOR = 600_000_000_000  # ns after which the names are read again in any case
_TABLES = ("threads", "unread")
_BATCH = 200  # names fetched at once where all are wanted
_READ_AT_ONCE = 500  # threads of which the file is read before what it says is written down

_Values = tuple[object, ...]
_Folder = tuple[int, int, int]  # the threads folder's inode, time of change in ns, and number of links
_NOTHING: _Folder = -1, -1, -1


class Facts(NamedTuple):
    """What a thread's file says that lists are cut by: whose it is, and the first thread if it is a branch."""

    owner: str | None = None
    root: str | None = None


_NOBODYS = Facts()


class ThreadIndex:
    """``file`` is where the index is.

    ``time_of`` tells the creation (ms) of a folder whose name does not, and ``facts_of`` what a thread's file says;
    None as long as it cannot be read.
    """

    def __init__(
        self,
        root: Path,
        file: Path,
        time_of: Callable[[str], int | None],
        facts_of: Callable[[str], Facts | None],
        timeout: float,
    ) -> None:
        self._root = root
        self._file = IndexFile(file, _SCHEMA, _SCHEMA_VERSION, timeout)
        self._time_of = time_of
        self._facts_of = facts_of
        self._timeout = timeout
        self._lock = threading.RLock()

    def names(self, page: Page) -> Iterator[str]:
        """The ids between the page's cursors in its order, as many as are asked for; ``limit`` is the caller's to keep.

        Raises InvalidRequestError for a cursor that is no thread's.
        """
        self._prepare(page)
        with self._lock:
            after, before = (self._place(getattr(page, name), name, page.owner) for name in ("after", "before"))
        backwards = page.before is not None and page.after is None
        newest_first = (page.order == "desc") != backwards
        low, high = (before, after) if page.order == "desc" else (after, before)
        return self._between(low, high, newest_first, page)

    def count(self, page: Page = EVERYTHING) -> int:
        """How many threads the page is cut from; what cannot be read and has a foreign id is none."""
        self._prepare(page)
        where, values = _wanted(page)
        return int(self._rows(f"SELECT count(*) FROM threads WHERE {where}", values)[0][0])  # noqa: S608

    def branches(self, owner: str | None = None) -> Mapping[str, Sequence[str]]:
        """The branches (of that owner) of each first thread that has some, whether it is there or not."""
        page = Page(owner=owner, branches=False)
        self._prepare(page)
        where, values = _owned_by(page.owner)
        found: dict[str, list[str]] = defaultdict(list)
        for root, name in self._rows(f"SELECT root, id FROM threads WHERE root IS NOT NULL AND {where}", values):  # noqa: S608
            found[root].append(name)
        return found

    def stands_for(self, root: str, owner: str | None = None) -> bool:
        """Whether that thread (of that owner) stands for its branches in a list without these."""
        query, values = _standing("?", owner)
        return bool(self._rows(query, (root, *values)))

    @contextlib.contextmanager
    def adding(self, thread_id: str, created_ms: int, facts: Facts = _NOBODYS) -> Iterator[None]:
        """The block makes the thread's folder; no other process of ours changes the threads folder meanwhile."""
        row = thread_id, created_ms, facts.owner or "", facts.root
        with self._changing(("INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?)", row)):
            yield

    @contextlib.contextmanager
    def noting(self, thread_id: str, facts: Facts) -> Iterator[None]:
        """The block writes these into the thread's file. An end in the middle of it leaves them to be read again."""
        self.doubt(thread_id)
        yield
        self._write("UPDATE threads SET owner = ?, root = ? WHERE id = ?", [(facts.owner or "", facts.root, thread_id)])

    def doubt(self, thread_id: str) -> None:
        """What the thread's file says has to be read again."""
        self._write("UPDATE threads SET owner = NULL WHERE id = ?", [(thread_id,)])

    @contextlib.contextmanager
    def removing(self, thread_id: str) -> Iterator[None]:
        """The block removes the thread's folder."""
        with self._changing(*((f"DELETE FROM {table} WHERE id = ?", (thread_id,)) for table in _TABLES)):  # noqa: S608
            yield

    # --- reading ----------------------------------------------------------------------------------------------------

    def _between(
        self, low: tuple[int, str] | None, high: tuple[int, str] | None, newest_first: bool, page: Page
    ) -> Iterator[str]:
        order = "DESC" if newest_first else "ASC"
        where, values = _wanted(page)
        query = (
            f"SELECT created, id FROM threads WHERE {where} AND (created, id) > (?, ?) "  # noqa: S608
            f"AND (created, id) < (?, ?) ORDER BY created {order}, id {order} LIMIT {_BATCH}"
        )
        first, last = low or (-1, ""), high or (1 << 62, "")
        while True:
            rows = self._rows(query, (*values, *first, *last))
            yield from (name for _, name in rows)
            if len(rows) < _BATCH:
                return
            if newest_first:
                last = rows[-1]
            else:
                first = rows[-1]

    def _place(self, cursor: str | None, field: str, owner: str | None) -> tuple[int, str] | None:
        if cursor is None:
            return None
        where, values = _owned_by(owner)
        rows = self._rows(f"SELECT created FROM threads WHERE {where} AND id = ?", (*values, cursor))  # noqa: S608
        return (rows[0][0] if rows else time_of_gone(cursor, field)), cursor

    def _rows(self, query: str, values: _Values = ()) -> list[Any]:
        with self._lock:
            try:
                return self._file.connect().execute(query, values).fetchall()
            except sqlite3.Error as error:
                return self._refresh(self._file.start_over(error)).execute(query, values).fetchall()

    # --- agreeing with the folder -----------------------------------------------------------------------------------

    def _prepare(self, page: Page) -> None:
        """Agrees with the folder, and where the page is cut by what threads' files say, with these."""
        with self._lock:
            self._agree_now()
        if page.owner is not None or page.family is not None or not page.branches:
            self._find_facts()

    def _agree_now(self) -> None:
        try:
            db = self._file.current()
            if not self._agrees(db):
                self._refresh(db)
            self._try_again(db)
        except sqlite3.Error as error:
            self._refresh(self._file.start_over(error))

    def _find_facts(self) -> None:
        """Reads those that are not known, and keeps nobody waiting meanwhile: they may be all that there are."""
        query = (
            "SELECT created, id FROM threads WHERE owner IS NULL AND (created, id) > (?, ?) "
            "ORDER BY created, id LIMIT ?"
        )
        last: _Values = (-1, "")
        while rows := self._rows(query, (*last, _READ_AT_ONCE)):
            read = ((name, self._facts_of(name)) for _, name in rows)
            found = [(facts.owner or "", facts.root, name) for name, facts in read if facts is not None]
            # Unless somebody has said meanwhile what they are now.
            self._write("UPDATE threads SET owner = ?, root = ? WHERE id = ? AND owner IS NULL", found)
            last = rows[-1]

    def _write(self, statement: str, values: Sequence[_Values]) -> None:
        """In one step. What is known of a thread stands in its file: that this cannot be written is no failure."""
        if not values:
            return
        with self._lock:
            db: sqlite3.Connection | None = None
            try:
                db = self._file.current()
                self._lock_file(db)
                db.executemany(statement, values)
            except (sqlite3.Error, StoreBusyError) as error:
                log.warning("the index of threads cannot be written: %s", error)
                self._end(db, "ROLLBACK")
            else:
                self._end(db, "COMMIT")

    def _agrees(self, db: sqlite3.Connection) -> bool:
        row = db.execute("SELECT inode, changed, links, checked FROM agreed").fetchone()
        now = time.time_ns()
        return row is not None and row[:3] == self._folder() and row[3] <= now < row[3] + _TRUSTED_FOR

    def _folder(self) -> _Folder:
        try:
            about = self._root.stat()
        except FileNotFoundError:
            return 0, 0, 0
        return about.st_ino, about.st_mtime_ns, about.st_nlink

    def _try_again(self, db: sqlite3.Connection) -> None:
        """Gives a place to what could not be read before and now can."""
        unread = [row[0] for row in db.execute("SELECT id FROM unread")]
        found = [(name, created) for name in unread if (created := self._time_of(name)) is not None]
        for name, created in found:
            # Unless another process, which removed it meanwhile, has taken it out.
            db.execute(
                "INSERT OR REPLACE INTO threads SELECT id, ?, NULL, NULL FROM unread WHERE id = ?", (created, name)
            )
            db.execute("DELETE FROM unread WHERE id = ?", (name,))

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
        new = {name: self._created(name) for name in there - known}
        placed = ((name, created) for name, created in new.items() if created is not None)
        db.executemany("INSERT INTO threads VALUES (?, ?, NULL, NULL)", placed)
        db.execute("DELETE FROM unread")
        db.executemany("INSERT INTO unread VALUES (?)", ((name,) for name, created in new.items() if created is None))
        # Read too soon after a change: another in the same tick would not show. Agree on nothing then, and look again.
        self._agree(db, _NOTHING if folder[1] > started - _RACY else folder)

    def _scan(self) -> Iterator[str]:
        try:
            with os.scandir(self._root) as entries:
                for entry in entries:
                    # What is called like a route of the API could be listed, but not be asked for.
                    if ids.is_id(entry.name) and entry.name not in ids.ROUTES and entry.is_dir(follow_symlinks=False):
                        yield entry.name
        except FileNotFoundError:
            return

    def _created(self, name: str) -> int | None:
        own = ids.time_of(name) if name.startswith(ids.THREAD) else None
        return self._time_of(name) if own is None else own

    def _agree(self, db: sqlite3.Connection, folder: _Folder) -> None:
        db.execute("DELETE FROM agreed")
        db.execute("INSERT INTO agreed VALUES (?, ?, ?, ?)", (*folder, time.time_ns()))

    @contextlib.contextmanager
    def _changing(self, *statements: tuple[str, _Values]) -> Iterator[None]:
        """The block, and then the statements (with their values) if the block succeeded.

        A thread is never refused because of its index: where that cannot be written, or where another program may have
        changed the folder, too, the two don't agree any more, and the next listing reads the names again.
        """
        with self._lock:
            db, before = self._begin()
            try:
                yield
            except BaseException:
                self._end(db, "ROLLBACK")
                raise
            try:
                if db is not None:
                    for statement, values in statements:
                        db.execute(statement, values)
                    after = self._folder()
                    self._agree(db, after if before is not None and _is_one_step(before, after) else _NOTHING)
            except sqlite3.Error as error:
                log.warning("the index of threads cannot be written: %s", error)
                self._end(db, "ROLLBACK")
            else:
                self._end(db, "COMMIT")

    def _begin(self) -> tuple[sqlite3.Connection | None, _Folder | None]:
        """The index, locked, and how the folder is if the two agree."""
        try:
            db = self._file.current()
            self._lock_file(db)
            folder = self._folder()
            return db, folder if self._agrees(db) else None
        except sqlite3.Error as error:
            log.warning("the index of threads cannot be written: %s", error)
            return None, None

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


def _wanted(page: Page) -> tuple[str, _Values]:
    """The condition of a query for the threads that the page is cut from, and what it is asked with."""
    where, values = _owned_by(page.owner)
    if page.family is not None:
        where += " AND id IN (SELECT ? UNION ALL SELECT id FROM threads WHERE root = ?)"
        values += page.family, page.family
    if not page.branches:
        first, its = _standing("threads.root", page.owner)
        where += f" AND (root IS NULL OR NOT EXISTS ({first}))"
        values += its
    return where, values


def _standing(root: str, owner: str | None) -> tuple[str, _Values]:
    """A query for the thread ``root`` if it stands for its branches, and what it is asked with.

    Only what is itself in the list does: so that none of a family is ever out of sight.
    """
    where, values = _owned_by(owner, "first.")
    known = "first.root IS NULL AND first.owner IS NOT NULL"
    return f"SELECT 1 FROM threads AS first WHERE first.id = {root} AND {known} AND {where}", values  # noqa: S608


def _owned_by(owner: str | None, table: str = "") -> tuple[str, _Values]:
    return ("TRUE", ()) if owner is None else (f"{table}owner = ?", (owner,))


def _is_one_step(before: _Folder, after: _Folder) -> bool:
    """Whether our step was the folder's only change since the two agreed, as far as that can be told.

    Many file systems count a folder's folders as links. With others, one that changed just before our step may have
    done so twice within the clock's same tick, of which we know the first only.
    """
    if abs(after[2] - before[2]) == 1:
        return True
    return after[2] == before[2] and before[1] < time.time_ns() - _RACY
