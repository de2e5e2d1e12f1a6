"""Many writers at once, in threads and in processes: nothing is lost, nobody hangs, and readers never wait for them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from janflask.errors import StoreBusyError
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from tests.integration.store_records import content, is_whole, new_message, new_thread, settings
from tests.integration.store_writers import THREADS

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
MESSAGES = 20_000
EACH = MESSAGES // PROCESSES // THREADS


class Writer:
    """One of the programs in ``store_writers``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def writer(*arguments: object) -> Iterator[Writer]:
    command = [sys.executable, "-m", "tests.integration.store_writers", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writer(process)
            assert process.wait() == 0
        finally:
            process.kill()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def repository(data: Path) -> Repository:
    return open_repository(settings(data, lock_timeout=0.2))


def test_twenty_thousand_messages_from_many_writers(data: Path, repository: Repository) -> None:
    names = [repository.threads.create(new_thread(f"thread {number}")).id for number in range(3)]
    with writer("keep_reading", data, names[0]) as reader:
        writers = [writer("append_many", data, process, EACH, *names) for process in range(PROCESSES)]
        with writers[0] as a, writers[1] as b, writers[2] as c, writers[3] as d:
            for each in a, b, c, d:
                assert each.hears() == "ready"
            for each in a, b, c, d:
                each.go_on()
            for each in a, b, c, d:
                assert each.hears() == "done"
        reader.go_on()
        assert int(reader.hears()) > 0
    total = 0
    for name in names:
        messages = list(repository.threads.all_messages(name))
        assert len({message.id for message in messages}) == len(messages)
        assert all(is_whole(message.text) for message in messages)
        total += len(messages)
        by_writer = defaultdict(list)
        for message in messages:
            by_writer[message.metadata["writer"]].append(message.metadata["n"])
        assert len(by_writer) == PROCESSES * THREADS
        for numbers in by_writer.values():
            assert numbers == sorted(numbers)
            assert len(set(numbers)) == len(numbers)
    assert total == MESSAGES


def test_threads_of_one_process_append_to_one_thread(repository: Repository) -> None:
    name = repository.threads.create(new_thread()).id

    def work(number: int) -> None:
        for index in range(50):
            repository.threads.append(name, [new_message(name, content("m", 90), f"{number}-{index}")])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = repository.threads.message_ids(name)
    assert sorted(found) == sorted(f"{number}-{index}" for number in range(THREADS) for index in range(50))
    for number in range(THREADS):
        assert [x for x in found if x.startswith(f"{number}-")] == [f"{number}-{index}" for index in range(50)]


def test_a_lock_that_another_process_holds(data: Path, repository: Repository) -> None:
    name = repository.threads.create(new_thread("title"), [new_message("t", content("m", 90), "m")]).id
    other = repository.threads.create(new_thread()).id
    with writer("hold_lock", data, name) as holder:
        assert holder.hears() == "holding"
        changes = {
            "append": lambda: repository.threads.append(name, [new_message(name, "late")]),
            "update": lambda: repository.threads.update(name, lambda thread: thread),
            "delete": lambda: repository.threads.delete(name),
            "update a message": lambda: repository.threads.update_message(name, "m", lambda message: message),
            "delete a message": lambda: repository.threads.delete_message(name, "m"),
        }
        for what, change in changes.items():
            with pytest.raises(StoreBusyError) as caught:
                change()
            assert caught.value.status == 503, what
        assert list(repository.threads.message_ids(name)) == ["m"], "reading needs no lock"
        assert repository.threads.get(name).title == "title"
        repository.threads.append(other, [new_message(other, "elsewhere")])
        holder.go_on()
        assert holder.hears() == "done"
    repository.threads.append(name, [new_message(name, "now", "n")])
    assert list(repository.threads.message_ids(name)) == ["m", "n"]


def test_a_lock_ends_with_the_process_that_holds_it(data: Path, repository: Repository) -> None:
    name = repository.threads.create(new_thread()).id
    command = [sys.executable, "-m", "tests.integration.store_writers", "hold_lock", str(data), name]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert Writer(process).hears() == "holding"
        process.kill()
        process.wait()
    repository.threads.append(name, [new_message(name, "next", "n")])
    assert list(repository.threads.message_ids(name)) == ["n"]


def test_readers_do_not_wait_for_a_writer_in_fsync(data: Path, repository: Repository) -> None:
    name = repository.threads.create(new_thread("needle"), [new_message("t", content("m", 90), "m")]).id
    other = repository.threads.create(new_thread()).id
    with writer("hang_in_sync", data, name) as slow:
        assert slow.hears() == "syncing"
        assert repository.threads.get(name).title == "needle"
        assert repository.threads.count() == 2
        assert [thread.id for thread in repository.threads.list(Page()).items] == [other, name]
        assert repository.threads.get_message(name, "m").text == content("m", 90)
        # What is on its way may be seen or not; what is seen is whole.
        for seen in (
            [message.id for message in repository.threads.all_messages(name)],
            [message.id for message in repository.threads.list_messages(name, Page(order="asc")).items],
            list(repository.threads.message_ids(name)),
        ):
            assert seen in (["m"], ["m", "slow"])
        assert [thread.id for thread in repository.threads.search("needle", Page()).items] == [name]
        fresh = open_repository(settings(data))
        assert {thread.id for thread in fresh.threads.list(Page()).items} == {name, other}
        repository.threads.append(other, [new_message(other, "another thread's writer does not wait either")])
        with pytest.raises(StoreBusyError):
            repository.threads.append(name, [new_message(name, "too early")])
        slow.go_on()
        assert slow.hears() == "done"
    assert list(repository.threads.message_ids(name)) == ["m", "slow"]
