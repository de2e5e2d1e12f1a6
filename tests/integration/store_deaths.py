"""An operation that dies at each of its system calls: a program of its own, since it forks.

``python -m tests.integration.store_deaths DIR`` prints, for each operation, at how many points it died; it fails with
what was found afterwards that was neither the store before nor after it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from janflask.storage import open_repository
from tests.integration import store_faults
from tests.integration.store_crashes import in_a_fresh_process
from tests.integration.store_faults import (
    NAMING,
    OPERATIONS,
    PARTS,
    REMOVING,
    SYNCING,
    WRITING,
    Action,
    Operation,
    fault,
)
from tests.integration.store_records import content, new_message, settings

CALLS = WRITING + SYNCING + NAMING + REMOVING
NEVER = 1 << 30


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    real(*args)
    die()


def die_in_the_middle(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if name == "write":
        real(args[0], memoryview(args[1])[: len(args[1]) // 2])
    elif name == "writev":
        real(args[0], [memoryview(args[1][0])[: len(args[1][0]) // 2]])
    die()


def in_child(work: Callable[[], object]) -> int:
    """``work`` in a child; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()  # else nobody would know why it did not die
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def looked(folder: Path) -> Any:
    """What is there, seen by a process that never saw the store before; made comparable by JSON."""
    return in_a_fresh_process(lambda: _look(folder))


def _look(folder: Path) -> Any:
    return json.loads(json.dumps(store_faults.look(folder), default=bytes.decode))


def looked_at_and_appended_to(folder: Path) -> Any:
    """The same, and the ids in TALK after another message was appended there: the store goes on."""

    def work() -> Any:
        seen = _look(folder)
        threads = open_repository(settings(folder)).threads
        threads.append(store_faults.TALK, [new_message(store_faults.TALK, content("later", 100), "later")])
        return seen, list(threads.message_ids(store_faults.TALK))

    return in_a_fresh_process(work)


def perform(trial: Path, operation: Operation, at: int, action: Action) -> list[str]:
    """Does it in a store that has just been opened; the system calls that it made."""
    repository = open_repository(settings(trial))
    with fault(at, action, CALLS) as calls:
        operation(repository)
    return calls


def every_death(calls: Sequence[str]) -> Iterator[tuple[int, str, Action]]:
    """At each of these system calls, in the middle of those that write, and behind the last; with its number from 1."""
    for number, call in enumerate(calls, 1):
        yield number, call, die
        if call in ("write", "writev"):
            yield number, call, die_in_the_middle
        if number == len(calls):
            yield number, call, die_after


def fresh_trial(folder: Path) -> Path:
    """A copy of the filled store, in the place of the last one."""
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(folder / "filled", trial, symlinks=True)
    return trial


class Deaths:
    """Every death of one operation."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._operation = OPERATIONS[name]
        self._name = name
        self._calls: list[str] = in_a_fresh_process(lambda: perform(self._trial(), OPERATIONS[name], NEVER, die))
        self._possible = [looked(folder / "trial"), looked(folder / "filled")]
        for part in PARTS.get(name, []):
            in_a_fresh_process(lambda part=part: perform(self._trial(), part, NEVER, die))
            self._possible.append(looked(folder / "trial"))

    def _trial(self) -> Path:
        return fresh_trial(self._folder)

    def all(self) -> int:
        count = 0
        for number, call, action in every_death(self._calls):
            self._one(number, call, action)
            count += 1
        return count

    def _one(self, number: int, call: str, action: Action) -> None:
        trial = self._trial()
        place = f"{self._name}, {action.__name__} at {call} ({number} of {self._calls})"
        code = in_child(lambda: perform(trial, self._operation, number, action))
        if code != -signal.SIGKILL:
            raise ValueError(f"{place}: ended with {code}")
        now, names = looked_at_and_appended_to(trial)
        if now not in self._possible:
            raise ValueError(f"{place}: there is {now}\nrather than one of {self._possible}")
        talk = next(thread[4] for thread in now["threads"] if thread[0] == store_faults.TALK)
        if names != [message[0] for message in talk] + ["later"]:
            raise ValueError(f"{place}: the thread did not go on as it was")


def main(folder: Path) -> dict[str, int]:
    in_a_fresh_process(lambda: store_faults.fill(folder / "filled"))
    return {name: Deaths(folder, name).all() for name in OPERATIONS}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
