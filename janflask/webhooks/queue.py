"""What is to be delivered to whom, and when: the spool as whoever delivers sees it.

Of the events about one object only the first has a time at which it is ``due`` at an endpoint; the next gets one when
that is delivered, or given up. So they arrive in order, and a long queue costs no more than a short one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from janflask.decoding import json_decoder
from janflask.files import ids
from janflask.webhooks.endpoints import Endpoint
from janflask.webhooks.spool import Spool

BATCH = 500  # events handed out in one step
MAX_WAITING = 100_000  # deliveries to an endpoint that wait; the oldest are given up above it
MAX_DEAD = 100_000  # dead letters of an endpoint; the oldest are forgotten above it
FREED = 2_000  # pages of the file that are given back in one step
KEEP_DEAD_MS = 30 * 86_400_000

_COLUMNS = "endpoint, seq, id, type, about, data, made, tries, dead, problem"


@dataclass(frozen=True, slots=True)
class Doubt:
    """An event of which nobody knows whether its change was made.

    ``is_last``: nobody but its writer is known to have changed the object later.
    """

    number: int
    type: str
    about: str
    data: Mapping[str, str]
    writer: str
    made_ms: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint; ``dead`` is when it was given up, in milliseconds."""

    endpoint: str
    number: int
    id: str
    type: str
    about: str
    data: Mapping[str, str]
    made_ms: int
    tries: int
    dead_ms: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Of an endpoint: deliveries that wait, dead letters, and how its tries ended so far, by ``delivered`` and so."""

    waiting: int
    dead: int
    outcomes: Mapping[str, int]


class Queue:
    """All methods are for any thread, and raise what ``Spool``'s do."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    # --- events -----------------------------------------------------------------------------------------------------

    def doubts(self) -> list[Doubt]:
        """The events whose changes are being made, or were not finished by those who made them."""
        query = (
            "SELECT seq, type, about, data, writer, made, NOT EXISTS "
            "(SELECT 1 FROM events AS later WHERE later.about = events.about AND later.seq > events.seq "
            "AND later.writer IS NOT events.writer) "
            "FROM events WHERE writer IS NOT NULL ORDER BY seq"
        )
        with self._spool.reading() as db:
            rows = db.execute(query).fetchall()
        return [
            Doubt(number, type, about, _data(data), writer, made, bool(is_last))
            for number, type, about, data, writer, made, is_last in rows
        ]

    def decide(self, number: int, made: bool) -> None:
        """What became of an event in doubt."""
        if made:
            self._spool.confirm([number])
        else:
            self._spool.withdraw([number])

    def hand_out(self, endpoints: Iterable[Endpoint]) -> int:
        """Makes deliveries of events that are certain, as long as no earlier one about the same object is not.

        How many events there were; there may be more than ``BATCH``.
        """
        query = (
            "SELECT seq, id, type, about, data, made FROM events WHERE writer IS NULL AND NOT EXISTS (SELECT 1 FROM "
            "events AS doubt WHERE doubt.writer IS NOT NULL AND doubt.about = events.about AND doubt.seq < events.seq) "
            "ORDER BY seq LIMIT ?"
        )
        if not self._has_events():
            return 0
        endpoints = list(endpoints)
        with self._spool.transaction() as db:
            rows = db.execute(query, (BATCH,)).fetchall()
            for row in rows:
                for endpoint in endpoints:
                    if endpoint.wants(row[2]):
                        _queue(db, endpoint.id, row)
            db.executemany("DELETE FROM events WHERE seq = ?", [row[:1] for row in rows])
        return len(rows)

    def _has_events(self) -> bool:
        with self._spool.reading() as db:
            return db.execute("SELECT 1 FROM events WHERE writer IS NULL LIMIT 1").fetchone() is not None

    # --- deliveries -------------------------------------------------------------------------------------------------

    def due(self, endpoint: str, most: int) -> list[Delivery]:
        """Those whose time has come, the longest due first."""
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE endpoint = ? AND due <= ? ORDER BY due, seq LIMIT ?"  # noqa: S608
        with self._spool.reading() as db:
            return [_delivery(row) for row in db.execute(query, (endpoint, ids.now_ms(), most))]

    def delivered(self, delivery: Delivery) -> None:
        """It has arrived: the object's next is due."""
        with self._spool.transaction() as db:
            db.execute("DELETE FROM deliveries WHERE endpoint = ? AND seq = ?", (delivery.endpoint, delivery.number))
            _count(db, delivery.endpoint, "delivered")
            _promote(db, delivery.endpoint, delivery.about)

    def failed(self, delivery: Delivery, problem: str, pause: float, unheard: bool = False) -> None:
        """It is tried again in ``pause`` seconds. ``unheard``: its receiver was not there."""
        due = ids.now_ms() + int(pause * 1000)
        change = "tries = tries + 1, due = ?, problem = ?, unheard = ?"
        with self._spool.transaction() as db:
            db.execute(
                f"UPDATE deliveries SET {change} WHERE endpoint = ? AND seq = ?",  # noqa: S608
                (due, problem, unheard, delivery.endpoint, delivery.number),
            )
            _count(db, delivery.endpoint, "failed")

    def hasten(self, endpoint: str) -> None:
        """The endpoint is there again: what it did not hear is due now."""
        now = ids.now_ms()
        with self._spool.transaction() as db:
            db.execute("UPDATE deliveries SET due = ? WHERE endpoint = ? AND due > ? AND unheard", (now, endpoint, now))

    def bury(self, delivery: Delivery, problem: str) -> None:
        """It failed for the last time: it is a dead letter, and the object's next is due."""
        with self._spool.transaction() as db:
            _bury(db, delivery.endpoint, [(delivery.number, delivery.about)], problem, tries=1)
            _count(db, delivery.endpoint, "failed")

    def bury_all(self, endpoint: str, problem: str) -> None:
        """All that waits for the endpoint becomes dead letters."""
        with self._spool.transaction() as db:
            done = db.execute(
                "UPDATE deliveries SET dead = ?, due = NULL, problem = ? WHERE endpoint = ? AND dead IS NULL",
                (ids.now_ms(), problem, endpoint),
            ).rowcount
            _count(db, endpoint, "dead", done)

    def trim(self, endpoint: str) -> tuple[int, int]:
        """What is too much for an endpoint: how many deliveries were given up, and how many dead letters forgotten."""
        counts = self.counts(endpoint)
        over = "SELECT seq, about FROM deliveries WHERE endpoint = ? AND dead IS NULL ORDER BY seq LIMIT ?"
        forget = (
            "DELETE FROM deliveries WHERE endpoint = ? AND dead IS NOT NULL AND (dead < ? OR seq IN (SELECT seq FROM "
            "deliveries WHERE endpoint = ? AND dead IS NOT NULL ORDER BY dead LIMIT ?))"
        )
        with self._spool.transaction() as db:
            gone: list[tuple[int, str]] = []
            if counts.waiting > MAX_WAITING:
                gone = db.execute(over, (endpoint, counts.waiting - MAX_WAITING)).fetchall()
                _bury(db, endpoint, gone, f"more than {MAX_WAITING} events waited for this endpoint")
            too_many = max(0, counts.dead + len(gone) - MAX_DEAD)
            forgotten = db.execute(forget, (endpoint, ids.now_ms() - KEEP_DEAD_MS, endpoint, too_many)).rowcount
        with self._spool.reading() as db:
            # By `execute` it would give back one page: it steps once where a statement has no columns.
            db.executescript(f"PRAGMA incremental_vacuum({FREED})")
        return len(gone), forgotten

    # --- dead letters -----------------------------------------------------------------------------------------------

    def dead(self, most: int, endpoint: str | None = None) -> list[Delivery]:
        """Dead letters, the newest first; with ``endpoint`` those to it."""
        query = (
            f"SELECT {_COLUMNS} FROM deliveries WHERE dead IS NOT NULL AND ? IN ('', endpoint) "  # noqa: S608
            "ORDER BY dead DESC, seq DESC LIMIT ?"
        )
        with self._spool.reading() as db:
            return [_delivery(row) for row in db.execute(query, (endpoint or "", most))]

    def redeliver(self, endpoints: Sequence[str], event_ids: Sequence[str] | None) -> int:
        """Dead letters to these endpoints are due again, all or those of some events; how many."""
        now = ids.now_ms()
        raised = "UPDATE deliveries SET dead = NULL, due = ?, tries = 0 WHERE endpoint = ? AND dead IS NOT NULL"
        with self._spool.transaction() as db:
            if event_ids is None:
                return sum(db.execute(raised, (now, endpoint)).rowcount for endpoint in endpoints)
            return sum(
                db.execute(f"{raised} AND id = ?", (now, endpoint, event_id)).rowcount
                for endpoint in endpoints
                for event_id in event_ids
            )

    # --- endpoints --------------------------------------------------------------------------------------------------

    def counts(self, endpoint: str) -> Counts:
        """How it stands with one."""
        waiting = "SELECT count(*) FROM deliveries WHERE endpoint = ? AND dead IS NULL"
        dead = "SELECT count(*) FROM deliveries WHERE endpoint = ? AND dead IS NOT NULL"
        with self._spool.reading() as db:
            outcomes = dict(db.execute("SELECT outcome, number FROM totals WHERE endpoint = ?", (endpoint,)).fetchall())
            return Counts(
                db.execute(waiting, (endpoint,)).fetchone()[0], db.execute(dead, (endpoint,)).fetchone()[0], outcomes
            )

    def forget_others(self, known: Iterable[str]) -> None:
        """What was for endpoints that are no more is gone."""
        with self._spool.reading() as db:
            found = {row[0] for row in db.execute("SELECT endpoint FROM totals UNION SELECT endpoint FROM deliveries")}
        gone = [(endpoint,) for endpoint in found.difference(known)]
        if gone:
            with self._spool.transaction() as db:
                db.executemany("DELETE FROM deliveries WHERE endpoint = ?", gone)
                db.executemany("DELETE FROM totals WHERE endpoint = ?", gone)


Row = tuple[Any, ...]


def _queue(db: sqlite3.Connection, endpoint: str, row: Row) -> None:
    query = "SELECT 1 FROM deliveries WHERE endpoint = ? AND about = ? AND dead IS NULL LIMIT 1"
    is_behind = db.execute(query, (endpoint, row[3])).fetchone() is not None
    db.execute(
        "INSERT INTO deliveries (endpoint, seq, id, type, about, data, made, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (endpoint, *row, None if is_behind else ids.now_ms()),
    )


def _promote(db: sqlite3.Connection, endpoint: str, about: str) -> None:
    first = "SELECT min(seq) FROM deliveries WHERE endpoint = ? AND about = ? AND dead IS NULL"
    db.execute(
        f"UPDATE deliveries SET due = ? WHERE endpoint = ? AND due IS NULL AND seq = ({first})",  # noqa: S608
        (ids.now_ms(), endpoint, endpoint, about),
    )


def _bury(
    db: sqlite3.Connection, endpoint: str, letters: Sequence[tuple[int, str]], problem: str, tries: int = 0
) -> None:
    for seq, about in letters:
        db.execute(
            "UPDATE deliveries SET dead = ?, due = NULL, problem = ?, tries = tries + ? WHERE endpoint = ? AND seq = ?",
            (ids.now_ms(), problem, tries, endpoint, seq),
        )
        _promote(db, endpoint, about)
    _count(db, endpoint, "dead", len(letters))


def _count(db: sqlite3.Connection, endpoint: str, outcome: str, number: int = 1) -> None:
    if number:
        db.execute(
            "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number",
            (endpoint, outcome, number),
        )


_data: Callable[[str], dict[str, str]] = json_decoder(dict[str, str]).decode


def _delivery(row: Row) -> Delivery:
    endpoint, number, event_id, type, about, data, made, tries, dead, problem = row
    return Delivery(endpoint, number, event_id, type, about, _data(data), made, tries, dead, problem)
