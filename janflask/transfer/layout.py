"""The store's objects as the files of its folder layout, for an archive or for another folder.

Whose they are is left out: the ids of this server's keys say nothing elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.storage.base import Page, Repository
from janflask.storage.file_uploads import CONTENT_FILE, DESCRIPTION_FILE, encode_file
from janflask.storage.jan import FILES_FOLDER, MESSAGES_FILE, THREAD_FILE, encode_message, encode_thread
from janflask.storage.jan_assistants import ASSISTANT_FILE, encode_assistant
from janflask.storage.records import Assistant, StoredFile, Thread
from janflask.transfer.streams import pieces_of

log = logging.getLogger(__name__)

THREADS, ASSISTANTS, FILES = "threads", "assistants", "files"
_PAGE = 100

Progress = Callable[[int, int], None]  # done, of how many


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path with ``/``, its time in milliseconds, its bytes (read once, to the end)."""

    path: str
    modified_ms: int
    pieces: Iterable[bytes]


def thread_entries(repository: Repository, thread: Thread) -> Iterator[Entry]:
    """A thread's files; none if it is gone. What is no plain file is left out, and logged."""
    try:
        messages = repository.threads.all_messages(thread.id)
        names = _own_files(repository, thread.id)
    except NotFoundError:
        return
    except ConflictError as error:
        log.warning("thread %s is left out of an archive: %s", thread.id, error)
        return
    folder = f"{THREADS}/{thread.id}"
    yield Entry(f"{folder}/{THREAD_FILE}", thread.updated_ms, [encode_thread(replace(thread, owner=None))])
    yield Entry(f"{folder}/{MESSAGES_FILE}", thread.updated_ms, (encode_message(message) for message in messages))
    for name in names:
        try:
            file = repository.threads.open_file(thread.id, name)
        except (NotFoundError, ConflictError) as error:
            log.warning("a file of thread %s is left out of an archive: %s", thread.id, error)
            continue
        yield Entry(f"{folder}/{FILES_FOLDER}/{name}", thread.updated_ms, pieces_of(file))


def _own_files(repository: Repository, thread_id: str) -> list[str]:
    try:
        return [item.name for item in repository.threads.files(thread_id)]
    except ConflictError as error:
        log.warning("the files of thread %s are left out of an archive: %s", thread_id, error)
        return []


def assistant_entry(assistant: Assistant) -> Entry:
    """An assistant's file."""
    path = f"{ASSISTANTS}/{assistant.id}/{ASSISTANT_FILE}"
    return Entry(path, assistant.created_ms, [encode_assistant(replace(assistant, owner=None))])


def file_entries(repository: Repository, stored: StoredFile) -> Iterator[Entry]:
    """An uploaded file's description and content; nothing if it is gone."""
    try:
        content = repository.files.open(stored.id)
    except (NotFoundError, ConflictError, StoreDamagedError) as error:
        log.warning("file %s is left out of an archive: %s", stored.id, error)
        return
    folder = f"{FILES}/{stored.id}"
    yield Entry(f"{folder}/{CONTENT_FILE}", stored.created_ms, pieces_of(content))
    yield Entry(f"{folder}/{DESCRIPTION_FILE}", stored.created_ms, [encode_file(replace(stored, owner=None))])


def all_entries(repository: Repository) -> Iterator[Entry]:
    """Everything: assistants, uploaded files, threads."""
    for assistant in repository.assistants.list(Page(limit=None)).items:
        yield assistant_entry(assistant)
    for stored in all_files(repository):
        yield from file_entries(repository, stored)
    for thread in repository.threads.all():
        yield from thread_entries(repository, thread)


def all_files(repository: Repository) -> Iterator[StoredFile]:
    """Every uploaded file, a page at a time."""
    page = repository.files.list(Page(limit=_PAGE))
    yield from page.items
    while page.has_more and page.items:
        try:
            page = repository.files.list(Page(limit=_PAGE, after=page.items[-1].id))
        except NotFoundError:
            return
        yield from page.items
