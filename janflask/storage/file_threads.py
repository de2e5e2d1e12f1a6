"""Threads in folders: ``threads/<id>/`` with ``thread.json``, ``messages.jsonl`` and ``files/``, as Jan has them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from janflask.files import ids
from janflask.files.disk import Disk, read_plain, translated
from janflask.files.locks import FolderLocks
from janflask.storage import folders, message_log, thread_files
from janflask.storage.base import EVERYTHING, Page, Slice
from janflask.storage.branches import root_in, root_of
from janflask.storage.changes import message_changes
from janflask.storage.jan import (
    MESSAGES_FILE,
    THREAD_FILE,
    decode_object,
    encode_thread,
    given,
    owner_in,
    thread_from_json,
)
from janflask.storage.lru import Recent
from janflask.storage.message_log import Log, Signature, is_settled, signature_at
from janflask.storage.paging import cut_in_order
from janflask.storage.records import Message, Thread, ThreadFile
from janflask.storage.search import Words
from janflask.storage.thread_folders import ThreadFolders
from janflask.storage.thread_index import Facts, ThreadIndex
from janflask.storage.thread_messages import ThreadMessages, encoded
from janflask.webhooks.events import of_thread
from janflask.webhooks.outbox import Telling, untold

MAX_THREAD_FILE = 4 << 20  # bytes
_THREADS_KEPT = 4096
_OWNERS_KEPT = 16_384


@dataclasses.dataclass(frozen=True, slots=True)
class _View:
    """A thread as its two files say, and how these were when they said it."""

    about: tuple[Signature, Signature | None]
    thread: Thread


class FileThreadStore(ThreadMessages):
    """``ThreadStore`` over the folder ``root``. ``index_file`` is where the order of threads is remembered."""

    def __init__(self, root: Path, index_file: Path, disk: Disk, locks: FolderLocks, telling: Telling = untold) -> None:
        super().__init__(ThreadFolders(root, locks), disk, telling)
        self._root = root
        self._index = ThreadIndex(root, index_file, self._creation_of, self._facts_of, locks.timeout)
        self._views: Recent[_View] = Recent(_THREADS_KEPT)
        self._owners: Recent[tuple[Signature, str | None]] = Recent(_OWNERS_KEPT)
        self._listed = folders.Readable(root, THREAD_FILE, "thread")

    def create(
        self, thread: Thread, messages: Sequence[Message] = (), files: Sequence[tuple[str, BinaryIO]] = ()
    ) -> Thread:
        """See ``ThreadStore``."""
        folders.check_new_id("thread", thread.id)
        with translated(f"thread {thread.id}"), self._disk.staged(self._root) as (staged, fd):
            self._disk.create(fd, THREAD_FILE, encode_thread(thread))
            self._disk.create(fd, MESSAGES_FILE, encoded(messages, thread.id))
            if files:
                thread_files.add(self._disk, fd, files)
            self._disk.sync(fd)
            with (
                self._telling(of_thread("created", thread.id), alone=True),
                self._index.adding(thread.id, thread.created_ms, _facts(thread)),
            ):
                self._disk.place(self._root, staged, thread.id)
            try:
                self._disk.sync_root(self._root)
            except BaseException:
                self.delete(thread.id)
                raise
        return self.get(thread.id)

    def get(self, thread_id: str) -> Thread:
        """See ``ThreadStore``."""
        known = self._still_true(thread_id)
        if known is not None:
            return known.thread
        with self._folders.opened(thread_id) as fd:
            return self._read(fd, thread_id)

    def with_message_ids(self, thread_id: str) -> tuple[Thread, Sequence[str]]:
        """See ``ThreadStore``. Two questions to the file system where nothing has changed."""
        known, index = self._still_true(thread_id), self._indexes.get(thread_id)
        if known is not None and index is not None and index.signature == known.about[1]:
            return known.thread, tuple(index.ids)
        with self._folders.opened(thread_id) as fd:
            return self._read(fd, thread_id), self.ids_in(fd, thread_id)

    def owner(self, thread_id: str) -> str | None:
        """See ``ThreadStore``. One question to the file system where nothing has changed."""
        known = self._owners.get(thread_id)
        if known is not None and signature_at(self._folders.path(thread_id, THREAD_FILE)) == known[0]:
            return known[1]
        return self._told(thread_id).owner

    def give(self, thread_id: str, owner: str | None) -> None:
        """See ``ThreadStore``."""
        with self._folders.writing(thread_id) as fd:
            data, stat = read_plain(fd, THREAD_FILE, MAX_THREAD_FILE, f"thread {thread_id}")
            raw = decode_object(data, f"{THREAD_FILE} of thread {thread_id}")
            thread = thread_from_json(raw, thread_id, int(stat.st_mtime_ns // 1_000_000))
            changed = dataclasses.replace(thread, owner=owner)
            with self._index.noting(thread_id, _facts(changed)):
                self._disk.replace(fd, THREAD_FILE, encode_thread(changed))

    def list(self, page: Page) -> Slice[Thread]:
        """See ``ThreadStore``."""
        return self._chosen(page, self._readable)

    def count(self, page: Page = EVERYTHING) -> int:
        """See ``ThreadStore``."""
        return self._index.count(page)

    def ids(self, page: Page) -> Iterator[str]:
        """See ``ThreadStore``."""
        return self._index.names(page)

    def all(self, owner: str | None = None) -> Iterator[Thread]:
        """See ``ThreadStore``."""
        return self._found(Page(limit=None, owner=owner), self._readable)

    def search(self, query: str, page: Page) -> Slice[Thread]:
        """See ``ThreadStore``."""
        words = Words(query)
        hidden = {} if page.branches else self._index.branches(page.owner)

        def matching(name: str) -> Thread | None:
            thread = self._readable(name)
            if thread is None or self._has(thread, words):
                return thread
            others = map(self._readable, hidden.get(name, ()))
            return thread if any(one is not None and self._has(one, words) for one in others) else None

        return self._chosen(page, matching)

    def update(
        self,
        thread_id: str,
        change: Callable[[Thread], Thread],
        messages: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> Thread:
        """See ``ThreadStore``."""
        with self._folders.writing(thread_id) as fd:
            before = self._read(fd, thread_id)
            # A copy: what was read is shared with others, and a change may alter what is nested in it and then fail.
            changed = change(copy.deepcopy(before))
            changed = dataclasses.replace(changed, id=thread_id, owner=before.owner, updated_ms=ids.now_ms())
            told = [of_thread("updated", thread_id)]
            facts = _facts(changed)
            noted = nullcontext() if facts == _facts(before) else self._index.noting(thread_id, facts)
            if messages is None:
                with self._telling(*told), noted:
                    self._disk.replace(fd, THREAD_FILE, encode_thread(changed))
            else:
                message_log.mend(self._disk, fd, thread_id)
                present = tuple(self.all_messages(thread_id))
                wanted = messages(present)
                data = encoded(wanted, thread_id)
                with self._telling(*told, *message_changes(thread_id, present, wanted)), noted:
                    self._disk.replace_both(fd, (MESSAGES_FILE, data), (THREAD_FILE, encode_thread(changed)))
            return self._read(fd, thread_id)

    def delete(self, thread_id: str) -> None:
        """See ``ThreadStore``."""
        told = self._telling(of_thread("deleted", thread_id), alone=True)  # somebody may make it anew
        with self._folders.writing(thread_id), told:
            with self._index.removing(thread_id):
                gone = self._disk.retire(self._root, thread_id)
            folders.settle_removal(self._disk, self._root, thread_id, gone)
        self._views.drop(thread_id)
        self.forget_messages(thread_id)
        self._disk.discard(self._root, gone)

    def files(self, thread_id: str) -> Sequence[ThreadFile]:
        """See ``ThreadStore``."""
        with self._folders.opened(thread_id) as fd:
            return thread_files.listed(fd)

    def open_file(self, thread_id: str, name: str) -> BinaryIO:
        """See ``ThreadStore``."""
        with self._folders.opened(thread_id) as fd:
            return thread_files.opened(fd, thread_id, name)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _still_true(self, thread_id: str) -> _View | None:
        """What was read before, if both files are still the same ones, wherever their path leads now."""
        known = self._views.get(thread_id)
        if known is None:
            return None
        about = (signature_at(self._folders.path(thread_id, name)) for name in (THREAD_FILE, MESSAGES_FILE))
        return known if known.about == tuple(about) else None

    def _read(self, fd: int, thread_id: str) -> Thread:
        data, stat = read_plain(fd, THREAD_FILE, MAX_THREAD_FILE, f"thread {thread_id}")
        raw = decode_object(data, f"{THREAD_FILE} of thread {thread_id}")
        thread = thread_from_json(raw, thread_id, int(stat.st_mtime_ns // 1_000_000))
        with message_log.opened(fd, thread_id) as messages:
            last = None if messages is None else _last(messages)
            log_about = None if messages is None else messages.signature
            settled = is_settled(stat) and (messages is None or messages.settled)
        if last is not None and last.created_ms > thread.updated_ms:
            thread = dataclasses.replace(thread, updated_ms=last.created_ms)
        if settled:
            self._views.put(thread_id, _View((message_log.signature(stat), log_about), thread))
        return thread

    def _creation_of(self, thread_id: str) -> int | None:
        """When a thread with a foreign id was made; None as long as it cannot be read."""
        thread = self._readable(thread_id)
        return None if thread is None else thread.created_ms

    def _readable(self, thread_id: str) -> Thread | None:
        return self._listed.get(thread_id, self.get)

    def _has(self, thread: Thread, words: Words) -> bool:
        """Whether all of the words are in its title and its messages."""
        if not words.missing(thread.title):
            return True
        return self._listed.get(thread.id, lambda _: self._missing(thread, words)) == frozenset()

    def _missing(self, thread: Thread, words: Words) -> frozenset[str]:
        with self._folders.opened(thread.id) as fd, message_log.opened(fd, thread.id) as messages:
            return words.missing(thread.title, messages)

    def _chosen(self, page: Page, load: Callable[[str], Thread | None]) -> Slice[Thread]:
        return cut_in_order(self._found(page, load), page)

    def _found(self, page: Page, load: Callable[[str], Thread | None]) -> Iterator[Thread]:
        """What ``load`` gives for the threads between the page's cursors."""
        names = self._index.names(page)
        return (found for name in names if (found := load(name)) is not None and self._belongs(found, page))

    def _belongs(self, thread: Thread, page: Page) -> bool:
        """Whether the thread is still what the index says; another program may have written its file anew."""
        root = root_of(thread)
        is_on = page.owner in (None, thread.owner) and page.family in (None, thread.id, root)
        is_on = is_on and (page.branches or root is None or not self._index.stands_for(root, page.owner))
        if not is_on:
            self._index.doubt(thread.id)
        return is_on

    def _facts_of(self, thread_id: str) -> Facts | None:
        """What a thread's file says; None as long as it cannot be read."""
        return self._listed.get(thread_id, self._told)

    def _told(self, thread_id: str) -> Facts:
        with self._folders.opened(thread_id) as fd:
            data, stat = read_plain(fd, THREAD_FILE, MAX_THREAD_FILE, f"thread {thread_id}")
        raw = decode_object(data, f"{THREAD_FILE} of thread {thread_id}")
        facts = Facts(owner_in(raw), root_in(given(raw, "metadata", dict), thread_id))
        if is_settled(stat):
            self._owners.put(thread_id, (message_log.signature(stat), facts.owner))
        return facts


def _facts(thread: Thread) -> Facts:
    return Facts(thread.owner, root_of(thread))


def _last(messages: Log) -> Message | None:
    return next((message for line in messages.backward() if (message := messages.message(line)) is not None), None)
