"""Counts that outlive their processes: nothing is lost, nothing falls, and files do not pile up."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from janflask.metrics import shared_counts
from janflask.metrics.http_counts import HttpCounts, requests
from janflask.metrics.shared_counts import NOW, REST, ROWS, SharedCounts, read_all

ONE = (0, 1.0)
CHILD = """
import os, signal, sys
from pathlib import Path
from janflask.metrics.shared_counts import SharedCounts
counts = SharedCounts(Path(sys.argv[1]))
counts.add("http GET /x 200", (0, 0.5), (3, 1.0))
counts.add("now open", (0, 1.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def sums(folder: Path) -> dict[str, list[float]]:
    return read_all(folder)[0]


def die_counting(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(folder)], check=False)
    assert done.returncode == -9


def test_what_several_count_is_one_sum(tmp_path: Path) -> None:
    first, second = SharedCounts(tmp_path), SharedCounts(tmp_path)
    for counts in (first, second):
        counts.add("a", (0, 1.5), (15, 1.0))
    second.add("b", ONE)
    assert sums(tmp_path)["a"] == [3.0, *[0.0] * 14, 2.0]
    assert sums(tmp_path)["b"][0] == 1.0
    first.close()
    assert sums(tmp_path)["a"][0] == 3.0


def test_the_dead_are_counted_once_and_leave_one_file(tmp_path: Path) -> None:
    for _ in range(3):
        die_counting(tmp_path)
    assert sums(tmp_path)["http GET /x 200"][:4] == [1.5, 0.0, 0.0, 3.0]
    assert read_all(tmp_path)[1] == []
    alive = SharedCounts(tmp_path)
    alive.add("http GET /x 200", (0, 0.5), (3, 1.0))
    assert sums(tmp_path)["http GET /x 200"][:4] == [2.0, 0.0, 0.0, 4.0]
    assert "now open" not in sums(tmp_path), "what the dead had under way is not under way"
    assert len(list(tmp_path.iterdir())) == 3, "the lock, the dead, the living"
    assert len(read_all(tmp_path)[1]) == 1


def test_more_keys_than_rows(tmp_path: Path) -> None:
    counts = SharedCounts(tmp_path)
    for number in range(ROWS + 10):
        counts.add(f"key {number}", ONE)
    counts.add("x" * 500, ONE)
    found = sums(tmp_path)
    assert len(found) == ROWS
    assert sum(numbers[0] for numbers in found.values()) == ROWS + 11
    assert found[REST][0] == 12


def test_threads_lose_nothing(tmp_path: Path) -> None:
    counts = SharedCounts(tmp_path)

    def count() -> None:
        for _ in range(2000):
            counts.add("a", ONE)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums(tmp_path)["a"][0] == 8000


def test_requests_by_route(tmp_path: Path) -> None:
    counts = HttpCounts(tmp_path)
    for status in (200, 200, 404):
        counts.began()
        counts.ended("GET", "/v1/threads/<thread_id>", status, 0.002)
    counts.began()
    counts.ended("BREW", "/v1/models", 405, 0.5)
    counts.began()
    counts.failed("engine")
    found = requests(tmp_path)
    assert found.under_way == 1
    assert found.statuses == {
        ("GET", "/v1/threads/<thread_id>", "200"): 2,
        ("GET", "/v1/threads/<thread_id>", "404"): 1,
        ("other", "/v1/models", "405"): 1,
    }
    buckets, seconds = found.times["GET", "/v1/threads/<thread_id>"]
    assert (buckets[0], sum(buckets), round(seconds, 6)) == (3, 3, 0.006)
    assert found.failures == {"engine": 1}
    assert NOW


def test_requests_that_find_no_row_are_counted(tmp_path: Path) -> None:
    counts = HttpCounts(tmp_path)
    for status in range(ROWS):
        counts.ended("GET", "/x", status, 0.5)
    counts.ended("GET", f"/{'x' * 200}", 200, 0.5)
    found = requests(tmp_path)
    assert sum(found.statuses.values()) == ROWS + 1
    lost = found.statuses[REST, REST, REST]
    assert lost > 1
    buckets, seconds = found.times[REST, REST]
    assert (sum(buckets), seconds) == (lost, 0.5 * lost)


def test_nobody_is_taken_for_dead_while_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks tries the file's lock: between a file's making and its locking it would be found free, and lost."""
    locked, looked = shared_counts.try_lock, threading.Event()
    looking = threading.Thread(target=lambda: (requests(tmp_path), looked.set()))

    def late(descriptor: int) -> bool:
        if threading.current_thread() is not looking:
            looking.start()
            assert not looked.wait(0.1), "it waits until the other one has begun"
        return locked(descriptor)

    monkeypatch.setattr(shared_counts, "try_lock", late)
    SharedCounts(tmp_path).add("a", ONE)
    looking.join()
    assert looked.is_set()


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    counts = HttpCounts(tmp_path / "nowhere")
    counts.began()
    counts.ended("GET", "/", 200, 0.1)
