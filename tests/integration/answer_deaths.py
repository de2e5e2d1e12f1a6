"""A process that dies at each of its system calls while it makes or deletes an answer: a program of its own, since it
forks.

``python -m tests.integration.answer_deaths DIR KIND`` prints, for a kind of operation, at how many points it died; it
fails with what was found afterwards that was neither the store before nor after it.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from janflask.errors import NotFoundError
from janflask.storage import open_repository
from janflask.storage.records import Run, RunStatus
from tests.integration.store_crashes import in_a_fresh_process
from tests.integration.store_deaths import CALLS, NEVER, die, every_death, in_child
from tests.integration.store_faults import Action, fault
from tests.integration.store_records import settings
from tests.unit.runner import run_world
from tests.unit.runner.run_world import saying
from tests.unit.services.answer_world import RESPONSE, AnswerWorld, briefly

PATIENCE = 60.0  # seconds that answers may take
OLD = {"first": ["hi"], "second": ["hi", "Hello", "and?"]}  # answers, and what each came behind, its own input included

Operation = Callable[[AnswerWorld, dict[str, Run]], object]
NEW: dict[str, tuple[Operation, list[str]]] = {
    "a new conversation": (lambda world, old: world.create("new"), ["new"]),
    "behind the newest": (
        lambda world, old: world.create("new", previous=old["second"].id),
        ["hi", "Hello", "and?", "Hello", "new"],
    ),
    "a branch": (lambda world, old: world.create("new", previous=old["first"].id), ["hi", "Hello", "new"]),
}
GONE: dict[str, tuple[Operation, list[str]]] = {
    "one of two is deleted": (lambda world, old: world.answers.delete(old["first"].id, RESPONSE), ["first"]),
    "the other one is deleted": (lambda world, old: world.answers.delete(old["second"].id, RESPONSE), ["second"]),
}
KINDS = {**NEW, **GONE}


class World(AnswerWorld):
    """Answers in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(saying("Hello"), repository=open_repository(settings(folder)))

    def left(self) -> None:
        """Nobody carries out what is asked for."""
        self.runner.close()
        self.runner.begin = lambda thread_id, run_id: self.repository.runs.get(thread_id, run_id)  # type: ignore[method-assign]

    def all(self) -> list[Run]:
        runs = self.repository.runs
        threads = list(self.repository.threads.all())
        return [runs.get(thread.id, run_id) for thread in threads for run_id in runs.ids(thread.id)]


def fill(folder: Path) -> dict[str, str]:
    world = World(folder)
    first = world.answer("hi")
    second = world.answer("and?", previous=first.id)
    world.runner.close()
    return {"first": first.id, "second": second.id}


def perform(trial: Path, kind: str, names: dict[str, str], at: int, action: Action) -> list[str]:
    world = World(trial)
    world.left()
    old = {name: world.answers.get(answer_id, RESPONSE) for name, answer_id in names.items()}
    with fault(at, action, CALLS) as calls:
        KINDS[kind][0](world, old)
    return list(calls)


def check(trial: Path, kind: str, names: dict[str, str], is_done: bool) -> None:
    """Raises AssertionError for an answer that is there in part, twice, or not as it was asked for."""
    world = World(trial)
    world.runner.recover()
    deadline = time.monotonic() + PATIENCE
    while any(not run.status.is_final for run in world.all()):
        assert time.monotonic() < deadline, "an answer does not end"
        time.sleep(0.001)
    found = {run.id: run for run in world.all()}
    expected = dict(OLD)
    new = [run for run in found.values() if run.id not in names.values()]
    if kind in GONE:
        (name,) = GONE[kind][1]
        is_gone = names[name] not in found
        assert is_gone or not is_done
        if is_gone:
            del expected[name]
    else:
        assert len(new) <= 1
        assert new or not is_done
    for run in new:
        assert seen(world, run) == [*NEW[kind][1], "Hello"], seen(world, run)
    for name, told in expected.items():
        assert seen(world, found[names[name]]) == [*told, "Hello"], seen(world, found[names[name]])
    goes_on(world, names)
    world.runner.close()


def seen(world: World, run: Run) -> list[str]:
    """Its thread up to its end."""
    assert run.status is RunStatus.COMPLETED, run
    (output,) = world.answers.output(run)
    messages = list(world.repository.threads.all_messages(run.thread_id))
    ids = [message.id for message in messages]
    assert len(set(ids)) == len(ids)
    assert ids.count(output.id) == 1
    return briefly(messages[: ids.index(output.id) + 1])


def goes_on(world: World, names: dict[str, str]) -> None:
    for name, told in OLD.items():
        try:
            run = world.answer("more", previous=names[name])
        except NotFoundError:  # it is deleted
            continue
        assert seen(world, run) == [*told, "Hello", "more", "Hello"], seen(world, run)


def main(folder: Path, kind: str) -> dict[str, int]:
    run_world.CONTEXT = 4096
    names: dict[str, str] = in_a_fresh_process(lambda: fill(folder / "filled"))
    trial = folder / "trial"

    def lived(at: int, action: Action) -> int:
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(folder / "filled", trial)
        return in_child(lambda: perform(trial, kind, names, at, action))

    def checked(place: str, is_done: bool) -> None:
        try:
            in_a_fresh_process(lambda: check(trial, kind, names, is_done))
        except ValueError as error:
            raise ValueError(f"{kind}, {place}: {error}") from error

    assert lived(NEVER, die) == 0
    checked("alive", True)
    shutil.rmtree(trial)
    shutil.copytree(folder / "filled", trial)
    calls: list[str] = in_a_fresh_process(lambda: perform(trial, kind, names, NEVER, die))
    count = 0
    for number, call, action in every_death(calls):
        code = lived(number, action)
        if code != -signal.SIGKILL:
            raise ValueError(f"{kind}, {call} ({number}): ended with {code}")
        checked(f"{action.__name__} at {call} ({number} of {calls})", False)
        count += 1
    return {kind: count}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
