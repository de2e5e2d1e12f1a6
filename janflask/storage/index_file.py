"""A SQLite file of which nothing would be missed: made anew where it is broken, in memory where none can be written."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from janflask.files.wal import use_wal

log = logging.getLogger(__name__)


class IndexFile:
    """``schema`` makes the tables and sets ``version``; ``timeout`` is how many seconds a lock is waited for.

    Not thread-safe.
    """

    def __init__(self, file: Path, schema: str, version: int, timeout: float) -> None:
        self._file = file
        self._schema = schema
        self._version = version
        self._timeout = timeout
        self._db: sqlite3.Connection | None = None
        self._owner = 0  # the process that opened it
        self._inode: int | None = None  # of the file that it is to; None: in memory
        self._inherited: list[sqlite3.Connection | None] = []

    def connect(self) -> sqlite3.Connection:
        """This process's connection."""
        if self._db is None or self._owner != os.getpid():
            self._inherited.append(self._db)  # neither used nor closed in a forked child: SQLite forbids both
            self._db, self._owner = self._open(), os.getpid()
        return self._db

    def current(self) -> sqlite3.Connection:
        """The same, to the file that is there now: another process may have started over, or somebody deleted it."""
        db = self.connect()
        if self._inode is None or self._inode == self._inode_now():
            return db
        self._inherited.append(db)  # not closed: it would remove what lies beside the new file
        self._db = self._open()
        return self._db

    def start_over(self, error: Exception) -> sqlite3.Connection:
        """A connection to a new file, because of ``error``."""
        log.warning("the index %s is made anew: %s", self._file, error)
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._file}{suffix}").unlink(missing_ok=True)
            self._db = self._opened(str(self._file))
        except (sqlite3.Error, OSError) as second:
            log.warning("the index %s is kept in memory: %s", self._file, second)
            self._db = self._opened(":memory:")
        self._owner = os.getpid()
        return self._db

    def _inode_now(self) -> int:
        try:
            return self._file.stat().st_ino
        except OSError:
            return 0

    def _open(self) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return self._opened(str(self._file))
        except (sqlite3.Error, OSError) as error:
            return self.start_over(error)

    def _opened(self, name: str) -> sqlite3.Connection:
        before = self._inode_now()  # if the file is another behind this, it is opened once more
        db = sqlite3.connect(name, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            use_wal(db, self._timeout)
            db.execute("PRAGMA synchronous = OFF")  # what a power cut breaks is made again
            db.execute("PRAGMA cache_size = -1024")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, self._version):
                raise sqlite3.DatabaseError(f"it has version {version}, not {self._version}")
            db.executescript(self._schema)
        except BaseException:
            db.close()
            raise
        self._inode = None if name == ":memory:" else before or self._inode_now()
        return db
