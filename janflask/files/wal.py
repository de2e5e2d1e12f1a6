"""SQLite's write-ahead log, in which readers and a writer do not wait for each other."""

from __future__ import annotations

import sqlite3
import time

_PAUSE = 0.005  # seconds


def use_wal(db: sqlite3.Connection, timeout: float) -> None:
    """Sees to it that the file of ``db`` has a write-ahead log, now and from then on.

    SQLite's own timeout does not hold for that: while another process writes a file that has none yet, which is so when
    both open a new one, it is refused at once.

    Args:
        timeout: seconds to try.

    Raises:
        sqlite3.OperationalError: the file is locked for longer.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return
