"""Processes that write to a store beside the test's own: ``python -m tests.integration.store_writers WHAT DIR ...``.

They say what they have done, a word a line on standard output, and go on when a line comes on standard input.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from janflask.storage import open_repository
from janflask.storage.records import Thread
from tests.integration.store_records import content, new_message, settings

THREADS = 8
LOCK_TIMEOUT = 60.0  # seconds: here nobody is to be turned away


def say(word: str) -> None:
    print(word, flush=True)


def append_many(data_dir: Path, process: str, count: int, *thread_ids: str) -> None:
    """``THREADS`` threads append ``count`` messages each, in turn to each of the threads ``thread_ids``."""
    repository = open_repository(settings(data_dir, lock_timeout=LOCK_TIMEOUT))

    def work(number: int) -> None:
        for index in range(count):
            thread_id = thread_ids[(index + number) % len(thread_ids)]
            label = f"{process}-{number}-{index}"
            message = new_message(
                thread_id, content(label, 150), metadata={"writer": f"{process}-{number}", "n": index}
            )
            repository.threads.append(thread_id, [message])

    say("ready")
    sys.stdin.readline()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    say("done")


def hold_lock(data_dir: Path, thread_id: str) -> None:
    """Stays in the middle of a change of a thread until it is told to go on."""

    def change(thread: Thread) -> Thread:
        say("holding")
        sys.stdin.readline()
        return thread

    open_repository(settings(data_dir)).threads.update(thread_id, change)
    say("done")


def hang_in_sync(data_dir: Path, thread_id: str) -> None:
    """Appends a message whose way to the disk takes until it is told to go on."""
    repository = open_repository(settings(data_dir))
    once = threading.Lock()

    def slow(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            if once.acquire(blocking=False):
                say("syncing")
                sys.stdin.readline()
            real(fd)

        return sync

    with mock.patch.multiple(os, fsync=slow(os.fsync), fdatasync=slow(os.fdatasync)):
        repository.threads.append(thread_id, [new_message(thread_id, content("slow", 100), "slow")])
    say("done")


def keep_reading(data_dir: Path, thread_id: str) -> None:
    """Reads a thread's messages over and over until it is told to stop; says how often, or what was not in order."""
    repository = open_repository(settings(data_dir))
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    before: list[str] = []
    count = 0
    while not stop.is_set():
        names = [message.id for message in repository.threads.all_messages(thread_id)]
        if names[: len(before)] != before:
            raise ValueError("messages that were there are gone or moved")
        before = names
        count += 1
    say(str(count))


if __name__ == "__main__":
    what, folder, *given = sys.argv[1:]
    if what == "append_many":
        append_many(Path(folder), given[0], int(given[1]), *given[2:])
    else:
        {"hold_lock": hold_lock, "hang_in_sync": hang_in_sync, "keep_reading": keep_reading}[what](Path(folder), *given)
