"""Writers that are killed while they write: a program of its own, since it forks and nothing else may run in it.

``python -m tests.integration.store_crashes DIR SEED ROUNDS`` prints what was done as JSON, or fails with what was lost.
Each round forks four writers, kills each at a random moment, and compares what they acknowledged with what a fresh
process finds. Before each operation a writer tells what it is about to do, and afterwards that it is done: only the
last one of a killed writer may be there or not, and then whole. Two readers look at everything all the time.

What a writer knows of is a mapping from keys to values; an operation sets some of them at once (None takes one away):
``["thread", id]`` to its title, ``["message", thread id, id]`` to [size, version], ``["file", name]`` to its size and
``["assistant", id]`` to its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from janflask.errors import NotFoundError
from janflask.files import ids
from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.records import Assistant, Message, Thread
from tests.integration.store_records import content, is_whole, new_message, new_thread, settings, text_part

WRITERS = 4
READERS = 2
SHARED = 3  # threads that all writers write to; in the first one messages are only appended
ROUNDS_OF_AN_EPOCH = 10  # then the threads get too long to be compared whole each time, and new ones are begun
PATIENCE = 60.0  # seconds that a process may take before it counts as hanging
LARGE = 300_000  # characters: a write that takes long enough to be cut
EVERYTHING = Page(limit=None, order="asc")

Key = tuple[str, ...]
State = dict[Key, Any]
Change = list[tuple[Key, Any]]


def applied(state: State, change: Change) -> State:
    after = dict(state)
    for key, value in change:
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


# --- a writer -------------------------------------------------------------------------------------------------------


class Writer:
    """Does random things until it is killed; ``state`` is what it wrote in this epoch's earlier rounds."""

    def __init__(self, data_dir: Path, shared: list[str], state: State, seed: str, pipe: int) -> None:
        self._random = random.Random(seed)
        self._label = seed.replace(":", "-")
        self._repository = open_repository(settings(data_dir))
        self._shared = shared
        self._state = state
        self._pipe = pipe
        self._count = 0
        self._file_ids: dict[str, str] = {}

    def work(self) -> NoReturn:
        os.write(self._pipe, b"\n")  # ready
        doings = [self.append] * 8 + [self.create_thread] * 2 + [self.upload, self.create_assistant]
        doings += [self.update_message, self.delete_message, self.update_thread, self.delete_thread]
        doings += [self.delete_file, self.update_assistant, self.delete_assistant]
        while True:
            self._count += 1
            self._random.choice(doings)()

    @contextlib.contextmanager
    def _doing(self, change: Change) -> Iterator[None]:
        self._tell("begins", change)
        yield
        self._tell("done", change)
        self._state = applied(self._state, change)

    def _tell(self, what: str, change: Change) -> None:
        os.write(self._pipe, json.dumps([what, change]).encode() + b"\n")

    def _name(self) -> str:
        return f"{self._label}-{self._count}"

    def _size(self) -> int:
        return self._random.choices([120, 4000, LARGE], [10, 4, 1])[0]

    def _some(self, kind: str) -> Key | None:
        keys = [key for key in self._state if key[0] == kind]
        return self._random.choice(keys) if keys else None

    def append(self) -> None:
        thread_id = self._random.choice(self._shared)
        batch: list[tuple[str, int]] = []
        for _ in range(self._random.choice([1, 1, 1, 3])):
            batch.append((ids.new_id(ids.MESSAGE), self._size()))
        messages = [new_message(thread_id, content(name, size), name) for name, size in batch]
        with self._doing([(("message", thread_id, name), [size, 0]) for name, size in batch]):
            self._repository.threads.append(thread_id, messages)

    def create_thread(self) -> None:
        thread = new_thread(self._name())
        messages = [new_message(thread.id, content(name, 200), name) for name in self._new_ids(2)]
        change: Change = [(("thread", thread.id), thread.title)]
        change += [(("message", thread.id, message.id), [200, 0]) for message in messages]
        with self._doing(change):
            self._repository.threads.create(thread, messages)

    def _new_ids(self, count: int) -> list[str]:
        return [ids.new_id(ids.MESSAGE) for _ in range(count)]

    def update_message(self) -> None:
        if (key := self._some("message")) is None or key[1] == self._shared[0]:
            return
        _, thread_id, name = key
        size, version = self._size(), self._count + 1_000 * self._random.randrange(1, 1_000)

        def change(message: Message) -> Message:
            return dataclasses.replace(message, content=(text_part(content(name, size, version)),))

        with self._doing([(key, [size, version])]):
            self._repository.threads.update_message(thread_id, name, change)

    def delete_message(self) -> None:
        if (key := self._some("message")) is None or key[1] == self._shared[0]:
            return
        with self._doing([(key, None)]):
            self._repository.threads.delete_message(key[1], key[2])

    def update_thread(self) -> None:
        if (key := self._some("thread")) is None:
            return
        title = self._name()

        def change(thread: Thread) -> Thread:
            return dataclasses.replace(thread, title=title)

        if self._random.random() < 0.5:
            with self._doing([(key, title)]):
                self._repository.threads.update(key[1], change)
            return
        # Its messages are replaced as well.
        messages = [new_message(key[1], content(name, 300), name) for name in self._new_ids(3)]
        gone = [old for old in self._state if old[0] == "message" and old[1] == key[1]]
        given = [(("message", key[1], message.id), [300, 0]) for message in messages]
        with self._doing([(key, title), *((old, None) for old in gone), *given]):
            self._repository.threads.update(key[1], change, lambda _: messages)

    def delete_thread(self) -> None:
        if (key := self._some("thread")) is None:
            return
        inside = [inner for inner in self._state if inner[0] == "message" and inner[1] == key[1]]
        with self._doing([(key, None), *((inner, None) for inner in inside)]):
            self._repository.threads.delete(key[1])

    def upload(self) -> None:
        name = self._name()
        size = self._size()
        with self._doing([(("file", name), size)]):
            upload = self._repository.files.begin()
            upload.write(content(name, size).encode())
            self._file_ids[name] = upload.commit(name, "assistants").id

    def delete_file(self) -> None:
        if not self._file_ids:
            return
        name, file_id = self._file_ids.popitem()
        with self._doing([(("file", name), None)]):
            self._repository.files.delete(file_id, lambda thread_id: False)

    def create_assistant(self) -> None:
        name = ids.new_id(ids.ASSISTANT)
        with self._doing([(("assistant", name), "new")]):
            self._repository.assistants.create(Assistant(id=name, created_ms=ids.now_ms(), name="new"))

    def update_assistant(self) -> None:
        if (key := self._some("assistant")) is None:
            return
        name = self._name()
        with self._doing([(key, name)]):
            self._repository.assistants.update(key[1], lambda old: dataclasses.replace(old, name=name))

    def delete_assistant(self) -> None:
        if (key := self._some("assistant")) is None:
            return
        with self._doing([(key, None)]):
            self._repository.assistants.delete(key[1])


# --- what a fresh process finds -------------------------------------------------------------------------------------


def found(repository: Repository, thread_ids: set[str] | None) -> dict[str, Any]:
    """All that is stored; messages only of these threads, or of all.

    Raises what a broken object raises; ValueError for one that is not whole.
    """
    titles = {thread.id: thread.title for thread in repository.threads.list(EVERYTHING).items}
    messages = {}
    for thread_id in titles if thread_ids is None else thread_ids & set(titles):
        messages[thread_id] = [_described(message) for message in repository.threads.all_messages(thread_id)]
    files = {}
    for stored in repository.files.list(EVERYTHING).items:
        with repository.files.open(stored.id) as file:
            text = file.read().decode()
        if not is_whole(text) or len(text) != stored.bytes:
            raise ValueError(f"{stored.filename} is not whole")
        files[stored.filename] = stored.bytes
    names = {assistant.id: assistant.name for assistant in repository.assistants.list(EVERYTHING).items}
    names.pop("jan", None)
    return {"threads": titles, "messages": messages, "files": files, "assistants": names}


def _described(message: Message) -> tuple[str, list[int]]:
    if not is_whole(message.text) or not message.text.startswith(f"{message.id}:"):
        raise ValueError(f"message {message.id} is not whole: {message.text[:80]!r}")
    return message.id, [len(message.text), int(message.text.split(":")[1])]


def found_states(seen: dict[str, Any]) -> State:
    """The same as a writer's state."""
    state: State = {("thread", key): title for key, title in seen["threads"].items()}
    for thread_id, messages in seen["messages"].items():
        state |= {("message", thread_id, name): value for name, value in messages}
    state |= {("file", name): size for name, size in seen["files"].items()}
    return state | {("assistant", key): name for key, name in seen["assistants"].items()}


# --- a reader -------------------------------------------------------------------------------------------------------


class Complaints(logging.Handler):
    """Keeps what the store has to say: a line or an object that it left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def read_all_along(data_dir: Path, seed: int, pipe: int) -> None:
    """Reads whatever there is until the pipe's other end asks how much it was. Raises what is wrong with it."""
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    repository = open_repository(settings(data_dir))
    rng = random.Random(seed)
    before: dict[str, list[str]] = {}
    count = 0
    while not select.select([pipe], [], [], 0)[0]:
        for thread in repository.threads.list(Page(limit=20)).items:
            with contextlib.suppress(NotFoundError):  # deleted since
                _read_thread(repository, thread.id, before, rng)
                count += 1
        time.sleep(0.002)  # the writers need the processor, too
    if complaints.said:
        raise ValueError(f"a reader was told of something broken: {complaints.said[:5]}")
    os.write(pipe, json.dumps(count).encode())


def _read_thread(repository: Repository, thread_id: str, before: dict[str, list[str]], rng: random.Random) -> None:
    thread = repository.threads.get(thread_id)
    for message in repository.threads.list_messages(thread_id, Page(limit=5)).items:
        _described(message)
    if rng.random() < 0.2:
        names = [_described(message)[0] for message in repository.threads.all_messages(thread_id)]
        if len(names) != len(set(names)):
            raise ValueError(f"a message is twice in {thread_id}")
        if thread.title == "only appended":
            old = before.get(thread_id, [])
            if names[: len(old)] != old:
                raise ValueError(f"{thread_id} lost or reordered messages that a reader had seen")
            before[thread_id] = names


# --- rounds ---------------------------------------------------------------------------------------------------------


def forked(work: Callable[[int], object]) -> tuple[int, int]:
    """Runs ``work`` with a pipe in a child that ends with 0 or, for an exception, 1; (process id, our end)."""
    theirs, ours = socket_pair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(ours)
            work(theirs)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(theirs)
    return pid, ours


def socket_pair() -> tuple[int, int]:
    import socket

    one, other = socket.socketpair()
    return one.detach(), other.detach()


def drained(pipe: int) -> bytes:
    """All until the other end is gone. TimeoutError if that takes too long."""
    data = b""
    deadline = time.monotonic() + PATIENCE
    while True:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("a process hangs")
        try:
            piece = os.read(pipe, 1 << 20)
        except ConnectionResetError:
            piece = b""
        if not piece:
            os.close(pipe)
            return data
        data += piece


def in_a_fresh_process(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, as JSON."""

    def tell(pipe: int) -> None:
        with os.fdopen(pipe, "wb") as file:
            file.write(json.dumps(work()).encode())

    pid, pipe = forked(tell)
    answer = drained(pipe)
    if os.waitpid(pid, 0)[1] != 0:
        raise ValueError("the store cannot be read")
    return json.loads(answer)


class Epoch:
    """A few shared threads, and what every writer is known to have written in some rounds."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir
        self.shared: list[str] = in_a_fresh_process(self._begin)
        self.states: list[State] = [{} for _ in range(WRITERS)]
        self.order: list[str] = []  # messages of the thread that is only appended to
        self.acknowledged = 0
        self.in_flight = 0

    def _begin(self) -> list[str]:
        repository = open_repository(settings(self._dir))
        titles = ["only appended"] + ["shared"] * (SHARED - 1)
        return [repository.threads.create(new_thread(title)).id for title in titles]

    def round(self, seed: str, rng: random.Random) -> None:
        """Four writers begin, and are killed."""
        writers = []
        for number in range(WRITERS):
            state = {key: value for key, value in self.states[number].items() if key[0] != "file"}

            def work(pipe: int, number: int = number, state: State = state) -> None:
                Writer(self._dir, self.shared, state, f"{seed}:{number}", pipe).work()

            writers.append(forked(work))
        for _, pipe in writers:
            select.select([pipe], [], [], PATIENCE)
        ends = sorted((rng.uniform(0.004, 0.03), pid) for pid, _ in writers)
        waited = 0.0
        for moment, pid in ends:
            time.sleep(moment - waited)
            waited = moment
            os.kill(pid, signal.SIGKILL)
        changes = []
        for pid, pipe in writers:
            changes.append(parsed(drained(pipe)))
            status = os.waitpid(pid, 0)[1]
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                raise ValueError("a writer ended by itself: what it raised is above")
        self.compare(changes)

    def compare(self, changes: list[tuple[list[Change], Change | None]]) -> None:
        """Every writer's state is what it acknowledged, with or without what it was about to do."""
        known = {*self.shared}
        for (done, pending), state in zip(changes, self.states, strict=True):
            known |= {key[1] for key in state if key[0] == "thread"}
            known |= {key[1] for change in [*done, pending or []] for key, _ in change if key[0] == "thread"}
        seen = in_a_fresh_process(lambda: found(open_repository(settings(self._dir)), known))
        there = found_states(seen)
        for number, (done, pending) in enumerate(changes):
            state = self.states[number]
            for change in done:
                state = applied(state, change)
            self.acknowledged += len(done)
            after = state if pending is None else applied(state, pending)
            own = {*self.states[number], *state, *after} | {key for change in done for key, _ in change}
            actual = {key: value for key, value in there.items() if key in own}
            outcome = next((each for each in outcomes(state, pending) if each == actual), None)
            if outcome is None:
                raise ValueError(difference(actual, state, after))
            check_order(outcome, there)
            self.in_flight += outcome != state
            self.states[number] = outcome
        self._compare_order(seen["messages"][self.shared[0]])

    def _compare_order(self, messages: list[tuple[str, list[int]]]) -> None:
        names = [name for name, _ in messages]
        if names[: len(self.order)] != self.order or len(names) != len(set(names)):
            raise ValueError(f"what was there before this round changed its place: {self.order[-3:]} in {names}")
        if set(names) != {key[2] for state in self.states for key in state if key[:2] == ("message", self.shared[0])}:
            raise ValueError(f"{self.shared[0]} holds messages that nobody wrote")
        self.order = names


def outcomes(state: State, pending: Change | None) -> Iterator[State]:
    """What may be there after an operation that was begun: nothing of it, or all of it.

    Of several messages that are appended also the first few; and where a thread and its messages change together, which
    are two files, also the new messages under the old title.
    """
    yield state
    if pending is None:
        return
    if all(key[0] == "message" and value is not None for key, value in pending):
        for count in range(1, len(pending)):
            yield applied(state, pending[:count])
    (kind, *_), value = pending[0]
    if kind == "thread" and value is not None and pending[0][0] in state:
        yield applied(state, pending[1:])
    yield applied(state, pending)


def check_order(state: State, there: State) -> None:
    """Raises ValueError unless a writer's messages are in the same order there."""
    places = {key: place for place, key in enumerate(there)}
    last: dict[str, int] = {}
    for key in state:
        if key[0] == "message":
            if places[key] < last.get(key[1], -1):
                raise ValueError(f"message {key[2]} of {key[1]} is not where it was put")
            last[key[1]] = places[key]


def difference(actual: State, state: State, after: State) -> str:
    lines = []
    for key in sorted({*actual, *state, *after}, key=str):
        values = actual.get(key), state.get(key), after.get(key)
        if len({json.dumps(value) for value in values}) > 1:
            lines.append(
                f"{key}: there {values[0]}, acknowledged {values[1]}, or {values[2]} if what was under way is done"
            )
    return "not what was acknowledged:\n" + "\n".join(lines[:20])


def parsed(told: bytes) -> tuple[list[Change], Change | None]:
    """A writer's operations that are done, and the one that it was about to do."""
    done: list[Change] = []
    pending: Change | None = None
    *lines, _ = told.split(b"\n")  # the last one ends in a newline, or was cut
    for line in filter(None, lines):
        what, given = json.loads(line)
        change = [(tuple(key), value) for key, value in given]
        if what == "done":
            done.append(change)
            pending = None
        else:
            pending = change
    return done, pending


def main(data_dir: Path, seed: int, rounds: int) -> dict[str, int]:
    open_repository(settings(data_dir))  # for what it imports, which every child then has
    rng = random.Random(seed)
    epochs = [Epoch(data_dir)]
    readers = [forked(lambda pipe, n=n: read_all_along(data_dir, n, pipe)) for n in range(READERS)]
    try:
        for number in range(rounds):
            if number and number % ROUNDS_OF_AN_EPOCH == 0:
                epochs.append(Epoch(data_dir))
            epochs[-1].round(f"{seed}-{number}", rng)
        read = 0
        while readers:
            pid, pipe = readers.pop()
            os.write(pipe, b"?")
            answer = drained(pipe)
            if os.waitpid(pid, 0)[1] != 0:
                raise ValueError("a reader saw something broken: what it raised is above")
            read += json.loads(answer)
    finally:
        for pid, _ in readers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    expected: State = {}
    for epoch in epochs:
        expected |= dict.fromkeys([("thread", thread_id) for thread_id in epoch.shared[1:]], "shared")
        expected |= {("thread", epoch.shared[0]): "only appended"}
        for state in epoch.states:
            expected |= state
    last = found_states(in_a_fresh_process(lambda: found(open_repository(settings(data_dir)), None)))
    if last != expected:
        raise ValueError("at the end: " + difference(last, expected, expected))
    return {
        "rounds": rounds,
        "acknowledged": sum(epoch.acknowledged for epoch in epochs),
        "in_flight": sum(epoch.in_flight for epoch in epochs),
        "objects": len(last),
        "read": read,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
