"""Two processes open a new SQLite file at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from janflask.files.wal import use_wal

LIMIT = 20.0  # seconds; nothing takes so long unless something is wrong


@pytest.fixture
def written(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A new file that somebody writes."""
    with closing(_connect(tmp_path / "file")) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=LIMIT, isolation_level=None, check_same_thread=False)


def test_the_second_waits_for_the_first(written: sqlite3.Connection, tmp_path: Path) -> None:
    release = threading.Timer(0.1, written.execute, ["COMMIT"])
    with closing(_connect(tmp_path / "file")) as db:
        release.start()
        use_wal(db, LIMIT)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    release.join()


def test_but_not_for_ever(written: sqlite3.Connection, tmp_path: Path) -> None:
    with closing(_connect(tmp_path / "file")) as db, pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(db, 0.05)
    assert written.in_transaction
