"""A small store, every operation that changes it, and faults at each system call of one.

An operation is done with the n-th of its system calls going wrong, for every n. Whatever happens, a reader then finds
what was there before or, where the operation went well all the same, what it makes.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from janflask.storage import open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.records import Assistant, Thread
from tests.integration.store_records import content, new_message, new_thread, settings, text_part

EVERYTHING = Page(limit=None, order="asc")
TALK, HOLDER = "talk", "holder"  # threads
WRITER = "writer"  # an assistant
UPLOADED = "uploaded.txt"  # held by a message of HOLDER
SPARE = "spare.txt"  # held by none
MESSAGES = [f"m{number}" for number in range(3)]  # of TALK
SIZES = [200, 9_000, 400]


def fill(data_dir: Path) -> None:
    """The store before each operation."""
    repository = open_repository(settings(data_dir))
    texts = [content(name, size) for name, size in zip(MESSAGES, SIZES, strict=True)]
    messages = [new_message(TALK, text, name) for name, text in zip(MESSAGES, texts, strict=True)]
    repository.threads.create(new_thread("talk", TALK, extra={"kept": [1, 2]}), messages)
    repository.threads.create(new_thread("holder", HOLDER), files=[("note.txt", io.BytesIO(b"note"))])
    upload_file(repository, SPARE)
    held = upload_file(repository, UPLOADED)
    with repository.files.holding([held], HOLDER):
        repository.threads.append(HOLDER, [new_message(HOLDER, content("h", 100), "h", file_ids=(held,))])
    repository.assistants.create(Assistant(id=WRITER, created_ms=1_700_000_000_000, name="Writer"))


def upload_file(repository: Repository, name: str) -> str:
    upload = repository.files.begin()
    try:
        for piece in range(3):
            upload.write(content(f"{name}-{piece}", 500).encode())
        return upload.commit(name, "assistants").id
    finally:
        upload.discard()


def file_id(repository: Repository, name: str) -> str:
    return next(stored.id for stored in repository.files.list(EVERYTHING).items if stored.filename == name)


def hold(repository: Repository) -> None:
    with repository.files.holding([file_id(repository, SPARE)], TALK):
        held = file_id(repository, SPARE)
        repository.threads.append(TALK, [new_message(TALK, content("n", 100), "n", file_ids=(held,))])


def titled(thread: Thread) -> Thread:
    return dataclasses.replace(thread, title="another")


def new_messages(thread_id: str, count: int = 3) -> list[Any]:
    return [new_message(thread_id, content(f"n{number}", 5_000), f"n{number}") for number in range(count)]


Operation = Callable[[Repository], object]
OPERATIONS: dict[str, Operation] = {
    "append": lambda r: r.threads.append(TALK, [new_message(TALK, content("n", 600), "n")]),
    "append several": lambda r: r.threads.append(TALK, new_messages(TALK)),
    "create a thread": lambda r: r.threads.create(
        new_thread("new", "new"), new_messages("new"), [("a.txt", io.BytesIO(b"a" * 300)), ("b", io.BytesIO(b"b"))]
    ),
    "update a thread": lambda r: r.threads.update(TALK, titled),
    "replace a thread's messages": lambda r: r.threads.update(TALK, titled, lambda _: new_messages(TALK)),
    "delete a thread": lambda r: r.threads.delete(HOLDER),
    "update a message": lambda r: r.threads.update_message(
        TALK, "m1", lambda m: dataclasses.replace(m, content=(text_part(content("m1", 12_000, 1)),))
    ),
    "delete a message": lambda r: r.threads.delete_message(TALK, "m1"),
    "create an assistant": lambda r: r.assistants.create(Assistant(id="new", created_ms=1_700_000_000_001, name="New")),
    "update an assistant": lambda r: r.assistants.update(WRITER, lambda a: dataclasses.replace(a, name="Another")),
    "update jan": lambda r: r.assistants.update("jan", lambda a: dataclasses.replace(a, instructions="Be brief.")),
    "delete an assistant": lambda r: r.assistants.delete(WRITER),
    "upload": lambda r: upload_file(r, "new.txt"),
    "hold a file": hold,
    "delete a file": lambda r: r.files.delete(file_id(r, SPARE), lambda thread_id: thread_id == HOLDER),
}

# What else a death in the middle may leave: the first few of several messages, each of them whole; or a thread's new
# messages, all of them, under its old title, since these are two files.
PARTS: dict[str, list[Operation]] = {
    "append several": [
        lambda r: r.threads.append(TALK, new_messages(TALK, 1)),
        lambda r: r.threads.append(TALK, new_messages(TALK, 2)),
    ],
    "replace a thread's messages": [
        lambda r: r.threads.update(TALK, lambda thread: thread, lambda _: new_messages(TALK))
    ],
}


def look(data_dir: Path) -> dict[str, Any]:
    """All that a newly opened store holds, without times of change and ids that no two runs have in common."""
    return seen_by(open_repository(settings(data_dir)))


def seen_by(repository: Repository) -> dict[str, Any]:
    uploads = {stored.id: stored.filename for stored in repository.files.list(EVERYTHING).items}
    threads = []
    for listed in repository.threads.list(EVERYTHING).items:
        thread = repository.threads.get(listed.id)
        messages = []
        for message in repository.threads.all_messages(thread.id):
            held = [uploads[name] for name in message.files]
            messages.append((message.id, message.role, message.text, held))
        own = []
        for file in repository.threads.files(thread.id):
            with repository.threads.open_file(thread.id, file.name) as opened:
                own.append((file.name, opened.read()))
        threads.append((thread.id, thread.title, dict(thread.extra), listed.title, messages, own))
    files = []
    for name, filename in uploads.items():
        with repository.files.open(name) as opened:
            files.append((filename, opened.read(), repository.files.get(name).bytes))
    assistants = [(assistant.id, assistant.name, assistant.instructions) for assistant in _assistants(repository)]
    return {
        "threads": sorted(threads),
        "count": repository.threads.count(),
        "files": sorted(files),
        "assistants": sorted(assistants),
    }


def _assistants(repository: Repository) -> list[Assistant]:
    return [repository.assistants.get(listed.id) for listed in repository.assistants.list(EVERYTHING).items]


# --- faults ---------------------------------------------------------------------------------------------------------

WRITING = ("write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range", "ftruncate", "posix_fallocate")
SYNCING = ("fsync", "fdatasync")
NAMING = ("rename", "replace", "link", "mkdir", "open")
REMOVING = ("unlink", "remove", "rmdir")

Action = Callable[[str, Callable[..., Any], tuple[Any, ...]], None]


@contextmanager
def fault(at: int, action: Action, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Calls ``action`` before the ``at``-th call of one of these functions of ``os``; gives the calls so far."""
    calls: list[str] = []

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **given: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **given)
            calls.append(name)
            if len(calls) == at:
                action(name, partial(real, **given), args)
            return real(*args, **given)

        return call

    with ExitStack() as stack:
        for name in names:
            if hasattr(os, name):
                stack.enter_context(mock.patch.object(os, name, counting(name, getattr(os, name))))
        yield calls


def no_space(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_quota(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def half_written(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """A disk that gets full in the middle of a write."""
    if name == "write":
        real(args[0], memoryview(args[1])[: len(args[1]) // 2])
    elif name == "writev":
        real(args[0], [memoryview(args[1][0])[: len(args[1][0]) // 2]])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
