"""The repository's protocol. ``tests/unit/storage`` has one suite for every implementation.

All methods are thread-safe. Any of them may raise the errors named here:

* NotFoundError: there is no such object, or the id is not one (``ids.is_id``).
* ConflictError: the id is taken, or what is on disk is not a plain file (a symbolic link).
* StoreBusyError: another writer held the object's lock for longer than ``JANFLASK_LOCK_TIMEOUT``; nothing changed.
* StorageFullError: the disk or a quota is full, or a file may grow no further; nothing changed (except where only the
  last step failed, waiting for a folder to reach the disk: then the change may be there, whole).
* StoreDamagedError: a file that is needed cannot be understood; ``janflask doctor`` says what to do.

When a method that changes something returns, the change is on disk (unless ``JANFLASK_DURABILITY=os``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Generic, Literal, Protocol, Self, TypeVar

from janflask.storage.records import Assistant, Message, Run, StoredFile, Thread, ThreadFile
from janflask.storage.run_log import LogEvent

T = TypeVar("T")
Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted.

    ``after`` and ``before`` are ids of the list: its items between the two, both excluded. Of these the first ``limit``
    in the list's order, or the last ones where only ``before`` is given (the page before a page). A limit of None means
    all. An id that is not in the list is an InvalidRequestError that names the field, except one of our own making,
    which still tells its place after its object was deleted.

    ``owner`` leaves out what is not that key's; None: nothing. Of assistants those that are nobody's stay.

    Of threads (``storage.branches``): ``family`` leaves out all but that one and its branches. Without ``branches``
    those are left out whose first thread is in the list, and stands for them there.
    """

    limit: int | None = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None
    owner: str | None = None
    family: str | None = None
    branches: bool = True


EVERYTHING = Page(limit=None)


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """A page's items in the list's order; ``has_more``: the list goes on (backwards for a page by ``before`` alone)."""

    items: Sequence[T]
    has_more: bool


class ThreadStore(Protocol):
    """Threads and their messages. Threads are listed by creation, messages in the order in which they were appended."""

    def create(
        self, thread: Thread, messages: Sequence[Message] = (), files: Sequence[tuple[str, BinaryIO]] = ()
    ) -> Thread:
        """Stores a new thread with its messages and its own files (name, content), all in one step.

        Where the id is one by ``ids.new_id``, its time should be the thread's ``created_ms``: either may be sorted by.
        Names of files are made safe (``ids.safe_name``).
        """

    def get(self, thread_id: str) -> Thread: ...

    def with_message_ids(self, thread_id: str) -> tuple[Thread, Sequence[str]]:
        """``get`` and ``message_ids`` of one and the same thread, which is quicker than the two."""

    def owner(self, thread_id: str) -> str | None:
        """Whose it is, which is quicker to ask than ``get``."""

    def give(self, thread_id: str, owner: str | None) -> None:
        """It is the owner's from now on; nothing else of it changes."""

    def list(self, page: Page) -> Slice[Thread]:
        """A thread that cannot be read is left out, and logged."""

    def count(self, page: Page = EVERYTHING) -> int:
        """How many threads the page is cut from; its cursors and its limit don't count."""

    def ids(self, page: Page) -> Iterator[str]:
        """Those between the page's cursors, in its order, readable or not; ``limit`` is the caller's to keep."""

    def all(self, owner: str | None = None) -> Iterator[Thread]:
        """Every readable thread (or that key's), newest first, one at a time.

        Threads that come or go meanwhile may be missing.
        """

    def search(self, query: str, page: Page) -> Slice[Thread]:
        """The threads that have every word of ``query``, in the title or in a message's text, case apart.

        One that stands for its branches (a page without ``branches``) is found by the words of any of them, too.
        """

    def update(
        self,
        thread_id: str,
        change: Callable[[Thread], Thread],
        messages: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> Thread:
        """Replaces the thread by ``change(thread)``, and its messages by ``messages(its messages)`` unless None.

        Both run under the thread's lock; what they raise leaves everything as it was. The id and the owner stay, and
        ``updated_ms`` becomes now.
        """

    def delete(self, thread_id: str) -> None:
        """The thread, its messages and its own files are gone in one step."""

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        """Adds messages at the end: all of them or, on an error, none.

        ConflictError for an id that another message has; one by ``ids.new_id`` is taken to be new.
        """

    def message_ids(self, thread_id: str) -> Sequence[str]: ...

    def all_messages(self, thread_id: str) -> Iterator[Message]:
        """In order, one at a time, as they were when it was called. What cannot be read is left out, and logged."""

    def list_messages(self, thread_id: str, page: Page, *, run_id: str | None = None) -> Slice[Message]: ...

    def get_message(self, thread_id: str, message_id: str) -> Message: ...

    def update_message(self, thread_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        """Replaces the message, in its place; ``change`` runs under the thread's lock. Its id stays."""

    def delete_message(self, thread_id: str, message_id: str) -> None: ...

    def files(self, thread_id: str) -> Sequence[ThreadFile]:
        """What is in the thread's own ``files/`` folder, by name."""

    def open_file(self, thread_id: str, name: str) -> BinaryIO:
        """One of them, to read; the caller closes it."""


class AssistantStore(Protocol):
    """Assistants. ``jan`` is there even where no file describes it."""

    def create(self, assistant: Assistant) -> Assistant: ...

    def get(self, assistant_id: str) -> Assistant: ...

    def list(self, page: Page) -> Slice[Assistant]:
        """By creation; one that cannot be read is left out, and logged."""

    def update(self, assistant_id: str, change: Callable[[Assistant], Assistant]) -> Assistant:
        """Its id and its owner stay."""

    def give(self, assistant_id: str, owner: str | None) -> None:
        """It is the owner's from now on. ConflictError for ``jan``, which is everybody's."""

    def delete(self, assistant_id: str) -> None:
        """ConflictError for ``jan``."""


class Upload(Protocol):
    """A file that is being received. It is nowhere to be seen until ``commit``; exactly one of the two ends it."""

    def write(self, data: bytes, /) -> int: ...

    def commit(
        self,
        filename: str,
        purpose: str,
        *,
        file_id: str | None = None,
        created_ms: int | None = None,
        owner: str | None = None,
    ) -> StoredFile:
        """Stores it under a new id, now; an import names the id (ConflictError if it is taken) and the time it had."""

    def discard(self) -> None:
        """Forgets it; harmless after ``commit``."""


class FileStore(Protocol):
    """Uploaded files."""

    def begin(self) -> Upload: ...

    def get(self, file_id: str) -> StoredFile: ...

    def list(self, page: Page, *, purpose: str | None = None) -> Slice[StoredFile]:
        """By creation; one that cannot be read is left out, and logged."""

    def open(self, file_id: str) -> BinaryIO:
        """Its content, to read; the caller closes it."""

    def holding(self, file_ids: Sequence[str], thread_id: str) -> AbstractContextManager[None]:
        """While it lasts, none of the files can be deleted; from then on ``thread_id`` counts as a possible holder.

        Messages that hold files are stored inside. NotFoundError names the first file that does not exist.
        """

    def give(self, file_id: str, owner: str | None) -> None:
        """It is the owner's from now on."""

    def delete(self, file_id: str, is_held: Callable[[str], bool]) -> None:
        """ConflictError if ``is_held(thread_id)`` is true for one of its possible holders."""


class EventWriter(Protocol):
    """Adds to a run's event log. One thread uses it; a context manager that closes it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def add(self, events: Sequence[LogEvent]) -> None:
        """They survive the end of any process of ours. All of them or, on an error, none."""

    def sync(self) -> None:
        """What was added survives a power cut, too."""


class RunStore(Protocol):
    """Runs of threads and their event logs (``run_log``). Of a thread's runs one at most is not final.

    A run is the truth on how far it is, and changes before its log tells so.
    """

    def create(self, run: Run, still: Callable[[], bool] = lambda: True) -> bool:
        """False: another run of the thread is open, or ``still()`` is not so any more, and nothing was changed.

        ``still`` is asked while no other run of the thread can be made. Logs of the runs before (``RunKind.RUN``) go.
        """

    def get(self, thread_id: str, run_id: str) -> Run: ...

    def update(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        """The run with ``change`` made, under its thread's lock."""

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        """By creation; one that cannot be read is left out, and logged."""

    def ids(self, thread_id: str) -> Sequence[str]:
        """Those of the thread's runs, readable or not, by creation."""

    def delete(self, thread_id: str, run_id: str) -> None:
        """The run and its log; what it added to the thread stays. ConflictError for one that is not final."""

    def idle(self, thread_id: str) -> AbstractContextManager[bool]:
        """While it lasts no run of the thread can be made. False: one is open, so that it keeps none away."""

    def open_run(self, thread_id: str) -> str | None:
        """The id of the thread's run that is not final yet; one that nobody can read any more is none."""

    def close(self, thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        """The run with ``change`` made, which ends it: its thread is free for the next. Its message is stored before.

        Its log is completed. Idempotent.
        """

    def all_open(self) -> Iterator[tuple[str, str]]:
        """(thread id, run id) of every run that is not final, also of one whose thread is gone."""

    def forget(self, run_id: str) -> None:
        """Nobody has to look after the run any more. Idempotent."""

    def event_log(self, thread_id: str, run_id: str) -> EventWriter:
        """To go on with the log. A line that a crash cut short is not there."""

    def events(self, thread_id: str, run_id: str) -> Sequence[LogEvent]:
        """The log so far: an event's number is its place, from 1.

        A final run (``RunKind.RUN``) has it until the thread's next one, others as long as they are there.

        ``run_log.missing`` completes what a crash cut short. Raises StoreDamagedError for what is no event.
        """


def _anybodys(thread_id: str) -> None:
    """Where nobody asks whose a thread is."""


@dataclass(frozen=True, slots=True)
class Repository:
    """All that is stored, or what somebody sees of it (``owned``).

    ``check`` raises NotFoundError for a thread that is not to be seen: for whoever asks others than the store for it.
    """

    threads: ThreadStore
    assistants: AssistantStore
    files: FileStore
    runs: RunStore
    check: Callable[[str], None] = _anybodys
