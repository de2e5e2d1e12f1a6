"""The spool: what a change tells, and what is due to whom."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from janflask.errors import ConflictError, StorageFullError, StoreBusyError, StoreDamagedError
from janflask.settings import Settings
from janflask.webhooks import queue, signing
from janflask.webhooks.endpoints import Endpoint, EndpointFile, Secret
from janflask.webhooks.events import Event, of_message, of_thread
from janflask.webhooks.outbox import WRITERS, Outbox, is_gone
from janflask.webhooks.queue import Delivery, Queue
from janflask.webhooks.spool import Spool

ENDPOINT = Endpoint(
    id="we_1", url="https://example.com/", events=["*"], secrets=[Secret(signing.new_secret())], created=1
)
CREATED = of_thread("created", "t")


class World:
    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, durability="os", lock_timeout=0.2)
        self.file = EndpointFile(self.settings.secrets_dir)
        self.file.change(lambda known: known.with_one(ENDPOINT))
        self.outbox = Outbox(self.settings)
        self.spool = Spool(self.settings.webhooks_dir, durable=False, timeout=0.2)
        self.queue = Queue(self.spool)

    def rows(self) -> list[tuple[str, str | None]]:
        """Type and writer of each event."""
        with self.spool.reading() as db:
            return db.execute("SELECT type, writer FROM events ORDER BY seq").fetchall()

    def tell(self, *events: Event) -> None:
        for event in events:
            self.outbox.tell(event)
        self.queue.hand_out([ENDPOINT])

    def due(self, most: int = 100) -> list[Delivery]:
        return self.queue.due(ENDPOINT.id, most)

    def first(self) -> dict[str, Delivery]:
        """What is due about each object: one delivery at most."""
        due = self.due()
        found = {delivery.about: delivery for delivery in due}
        assert len(found) == len(due)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_event_is_there_before_its_change_and_certain_behind_it(world: World) -> None:
    with world.outbox.telling(CREATED):
        ((type, writer),) = world.rows()
        assert type == "thread.created"
        assert writer is not None
        assert not is_gone(world.settings.webhooks_dir, writer)
        assert world.queue.hand_out([ENDPOINT]) == 0
    assert world.rows() == [("thread.created", None)]


def test_a_change_that_was_refused_is_not_told(world: World) -> None:
    for error in (ConflictError("taken"), FileExistsError(), OSError(39, "not empty")):
        with pytest.raises(type(error)), world.outbox.telling(CREATED):
            raise error
    assert world.rows() == []


def test_of_a_change_that_failed_somebody_has_to_look(world: World) -> None:
    with pytest.raises(OSError, match="no room"), world.outbox.telling(CREATED):
        raise OSError(28, "no room")
    assert world.rows() == [("thread.created", "")]
    assert [(doubt.type, doubt.is_last) for doubt in world.queue.doubts()] == [("thread.created", True)]


def test_what_nobody_asked_for_is_not_kept(world: World) -> None:
    world.file.change(lambda known: known.without("we_1"))
    with world.outbox.telling(CREATED):
        pass
    world.outbox.tell(CREATED)
    assert not world.settings.webhooks_dir.exists()


def test_a_spool_that_cannot_be_written_refuses_the_change(world: World) -> None:
    world.outbox.tell(CREATED)
    with world.spool.transaction(), pytest.raises(StoreBusyError), world.outbox.telling(CREATED):
        pytest.fail("the change is not made")
    world.spool.close()
    for path in world.settings.webhooks_dir.glob("spool*"):
        path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreDamagedError, match="move it"), Outbox(world.settings).telling(CREATED):
        pytest.fail("the change is not made")


def test_a_full_disk_refuses_the_change(world: World) -> None:
    with world.spool.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    long = of_message("created", "t", "m" * 20_000)
    with pytest.raises(StorageFullError):
        world.spool.begin([long], None)
    assert world.rows() == []


def test_what_could_not_be_noted_is_noted_with_the_next(world: World) -> None:
    with world.outbox.telling(CREATED):
        blocking = sqlite3.connect(world.spool.file, isolation_level=None)
        blocking.execute("BEGIN IMMEDIATE")
    assert world.rows()[0][1] is not None
    blocking.execute("ROLLBACK")
    blocking.close()
    with world.outbox.telling(of_thread("updated", "t")):
        pass
    assert world.rows() == [("thread.created", None), ("thread.updated", None)]


def test_a_writer_is_gone_with_its_process(world: World) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with Outbox(world.settings).telling(CREATED):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    ((_, writer),) = world.rows()
    assert writer
    assert (world.settings.webhooks_dir / WRITERS / writer).exists()
    assert is_gone(world.settings.webhooks_dir, writer)


def test_one_at_a_time_makes_and_removes_what_others_may_name(world: World) -> None:
    entered, may_leave = threading.Event(), threading.Event()

    def hold() -> None:
        with world.outbox.telling(CREATED, alone=True):
            entered.set()
            may_leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    with pytest.raises(StoreBusyError), Outbox(world.settings).telling(of_thread("deleted", "t"), alone=True):
        pytest.fail("somebody else makes it")
    with Outbox(world.settings).telling(of_thread("deleted", "another"), alone=True):
        pass
    may_leave.set()
    thread.join()


def test_an_event_in_doubt_holds_up_what_comes_behind_it_about_the_same(world: World) -> None:
    world.spool.begin([CREATED], "w_other")
    world.tell(of_thread("updated", "t"), of_thread("created", "another"))
    assert [delivery.data["id"] for delivery in world.due()] == ["another"]
    (doubt,) = world.queue.doubts()
    assert not doubt.is_last
    world.queue.decide(doubt.number, True)
    world.queue.hand_out([ENDPOINT])
    assert [delivery.type for delivery in world.due()] == ["thread.created", "thread.created"]


def test_of_one_object_only_the_first_is_due(world: World) -> None:
    world.tell(CREATED, of_message("created", "t", "m"), of_thread("updated", "t"), of_thread("created", "another"))
    assert set(world.first()) == {"thread t", "thread another"}
    first, other = world.first()["thread t"], world.first()["thread another"]
    world.queue.failed(first, "it answered 500", 3600.0)
    assert world.due() == [other]
    world.queue.delivered(first)
    assert world.first()["thread t"].type == "thread.message.created"
    world.queue.bury(world.first()["thread t"], "it answered 500")
    assert world.first()["thread t"].type == "thread.updated"
    world.queue.delivered(world.first()["thread t"])
    world.queue.delivered(other)
    counts = world.queue.counts(ENDPOINT.id)
    assert (counts.waiting, counts.dead, counts.outcomes) == (0, 1, {"delivered": 3, "failed": 2, "dead": 1})


def test_a_dead_letter_is_due_again(world: World) -> None:
    world.tell(CREATED)
    (delivery,) = world.due()
    world.queue.bury(delivery, "why")
    assert world.due() == []
    assert world.queue.redeliver(["we_2"], None) == 0
    assert world.queue.redeliver(["we_1"], ["evt_other"]) == 0
    assert world.queue.redeliver(["we_1"], [delivery.id]) == 1
    assert [(again.id, again.tries) for again in world.due()] == [(delivery.id, 0)]


def test_what_is_too_much_is_given_up_oldest_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_WAITING", 3)
    monkeypatch.setattr(queue, "MAX_DEAD", 4)
    world.tell(*(of_thread("created", str(number)) for number in range(10)))
    assert world.queue.trim(ENDPOINT.id) == (7, 3)
    assert [delivery.data["id"] for delivery in world.due()] == ["7", "8", "9"]
    assert [letter.data["id"] for letter in world.queue.dead(9)] == ["6", "5", "4", "3"]
    assert world.queue.trim(ENDPOINT.id) == (0, 0)


def test_the_file_shrinks_after_a_flood(world: World) -> None:
    with world.outbox.telling(*(of_thread("created", str(number)) for number in range(3000))):
        pass
    while world.queue.hand_out([ENDPOINT]):
        pass
    with world.spool.reading() as db:
        before = db.execute("PRAGMA page_count").fetchone()[0]
    world.queue.forget_others([])
    world.queue.trim(ENDPOINT.id)
    with world.spool.reading() as db:
        assert db.execute("PRAGMA page_count").fetchone()[0] < before / 5


def test_what_was_for_an_endpoint_goes_with_it(world: World) -> None:
    world.tell(CREATED)
    world.queue.forget_others(["we_1"])
    assert len(world.due()) == 1
    world.queue.forget_others(["we_2"])
    assert world.due() == []


def test_a_spool_of_another_version_is_left_alone(world: World) -> None:
    world.tell(CREATED)
    with world.spool.reading() as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreDamagedError, match="version 9"):
        Outbox(world.settings).tell(CREATED)


def test_many_open_it_at_once(tmp_path: Path) -> None:
    """Each of them makes the tables, if it is the first."""
    settings = Settings(data_dir=tmp_path, durability="os")
    EndpointFile(settings.secrets_dir).change(lambda known: known.with_one(ENDPOINT))
    errors: list[Exception] = []
    barrier = threading.Barrier(8)

    def tell() -> None:
        outbox = Outbox(settings)
        barrier.wait()
        try:
            outbox.tell(CREATED)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Spool(settings.webhooks_dir, durable=False, timeout=5).reading() as db:
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 8
