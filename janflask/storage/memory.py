"""The repository in memory: for tests, and the plainest statement of what ``base`` says.

Everything is copied on its way in and out, so that nobody's later change to a nested dict is seen by anybody else.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import BinaryIO, Self

from janflask.errors import ConflictError, NotFoundError, StoreBusyError
from janflask.files import ids
from janflask.storage.base import Page, Repository, Slice, Upload
from janflask.storage.folders import check_new_id
from janflask.storage.jan_assistants import BUILT_IN
from janflask.storage.paging import Key, cut
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant, Message, Run, StoredFile, Thread, ThreadFile
from janflask.storage.run_log import LogEvent, missing, texts_of
from janflask.storage.search import folded


def memory_repository(*, lock_timeout: float = 5.0) -> Repository:
    """An empty repository; ``lock_timeout`` is in seconds."""
    threads = _Threads()
    return Repository(threads=threads, assistants=_Assistants(), files=_Files(lock_timeout), runs=_Runs(threads))


def _check_new(kind: str, new_id: str, taken: Mapping[str, object]) -> None:
    check_new_id(kind, new_id)
    if new_id in taken:
        raise ConflictError(f"there is a {kind} {new_id} already", param="id")


@dataclass(slots=True)
class _Conversation:
    thread: Thread
    messages: dict[str, Message]
    files: dict[str, bytes] = field(default_factory=dict)

    def view(self) -> Thread:
        """The thread as it is told."""
        last_ms = max((message.created_ms for message in self.messages.values()), default=0)
        return replace(deepcopy(self.thread), updated_ms=max(self.thread.updated_ms, last_ms))

    def matches(self, words: Sequence[str]) -> bool:
        texts = [folded(self.thread.title), *(folded(message.text) for message in self.messages.values())]
        return all(any(word in text for text in texts) for word in words)


class _Threads:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._conversations: dict[str, _Conversation] = {}

    def create(
        self, thread: Thread, messages: Sequence[Message] = (), files: Sequence[tuple[str, BinaryIO]] = ()
    ) -> Thread:
        contents: dict[str, bytes] = {}
        for name, content in files:
            contents[ids.free_name(ids.safe_name(name), contents)] = content.read()
        with self._lock:
            _check_new("thread", thread.id, self._conversations)
            conversation = _Conversation(deepcopy(thread), _joined({}, thread.id, messages), contents)
            self._conversations[thread.id] = conversation
            return conversation.view()

    def get(self, thread_id: str) -> Thread:
        with self._lock:
            return self._find(thread_id).view()

    def list(self, page: Page) -> Slice[Thread]:
        with self._lock:
            return cut(self._keys(), page, self.get)

    def count(self) -> int:
        with self._lock:
            return len(self._conversations)

    def all(self) -> Iterator[Thread]:
        return iter(self.list(Page(limit=None)).items)

    def search(self, query: str, page: Page) -> Slice[Thread]:
        words = folded(query).split()
        with self._lock:
            return cut(self._keys(), page, lambda key: self.get(key) if self._find(key).matches(words) else None)

    def update(
        self,
        thread_id: str,
        change: Callable[[Thread], Thread],
        messages: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> Thread:
        with self._lock:
            conversation = self._find(thread_id)
            changed = deepcopy(change(conversation.view()))
            if messages is not None:
                present = tuple(deepcopy(list(conversation.messages.values())))
                conversation.messages = _joined({}, thread_id, messages(present))
            conversation.thread = replace(changed, id=thread_id, updated_ms=ids.now_ms())
            return conversation.view()

    def delete(self, thread_id: str) -> None:
        with self._lock:
            self._find(thread_id)
            del self._conversations[thread_id]

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        with self._lock:
            conversation = self._find(thread_id)
            conversation.messages = _joined(conversation.messages, thread_id, messages)

    def message_ids(self, thread_id: str) -> Sequence[str]:
        with self._lock:
            return tuple(self._find(thread_id).messages)

    def all_messages(self, thread_id: str) -> Iterator[Message]:
        with self._lock:
            return iter(deepcopy(list(self._find(thread_id).messages.values())))

    def list_messages(self, thread_id: str, page: Page, *, run_id: str | None = None) -> Slice[Message]:
        with self._lock:
            messages = self._find(thread_id).messages
            keys = [(message.created_ms, message.id) for message in messages.values()]
            return cut(
                keys, page, lambda key: deepcopy(messages[key]) if run_id in (None, messages[key].run_id) else None
            )

    def get_message(self, thread_id: str, message_id: str) -> Message:
        with self._lock:
            return deepcopy(self._find_message(thread_id, message_id))

    def update_message(self, thread_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        with self._lock:
            changed = deepcopy(change(self.get_message(thread_id, message_id)))
            changed = replace(changed, id=message_id, thread_id=thread_id)
            self._find(thread_id).messages[message_id] = changed
            return deepcopy(changed)

    def delete_message(self, thread_id: str, message_id: str) -> None:
        with self._lock:
            self._find_message(thread_id, message_id)
            del self._find(thread_id).messages[message_id]

    def files(self, thread_id: str) -> Sequence[ThreadFile]:
        with self._lock:
            return [ThreadFile(name, len(content)) for name, content in sorted(self._find(thread_id).files.items())]

    def open_file(self, thread_id: str, name: str) -> BinaryIO:
        with self._lock:
            content = self._find(thread_id).files.get(name)
        if content is None:
            raise NotFoundError(f"thread {thread_id} has no file {name[:200]!r}")
        return io.BytesIO(content)

    def _keys(self) -> Sequence[Key]:
        return sorted((value.thread.created_ms, thread_id) for thread_id, value in self._conversations.items())

    def _find(self, thread_id: str) -> _Conversation:
        conversation = self._conversations.get(thread_id)
        if conversation is None:
            raise NotFoundError(f"there is no thread {thread_id[:200]!r}", param="thread_id")
        return conversation

    def _find_message(self, thread_id: str, message_id: str) -> Message:
        message = self._find(thread_id).messages.get(message_id)
        if message is None:
            raise NotFoundError(f"thread {thread_id} has no message {message_id[:200]!r}", param="message_id")
        return message


def _joined(present: Mapping[str, Message], thread_id: str, added: Sequence[Message]) -> dict[str, Message]:
    messages = dict(present)
    for message in added:
        if message.id in messages:
            raise ConflictError(f"thread {thread_id} has a message {message.id[:200]!r} already", param="messages")
        messages[message.id] = replace(deepcopy(message), thread_id=thread_id)
    return messages


class _Assistants:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._assistants = {BUILT_IN.id: BUILT_IN}

    def create(self, assistant: Assistant) -> Assistant:
        with self._lock:
            _check_new("assistant", assistant.id, self._assistants)
            self._assistants[assistant.id] = deepcopy(assistant)
            return deepcopy(assistant)

    def get(self, assistant_id: str) -> Assistant:
        with self._lock:
            assistant = self._assistants.get(assistant_id)
        if assistant is None:
            raise NotFoundError(f"there is no assistant {assistant_id[:200]!r}", param="assistant_id")
        return deepcopy(assistant)

    def list(self, page: Page) -> Slice[Assistant]:
        with self._lock:
            keys = sorted((assistant.created_ms, assistant.id) for assistant in self._assistants.values())
            return cut(keys, page, self.get)

    def update(self, assistant_id: str, change: Callable[[Assistant], Assistant]) -> Assistant:
        with self._lock:
            changed = replace(deepcopy(change(self.get(assistant_id))), id=assistant_id)
            self._assistants[assistant_id] = changed
            return deepcopy(changed)

    def delete(self, assistant_id: str) -> None:
        if assistant_id == DEFAULT_ASSISTANT:
            raise ConflictError(f"the assistant {DEFAULT_ASSISTANT} always exists and cannot be deleted")
        with self._lock:
            self.get(assistant_id)
            del self._assistants[assistant_id]


@dataclass(slots=True)
class _File:
    described: StoredFile
    content: bytes
    holders: set[str] = field(default_factory=set)
    holding: int = 0


class _Upload:
    def __init__(self, files: _Files) -> None:
        self._files = files
        self._content: io.BytesIO | None = io.BytesIO()

    def write(self, data: bytes, /) -> int:
        return self._open().write(data)

    def commit(
        self, filename: str, purpose: str, *, file_id: str | None = None, created_ms: int | None = None
    ) -> StoredFile:
        stored = self._files.add(self._open().getvalue(), filename, purpose, file_id, created_ms)
        self._content = None
        return stored

    def discard(self) -> None:
        self._content = None

    def _open(self) -> io.BytesIO:
        if self._content is None:
            raise ValueError("this upload has ended")
        return self._content


class _Files:
    def __init__(self, lock_timeout: float) -> None:
        self._timeout = lock_timeout
        self._changed = threading.Condition()
        self._files: dict[str, _File] = {}

    def begin(self) -> Upload:
        return _Upload(self)

    def add(
        self, content: bytes, filename: str, purpose: str, file_id: str | None, created_ms: int | None
    ) -> StoredFile:
        file_id = file_id or ids.new_id(ids.FILE, created_ms)
        described = StoredFile(
            id=file_id,
            created_ms=(ids.time_of(file_id) or ids.now_ms()) if created_ms is None else created_ms,
            filename=filename,
            purpose=purpose,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        with self._changed:
            _check_new("file", file_id, self._files)
            self._files[file_id] = _File(described, content)
        return described

    def get(self, file_id: str) -> StoredFile:
        return deepcopy(self._find(file_id).described)

    def list(self, page: Page, *, purpose: str | None = None) -> Slice[StoredFile]:
        with self._changed:
            stored = {file_id: file.described for file_id, file in self._files.items()}
        # An id of ours tells the place, so that a store on disk needs to read nothing to find it.
        keys = sorted((ids.time_of(file_id) or file.created_ms, file_id) for file_id, file in stored.items())
        return cut(keys, page, lambda key: stored[key] if purpose in (None, stored[key].purpose) else None)

    def open(self, file_id: str) -> BinaryIO:
        return io.BytesIO(self._find(file_id).content)

    @contextmanager
    def holding(self, file_ids: Sequence[str], thread_id: str) -> Iterator[None]:
        if not ids.is_id(thread_id):
            raise NotFoundError(f"{thread_id[:200]!r} is not the id of a thread", param="thread_id")
        with self._changed:
            held = [self._find(file_id) for file_id in dict.fromkeys(file_ids)]
            for file in held:
                file.holding += 1
                file.holders.add(thread_id)
        try:
            yield
        finally:
            with self._changed:
                for file in held:
                    file.holding -= 1
                self._changed.notify_all()

    def delete(self, file_id: str, is_held: Callable[[str], bool]) -> None:
        with self._changed:
            file = self._find(file_id)
            if not self._changed.wait_for(lambda: file.holding == 0, self._timeout):
                raise StoreBusyError(f"file {file_id} is being used; try again", retry_after=1)
            self._find(file_id)
            for thread_id in sorted(file.holders):
                if is_held(thread_id):
                    raise ConflictError(f"file {file_id} is held by a message of thread {thread_id}; delete that first")
            del self._files[file_id]

    def _find(self, file_id: str) -> _File:
        with self._changed:
            file = self._files.get(file_id)
        if file is None:
            raise NotFoundError(f"there is no file {file_id[:200]!r}", param="file_id")
        return file


class _EventWriter:
    def __init__(self, events: list[LogEvent]) -> None:
        self._events = events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return

    def add(self, events: Sequence[LogEvent]) -> None:
        self._events.extend(events)

    def sync(self) -> None:
        return


class _Runs:
    def __init__(self, threads: _Threads) -> None:
        self._lock = threading.RLock()
        self._threads = threads
        self._runs: dict[tuple[str, str], Run] = {}
        self._logs: dict[tuple[str, str], list[LogEvent]] = {}

    def create(self, run: Run) -> bool:
        with self._lock:
            if self.open_run(run.thread_id) is not None:
                return False
            for key in [key for key in self._logs if key[0] == run.thread_id]:
                del self._logs[key]
            self._runs[run.thread_id, run.id] = deepcopy(run)
            return True

    def get(self, thread_id: str, run_id: str) -> Run:
        self._threads.get(thread_id)
        if (thread_id, run_id) not in self._runs:
            raise NotFoundError(f"there is no run {run_id[:128]!r}", param="run_id")
        return deepcopy(self._runs[thread_id, run_id])

    def update(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        with self._lock:
            self._runs[thread_id, run_id] = deepcopy(change(self.get(thread_id, run_id)))
            return self.get(thread_id, run_id)

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        self._threads.get(thread_id)
        keys: list[Key] = sorted((ids.time_of(run) or 0, run) for thread, run in self._runs if thread == thread_id)
        return cut(keys, page, lambda run_id: self.get(thread_id, run_id))

    def open_run(self, thread_id: str) -> str | None:
        self._threads.get(thread_id)
        runs = [run for (thread, _), run in self._runs.items() if thread == thread_id]
        return next((run.id for run in runs if not run.status.is_final), None)

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        with self._lock:
            was_open = self.open_run(thread_id) == run_id
            run = self.update(thread_id, run_id, change)
            if was_open:
                events = self._logs.setdefault((thread_id, run_id), [])
                events += missing(run, events)
            return run

    def all_open(self) -> Iterator[tuple[str, str]]:
        return iter([key for key, run in list(self._runs.items()) if not run.status.is_final])

    def forget(self, run_id: str) -> None:
        with self._lock:
            for key in [key for key in self._runs if key[1] == run_id and not self._runs[key].status.is_final]:
                del self._runs[key]

    def event_log(self, thread_id: str, run_id: str) -> _EventWriter:
        self.get(thread_id, run_id)
        return _EventWriter(self._logs.setdefault((thread_id, run_id), []))

    def events(self, thread_id: str, run_id: str) -> Sequence[LogEvent]:
        self.get(thread_id, run_id)
        return list(self._logs.get((thread_id, run_id), []))

    def said(self, thread_id: str, run_id: str) -> Sequence[str]:
        return texts_of(self.events(thread_id, run_id))
