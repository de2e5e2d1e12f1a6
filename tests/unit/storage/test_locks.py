"""One writer at a time, among threads and processes, and a limit on waiting."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from janflask.errors import ConflictError, NotFoundError, StoreBusyError
from janflask.files.locks import FolderLocks

HOLDER = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
    "fcntl.flock(fd, getattr(fcntl, sys.argv[2]))\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@contextmanager
def held_by_another_process(folder: Path, kind: str = "LOCK_EX") -> Iterator[None]:
    """While it lasts, and until its process is killed."""
    command = [sys.executable, "-c", HOLDER, str(folder), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "thread_1"
    path.mkdir()
    return path


def test_another_process_is_waited_for_no_longer_than_the_limit(folder: Path) -> None:
    locks = FolderLocks(0.05)
    with held_by_another_process(folder):
        with pytest.raises(StoreBusyError) as caught, locks.exclusive(folder, "thread thread_1"):
            pytest.fail("it is held")
        with pytest.raises(StoreBusyError), locks.shared(folder, "thread thread_1"):
            pytest.fail("it is held")
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert "thread thread_1" in caught.value.message
    with locks.exclusive(folder, "thread thread_1"):
        pass


def test_another_thread_is_waited_for_no_longer_than_the_limit(folder: Path) -> None:
    locks = FolderLocks(0.05)
    refused = threading.Event()

    def second() -> None:
        with pytest.raises(StoreBusyError), locks.exclusive(folder, "it"):
            pytest.fail("it is held")
        refused.set()

    with locks.exclusive(folder, "it"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused.is_set()
    assert locks._turns == {}, "nothing is kept of a lock that nobody wants"


def test_a_lock_that_is_let_go_is_taken_by_who_waits(folder: Path) -> None:
    locks = FolderLocks(60)
    order: list[str] = []

    def second() -> None:
        with locks.exclusive(folder, "it"):
            order.append("second")

    with locks.exclusive(folder, "it"):
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_sharing(folder: Path) -> None:
    locks = FolderLocks(0.05)
    with held_by_another_process(folder, "LOCK_SH"):
        with locks.shared(folder, "it"), locks.shared(folder, "it"):
            pass
        with pytest.raises(StoreBusyError), locks.exclusive(folder, "it"):
            pytest.fail("it is shared")


def test_one_folder_does_not_wait_for_another(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "thread_2"
    other.mkdir()
    locks = FolderLocks(0.05)
    with held_by_another_process(other), locks.exclusive(folder, "it"):
        pass


def test_a_folder_that_went_while_it_was_waited_for(folder: Path, tmp_path: Path) -> None:
    locks = FolderLocks(60)
    caught: list[BaseException] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        try:
            with FolderLocks(60).exclusive(folder, "thread thread_1"):
                pytest.fail("it is gone")
        except NotFoundError as error:
            caught.append(error)

    with locks.exclusive(folder, "thread thread_1"):
        thread = threading.Thread(target=second)
        thread.start()
        waiting.wait()
        folder.rename(tmp_path / "gone")
    thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_only_a_folder_can_be_locked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("")
    elif kind == "link":
        path.symlink_to(tmp_path)
    expected = NotFoundError if kind == "missing" else ConflictError
    with pytest.raises(expected), FolderLocks(0.05).exclusive(path, "it"):
        pytest.fail("there is no such folder")
