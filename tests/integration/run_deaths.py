"""A run whose process dies at each of its system calls: a program of its own, since it forks.

``python -m tests.integration.run_deaths DIR KIND`` prints, for a kind of run, at how many points it died; it fails with
what the log said afterwards that was not what had been told, or not what the run is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec

from janflask.errors import EngineError
from janflask.files import ids
from janflask.inference.deltas import ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.requests import ChatRequest
from janflask.inference.waiting import Waiter
from janflask.runner import execution
from janflask.runner.live import Change, LiveRun
from janflask.services.continuing import continued, grown, is_continued
from janflask.services.replies import run_messages
from janflask.storage import open_repository
from janflask.storage.base import Page
from janflask.storage.items import REASONING
from janflask.storage.jan import raw_message
from janflask.storage.records import Message, Run, RunKind, RunStatus, text_part
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    ToolCallEvent,
    decode_events,
    encode_events,
    missing,
    of_round,
    reasoning_of,
    texts_of,
)
from tests.integration.store_crashes import in_a_fresh_process
from tests.integration.store_deaths import CALLS, NEVER, die, every_death
from tests.integration.store_faults import Action, fault
from tests.integration.store_records import settings
from tests.unit.runner import run_world
from tests.unit.runner.run_world import RunWorld, Script, calling, failing, saying, watch

PATIENCE = 60.0  # seconds that a run may take
TOLD = msgspec.json.Decoder(tuple[int, list[LogEvent]])


def thinking(request: ChatRequest, waiter: Waiter) -> Iterator[list[Any]]:
    """A model that thinks, speaks, and begins a call."""
    begun, *_, finished, done = saying("x")(request, waiter)
    yield begun
    yield [run_world.Started(7), ReasoningDelta(0, "Hm"), ReasoningDelta(0, ".")]
    yield [TextDelta(0, "Once"), TextDelta(0, " upon\n")]
    yield [TextDelta(0, " a"), ToolCallDelta(0, 0, "call_1", "look", "{")]
    yield finished
    yield done


def left(world: RunWorld, run: Run) -> Script:
    """A model that is told to stop in mid-sentence."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Any]]:
        yield [run_world.Started(7), TextDelta(0, "Once")]
        world.runner.cancel(run.thread_id, run.id)
        waiter.wait(0)

    return script


def in_rounds(request: ChatRequest, waiter: Waiter) -> Iterator[list[Any]]:
    """A model that calls two functions, then answers."""
    has_results = any(turn.role == "tool" for turn in request.messages)
    calls = calling(("call_1", "look", '{"at": "sea"}'), ("call_2", "go", "{}"), text="Well", thought="Hm")
    yield from (thinking if has_results else calls)(request, waiter)


class World(RunWorld):
    """A runner on the files of a folder, and its one run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(saying(" and on"))
        self.runner.close()
        self.settings = settings(folder)
        self.repository = open_repository(self.settings)

    @property
    def only(self) -> Run:
        (thread,) = self.repository.threads.all()
        return self.repository.runs.list(thread.id, Page()).items[0]

    def log(self, run: Run) -> Path:
        return self.settings.threads_dir / run.thread_id / "runs" / f"{run.id}.reply"

    def carry_out(self, script: Script, cancels: bool = False) -> None:
        """Until the run is final and nobody has to look after it; what it waits for comes, or it is cancelled then."""
        self.model.scripts = [script]
        self.new_runner().recover()
        deadline = time.monotonic() + PATIENCE
        while list(self.repository.runs.all_open()):
            if time.monotonic() > deadline:
                raise TimeoutError("the run does not end")
            if self.only.status is RunStatus.REQUIRES_ACTION:
                self.act(cancels)
            time.sleep(0.001)
        self.runner.close()

    def act(self, cancels: bool) -> None:
        run = self.only
        if cancels:
            self.runner.cancel(run.thread_id, run.id)
        elif (waiting := run.waiting) is not None:
            self.submit(run, **{call.id: f"that of {call.id}" for call in waiting.calls})


def refusing(request: ChatRequest, waiter: Waiter) -> Iterator[list[Any]]:
    """A model that says something, and was asked for something else."""
    _, begun, *_, finished, done = saying("x")(request, waiter)
    yield [*begun, TextDelta(0, "Once")]
    yield [RefusalDelta(0, "It is no JSON")]
    yield [*finished, *done]


def fill(folder: Path, kind: str) -> None:
    change, old, _ = KINDS[kind]
    world = World(folder)
    thread_id = world.thread("hi")
    run = world.run(thread_id, lasts=3600, **(answer(thread_id) if kind in ANSWERS else {}))  # for all of its deaths
    if kind in CONTINUED:
        broken_off = begun_before(thread_id, ids.new_id(ids.MESSAGE), run.created_ms)
        world.repository.threads.append(thread_id, [broken_off])
        run = world.repository.runs.update(
            thread_id, run.id, lambda run: replace(run, message_id=broken_off.id, continued=continued(broken_off))
        )
    world.repository.runs.update(run.thread_id, run.id, change)
    if old:
        world.log(run).write_text("".join(json.dumps(piece) + "\n" for piece in old))


def begun_before(thread_id: str, message_id: str, created_ms: int) -> Message:
    """An answer that broke off."""
    return Message(
        id=message_id,
        thread_id=thread_id,
        created_ms=created_ms,
        role="assistant",
        content=(text_part("Well, "),),
        run_id="run_before",
        status="incomplete",
        metadata={"mine": 1},
        extra={REASONING: "So"},
    )


def as_it_is(run: Run) -> Run:
    return run


def answer(thread_id: str) -> dict[str, Any]:
    """The fields of an answer by itself that brings two messages along."""
    brought = [run_world.message(thread_id, text) for text in ("and?", "so?")]
    raw = tuple(raw_message(message) for message in brought)
    return {"kind": RunKind.RESPONSE, "input": raw, "truncates": False}


def replying(run: Run) -> Run:
    return replace(run, status=RunStatus.IN_PROGRESS, started_ms=run.created_ms + 1, replied_ms=run.created_ms + 2)


def with_functions(run: Run) -> Run:
    functions = tuple({"type": "function", "function": {"name": name}} for name in ("look", "go"))
    return replace(run, tools=functions)


def cancelling(run: Run) -> Run:
    return replace(run, status=RunStatus.CANCELLING)


Kind = tuple[Callable[[Run], Run], list[str], Callable[[World, Run], Script]]
KINDS: dict[str, Kind] = {
    "answered": (as_it_is, [], lambda world, run: thinking),
    "cancelled": (as_it_is, [], left),
    "cancelled before it begins": (cancelling, [], lambda world, run: thinking),
    "failed": (as_it_is, [], lambda world, run: failing(EngineError("out of luck"), "half")),
    "failed before its first word": (as_it_is, [], lambda world, run: failing(EngineError("out of luck"))),
    "in rounds": (with_functions, [], lambda world, run: in_rounds),
    "cancelled while it waits": (with_functions, [], lambda world, run: in_rounds),
    "an answer": (as_it_is, [], lambda world, run: thinking),
    "an answer that ends with calls": (with_functions, [], lambda world, run: in_rounds),
    "an answer that is calls alone": (with_functions, [], lambda world, run: calling(("call_1", "look", "{}"))),
    "an answer that is refused": (as_it_is, [], lambda world, run: refusing),
    "an answer that is cancelled": (as_it_is, [], left),
    "an answer that fails before its first word": (as_it_is, [], lambda world, run: failing(EngineError("no luck"))),
    "an answer that is cancelled before it begins": (cancelling, [], lambda world, run: thinking),
    "goes on with a message": (as_it_is, [], lambda world, run: thinking),
    "goes on with a message, in rounds": (with_functions, [], lambda world, run: in_rounds),
    "goes on with a message, cancelled": (as_it_is, [], left),
    "goes on with a message, and fails": (as_it_is, [], lambda world, run: failing(EngineError("out of luck"))),
    "begun by an earlier version": (replying, ["The ", "sea"], lambda world, run: saying(" is", " wide")),
}


ANSWERS = frozenset(kind for kind in KINDS if kind.startswith("an answer"))
CONTINUED = frozenset(kind for kind in KINDS if kind.startswith("goes on"))


def tell_everything(pipe: socket.socket) -> None:
    """From now on every event goes into ``pipe`` at the very moment at which somebody might hear of it."""
    real = LiveRun.__init__

    def tell(change: Change | None) -> None:
        if isinstance(change, tuple):
            pipe.sendall(msgspec.json.encode(change) + b"\n")

    def init(live: LiveRun, *args: Any) -> None:
        real(live, *args)
        live.watched(tell).__enter__()

    LiveRun.__init__ = init  # type: ignore[method-assign, assignment]


def live(folder: Path, kind: str, at: int, action: Action, pipe: socket.socket) -> list[str]:
    """Carries the run out; the system calls that this took."""
    world = World(folder)
    tell_everything(pipe)
    script = KINDS[kind][2](world, world.only)
    with fault(at, action, CALLS) as calls:
        world.carry_out(script, cancels=kind == "cancelled while it waits")
    return list(calls)


# --- afterwards -------------------------------------------------------------------------------------------------------


def check(folder: Path, told: list[LogEvent]) -> None:
    """Raises AssertionError for a log that is not what was told, or not what the run is, before and after the end."""
    world = World(folder)
    run = world.only
    before = list(world.repository.runs.events(run.thread_id, run.id))
    names = due(before)
    assert set(names) <= set(due(missing(run, []))), f"the log says more than the run: {names} of {run}"
    whole = [*before, *missing(run, before)]
    assert whole[: len(told)] == told, f"told {told}, found {whole}"

    world.carry_out(saying(" and on"))
    final = world.only
    after = list(world.repository.runs.events(run.thread_id, run.id))
    assert final.status.is_final
    assert after[: len(whole)] == whole, f"what was there, {whole}, became {after}"
    assert missing(final, after) == []
    assert len(set(due(after))) == len(due(after)), f"something is there twice: {after}"
    assert isinstance(after[-1], LifecycleEvent)
    assert after[-1].event == f"run.{final.status}"
    data = world.log(run).read_bytes()
    assert decode_events(data) == after
    assert data.startswith(b'"') or data == encode_events(after), "every line is an event of its own"
    stored = list(world.repository.threads.all_messages(run.thread_id))
    brought = [message.id for message in stored if not message.run_id][1:]
    messages = [message for message in stored if message.run_id == run.id]
    assert list(final.input_ids) == brought, f"{final.input_ids}, and the thread has {brought}"
    assert len(brought) == (2 if run.kind is RunKind.RESPONSE and messages else 0)
    assert len(final.input) == (2 if run.kind is RunKind.RESPONSE and not messages else 0)
    newest = of_round(after, len(final.rounds))
    text, reasoning = "".join(texts_of(newest)), reasoning_of(newest)
    is_nothing = run.kind is RunKind.RESPONSE and not messages and not text and not reasoning
    assert is_nothing or messages == [as_stored(final, reply) for reply in run_messages(final, text, reasoning)]
    if run.continued is not None:
        assert [message.id for message in stored].count(run.continued.message_id) == 1
        assert text.startswith("Well, ") or final.rounds or not messages
    for number, past in enumerate(final.rounds):
        said = of_round(after, number)
        assert ("".join(texts_of(said)), reasoning_of(said)) == (past.text, past.reasoning)
        assert final.waiting is past or [call.output for call in past.calls] == [f"that of {c.id}" for c in past.calls]
    world.new_runner()
    assert list(watch(world.runner, run)) == [final, (1, after)]
    world.runner.close()


def as_stored(run: Run, reply: Message) -> Message:
    """A reply, which may go on with a message that was there."""
    if not is_continued(run, reply.id):
        return reply
    return grown(begun_before(reply.thread_id, reply.id, reply.created_ms), reply, run)


def due(events: Iterable[LogEvent]) -> list[tuple[Any, ...]]:
    """What follows from the run's file."""
    named = [(event.event, event.round, event.calls) for event in events if isinstance(event, LifecycleEvent)]
    return [*named, *[(event.round, event.call, event.id) for event in events if isinstance(event, ToolCallEvent)]]


class Deaths:
    """Every death of one kind of run."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        shutil.rmtree(folder / "filled", ignore_errors=True)
        in_a_fresh_process(lambda: fill(folder / "filled", kind))

    def all(self) -> int:
        code, told, calls = self._lived(NEVER, die)
        assert code == 0, f"{self._kind}: ended with {code}"
        in_a_fresh_process(lambda: check(self._folder / "trial", told))
        count = 0
        for number, call, action in every_death(calls):
            self._one(number, call, action)
            count += 1
        return count

    def _one(self, number: int, call: str, action: Action) -> None:
        code, told, _ = self._lived(number, action)
        place = f"{self._kind}, {action.__name__} at {call} ({number})"
        if code != -signal.SIGKILL:
            raise ValueError(f"{place}: ended with {code}")
        try:
            in_a_fresh_process(lambda: check(self._folder / "trial", told))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error

    def _lived(self, at: int, action: Action) -> tuple[int, list[LogEvent], list[str]]:
        """A life in a child: its exit code or minus the signal that ended it, what it told, and its system calls."""
        trial = self._folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(self._folder / "filled", trial)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.close()
                calls = live(trial, self._kind, at, action, theirs)
                theirs.sendall(b"!" + json.dumps(calls).encode() + b"\n")
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        with ours, ours.makefile("rb") as lines:
            told, calls = heard(lines)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told, calls


def heard(lines: Iterable[bytes]) -> tuple[list[LogEvent], list[str]]:
    told: list[LogEvent] = []
    calls: list[str] = []
    for line in lines:
        if line.startswith(b"!"):
            calls = cast(list[str], json.loads(line[1:]))
            continue
        first, events = TOLD.decode(line)
        if first == 1:  # it goes on with outputs
            assert events[: len(told)] == told, f"told {told}, then {events}"
            told = []
        assert first == len(told) + 1, f"number {first} was told behind {len(told)} events"
        told += events
    return told, calls


def main(folder: Path, kind: str) -> dict[str, int]:
    execution.PAUSE, run_world.CONTEXT = 0.001, 4096
    return {kind: Deaths(folder, kind).all()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
