"""The spool: events that were not delivered yet, in a SQLite file that every process of the server writes.

``events`` are in the order in which the changes were made that they tell of. One whose change is being made names its
``writer``, and ``NOBODY`` where that could not say what became of it; then it is certain, and ``writer`` is NULL. From
there the deliverer hands it out, a row of ``deliveries`` for each endpoint (``queue``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from janflask.errors import JanflaskError, StorageFullError, StoreBusyError, StoreDamagedError, UnavailableError
from janflask.files import ids
from janflask.files.disk import FOLDER_MODE, translated
from janflask.files.wal import use_wal
from janflask.webhooks.events import EVENT, Event

NAME = "spool.sqlite"
NOBODY = ""
_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, type TEXT NOT NULL, about TEXT NOT NULL, data TEXT NOT NULL,
  made INTEGER NOT NULL, writer TEXT);
CREATE INDEX IF NOT EXISTS events_about ON events (about, seq);
CREATE INDEX IF NOT EXISTS events_in_doubt ON events (writer, about, seq) WHERE writer IS NOT NULL;
CREATE TABLE IF NOT EXISTS deliveries (
  endpoint TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, about TEXT NOT NULL,
  data TEXT NOT NULL, made INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due INTEGER, dead INTEGER,
  problem TEXT NOT NULL DEFAULT '', unheard INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (endpoint, seq));
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (endpoint, due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_about ON deliveries (endpoint, about, seq) WHERE dead IS NULL;
CREATE INDEX IF NOT EXISTS deliveries_dead ON deliveries (endpoint, dead) WHERE dead IS NOT NULL;
CREATE INDEX IF NOT EXISTS deliveries_id ON deliveries (id);
CREATE TABLE IF NOT EXISTS totals (
  endpoint TEXT NOT NULL, outcome TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (endpoint, outcome));
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class Spool:
    """The file in ``folder``, opened when it is needed. Thread-safe, and safe among processes.

    Args:
        durable: what ``begin`` writes survives a power cut.
        timeout: seconds that a lock is waited for.

    Every method raises StoreBusyError, StorageFullError, UnavailableError and StoreDamagedError.
    """

    def __init__(self, folder: Path, *, durable: bool, timeout: float) -> None:
        self.file = folder / NAME
        self._durable = durable
        self._timeout = timeout
        self._lock = threading.Lock()  # guards what follows
        self._db: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened it
        self._inherited: list[sqlite3.Connection] = []

    # --- what is about to be told -----------------------------------------------------------------------------------

    def begin(self, events: Sequence[Event], writer: str | None) -> list[int]:
        """The events, whose changes ``writer`` is about to make, or, without one, has made; their numbers."""
        now = ids.now_ms()
        with self.transaction(durable=self._durable) as db:
            return [
                int(
                    db.execute(
                        "INSERT INTO events (id, type, about, data, made, writer) VALUES (?, ?, ?, ?, ?, ?)",
                        (ids.new_id(EVENT), event.type, event.about, _text(event), now, writer),
                    ).lastrowid
                    or 0
                )
                for event in events
            ]

    def confirm(self, numbers: Iterable[int]) -> None:
        """The changes were made."""
        self._mark(numbers, None)

    def doubt(self, numbers: Iterable[int]) -> None:
        """They were made or not: whoever delivers has to look."""
        self._mark(numbers, NOBODY)

    def withdraw(self, numbers: Iterable[int]) -> None:
        """They were not made."""
        with self.transaction() as db:
            db.executemany("DELETE FROM events WHERE seq = ?", [(number,) for number in numbers])

    def _mark(self, numbers: Iterable[int], writer: str | None) -> None:
        with self.transaction() as db:
            # One that whoever delivers has taken for certain meanwhile is gone.
            db.executemany("UPDATE events SET writer = ? WHERE seq = ?", [(writer, number) for number in numbers])

    # --- the file ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """The connection, while nobody else writes. ``durable``: what was written survives a power cut."""
        with self._lock, self._told():
            db = self._connect()
            # Without it a commit survives the end of any process, and a power cut may take the last ones, in order.
            db.execute("PRAGMA synchronous = " + ("FULL" if durable else "NORMAL"))
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has ended it already
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, to read."""
        with self._lock, self._told():
            yield self._connect()

    def check(self) -> None:
        """Reads all of it, if it is there."""
        if not self.file.exists():
            return
        with self.reading() as db:
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            if found != "ok":
                raise sqlite3.DatabaseError(" ".join(found.split()))

    def close(self) -> None:
        """Lets go of the file; it is opened again if it is needed."""
        with self._lock:
            if self._db is not None and self._owner == os.getpid():
                self._db.close()
                self._db = None

    def _connect(self) -> sqlite3.Connection:
        if self._db is not None and self._owner != os.getpid():
            self._inherited.append(self._db)  # neither used nor closed in a forked child: SQLite forbids both
            self._db = None
        if self._db is None:
            with translated("the webhooks' spool"):
                self.file.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._db, self._owner = self._opened(), os.getpid()
        return self._db

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                use_wal(db, self._timeout)
                db.executescript(_SCHEMA)
            elif version != _VERSION:
                raise StoreDamagedError(f"{self.file} is of version {version}, and this janflask knows {_VERSION}")
            db.execute("PRAGMA cache_size = -1024")
        except BaseException:
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> JanflaskError:
        match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreBusyError(
                    f"the webhooks' spool is locked for more than {self._timeout:g} s; try again", retry_after=1
                )
            case sqlite3.SQLITE_FULL:
                return StorageFullError(
                    "the event could not be stored that webhooks are to tell, since the disk or a quota is full: "
                    "make room and try again"
                )
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY:
                return UnavailableError(f"{self.file} cannot be written now ({error}); see to its disk", retry_after=1)
        return StoreDamagedError(
            f"{self.file}, which keeps events for webhooks, cannot be used ({error}): move it and the files beside it "
            "away, and look after what is not delivered yet by hand"
        )


def _text(event: Event) -> str:
    return msgspec.json.encode(event.data).decode()
