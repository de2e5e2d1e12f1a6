"""A change that is told, whose process dies at each of its system calls and on either side of the spool's.

``python -m tests.integration.webhook_deaths DIR OPERATION`` prints at how many points it died; it fails with what a
receiver was told afterwards that is not what the store then holds.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from janflask.deliveries import deliverer
from janflask.deliveries.post import Outcome
from janflask.files import ids
from janflask.storage.records import Run, RunKind, RunStatus
from janflask.webhooks.spool import Spool
from tests.integration import store_faults
from tests.integration.store_crashes import in_a_fresh_process
from tests.integration.store_deaths import CALLS, NEVER, die, every_death, fresh_trial, in_child, looked
from tests.integration.store_faults import HOLDER, OPERATIONS, TALK, Action, Operation, fault
from tests.integration.webhook_world import WebhookWorld

Told = list[list[str]]  # type and object of each event, in order

RUN, ANSWER = "run_1", ids.new_answer_id(ids.RESPONSE, HOLDER)  # of TALK, and of HOLDER


def completed(run: Run) -> Run:
    return replace(run, status=RunStatus.COMPLETED, completed_ms=1)


def waiting(run: Run) -> Run:
    return replace(run, status=RunStatus.REQUIRES_ACTION)


OF_RUNS: dict[str, Operation] = {
    "end a run": lambda r: r.runs.close(TALK, RUN, completed),
    "have a run wait": lambda r: r.runs.update(TALK, RUN, waiting),
    "end a response": lambda r: r.runs.close(HOLDER, ANSWER, completed),
}
ALL: dict[str, Operation] = {**OPERATIONS, **OF_RUNS}

# What each operation tells.
EXPECTED: dict[str, Told] = {
    "append": [["thread.message.created", "n"]],
    "append several": [["thread.message.created", f"n{number}"] for number in range(3)],
    "create a thread": [["thread.created", "new"]],
    "update a thread": [["thread.updated", TALK]],
    "replace a thread's messages": [
        ["thread.updated", TALK],
        *(["thread.message.deleted", f"m{number}"] for number in range(3)),
        *(["thread.message.created", f"n{number}"] for number in range(3)),
    ],
    "delete a thread": [["thread.deleted", HOLDER]],
    "update a message": [["thread.message.updated", "m1"]],
    "delete a message": [["thread.message.deleted", "m1"]],
    "end a run": [["thread.run.completed", RUN]],
    "have a run wait": [["thread.run.requires_action", RUN]],
    "end a response": [["response.completed", ANSWER]],
}
SPOOLED = ("begin", "confirm")


@contextmanager
def spool_fault(at: int, action: Action) -> Iterator[list[str]]:
    """As ``fault``, before and behind what the spool is told."""
    calls: list[str] = []

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            for moment in ("before", "behind"):
                calls.append(f"{moment} {name}")
                if len(calls) == at:
                    action(name, real, args)
                if moment == "before":
                    found = real(*args)
            return found

        return call

    with ExitStack() as stack:
        for name in SPOOLED:
            stack.enter_context(mock.patch.object(Spool, name, counting(name, getattr(Spool, name))))
        yield calls


def perform(trial: Path, operation: Operation, at: int, spooled: int, action: Action) -> dict[str, list[str]]:
    """Does it in a store that has just been opened; what it called."""
    repository = WebhookWorld(trial).repository()
    with fault(at, action, CALLS) as calls, spool_fault(spooled, action) as told:
        operation(repository)
    return {"calls": calls, "told": told}


def seen(trial: Path) -> Any:
    """The store, and how its runs are."""

    def statuses() -> dict[str, str]:
        runs = WebhookWorld(trial).repository().runs
        places = [(HOLDER, ANSWER)] if (trial / "threads" / HOLDER).exists() else []
        return {run_id: str(runs.get(thread_id, run_id).status) for thread_id, run_id in [(TALK, RUN), *places]}

    return {**looked(trial), "runs": in_a_fresh_process(statuses)}


def delivered(trial: Path) -> Told:
    """What a deliverer of another process then tells."""

    def work() -> Told:
        told: Told = []
        world = WebhookWorld(trial)

        def send(endpoint: Any, event_id: str, type: str, data: dict[str, str], made_ms: int, **_: Any) -> Outcome:
            told.append([type, data["id"]])
            return Outcome(200, "")

        if not world.settings.webhooks_dir.joinpath("spool.sqlite").exists():
            return []
        with world.delivering(send=send):
            world.wait_until(world.is_empty)
        return told

    found: Told = in_a_fresh_process(work)
    return found


class Deaths:
    """Every death of one operation."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._before = seen(folder / "filled")
        self._calls = in_a_fresh_process(lambda: perform(self._trial(), ALL[name], NEVER, NEVER, die))
        self._after = seen(folder / "trial")
        if (told := delivered(folder / "trial")) != EXPECTED[name]:
            raise ValueError(f"{name} tells {told}")

    def _trial(self) -> Path:
        return fresh_trial(self._folder)

    def all(self) -> int:
        count = 0
        for number, call, action in every_death(self._calls["calls"]):
            self._one(call, number, NEVER, action)
            count += 1
        for number, call in enumerate(self._calls["told"], 1):
            self._one(call, NEVER, number, die)
            count += 1
        return count

    def _one(self, call: str, at: int, spooled: int, action: Action) -> None:
        trial = self._trial()
        place = f"{self._name}, {action.__name__} at {call} ({min(at, spooled)})"
        code = in_child(lambda: perform(trial, ALL[self._name], at, spooled, action))
        if code != -signal.SIGKILL:
            raise ValueError(f"{place}: ended with {code}")
        now, told = seen(trial), delivered(trial)
        if now == self._after:
            right = told == EXPECTED[self._name]
        elif now == self._before:  # of an update nobody can tell whether it was made
            right = all(type.endswith(".updated") for type, _ in told)
        else:  # half of it: what is there is told
            right = self._is_told(now, told)
        if not right:
            raise ValueError(f"{place}: {told} was told, and there is {now}")

    def _is_told(self, now: dict[str, Any], told: Told) -> bool:
        talk = next(thread for thread in now["threads"] if thread[0] == TALK)
        there = {message[0] for message in talk[4]}
        made = [name for type, name in told if type == "thread.message.created"]
        gone = {name for type, name in told if type == "thread.message.deleted"}
        before = {message[0] for thread in self._before["threads"] if thread[0] == TALK for message in thread[4]}
        return set(made) == there - before and gone == before - there


def new_run(thread_id: str, run_id: str, kind: RunKind) -> Run:
    return Run(
        id=run_id,
        thread_id=thread_id,
        assistant_id="jan",
        message_id="msg_1",
        step_id="step_1",
        created_ms=1,
        expires_ms=1 << 50,
        model="m",
        status=RunStatus.IN_PROGRESS,
        kind=kind,
    )


def main(folder: Path, name: str) -> dict[str, int]:
    deliverer.LOOK = 0.01

    def fill() -> None:
        store_faults.fill(folder / "filled")
        runs = WebhookWorld(folder / "filled").repository().runs
        runs.create(new_run(TALK, RUN, RunKind.RUN))
        runs.create(new_run(HOLDER, ANSWER, RunKind.RESPONSE))
        WebhookWorld(folder / "filled").endpoint("https://example.com/")

    in_a_fresh_process(fill)
    return {name: Deaths(folder, name).all()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
