"""Threads in folders: ``threads/<id>/`` with ``thread.json``, ``messages.jsonl`` and ``files/``, as Jan has them."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from janflask.errors import ConflictError, InvalidRequestError, JanflaskError, NotFoundError
from janflask.records import Message, Thread, ThreadFile
from janflask.storage import folders, ids, message_log
from janflask.storage.base import Page, Slice
from janflask.storage.disk import (
    FILE_MODE,
    FOLDER_MODE,
    STAGING,
    Disk,
    open_plain,
    opened_folder,
    read_plain,
    translate,
    translated,
)
from janflask.storage.jan import (
    FILES_FOLDER,
    MESSAGES_FILE,
    THREAD_FILE,
    decode_object,
    encode_message,
    encode_thread,
    thread_from_json,
)
from janflask.storage.locks import FolderLocks
from janflask.storage.lru import Recent
from janflask.storage.message_index import MessageIndex
from janflask.storage.message_log import Line, Log, Signature, is_settled
from janflask.storage.search import Words
from janflask.storage.thread_index import ThreadIndex

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_THREAD_FILE = 4 << 20  # bytes
_THREADS_KEPT = 4096
_IDS_KEPT = 300_000  # of messages, about 100 bytes each
_NEAR_END = 200  # lines in which a message is looked for before the whole file is


@dataclasses.dataclass(frozen=True, slots=True)
class _View:
    """A thread as its two files say, and how these were when they said it."""

    about: tuple[Signature, Signature | None]
    thread: Thread


class FileThreadStore:
    """``ThreadStore`` over the folder ``root``. ``index_file`` is where the order of threads is remembered."""

    def __init__(self, root: Path, index_file: Path, disk: Disk, locks: FolderLocks) -> None:
        self._root = root
        self._root_name = str(root)
        self._disk = disk
        self._locks = locks
        self._index = ThreadIndex(root, index_file, self._creation_of, locks.timeout)
        self._views: Recent[_View] = Recent(_THREADS_KEPT)
        self._indexes: Recent[MessageIndex] = Recent(_IDS_KEPT)

    # --- threads ----------------------------------------------------------------------------------------------------

    def create(
        self, thread: Thread, messages: Sequence[Message] = (), files: Sequence[tuple[str, BinaryIO]] = ()
    ) -> Thread:
        """See ``ThreadStore``."""
        folders.check_new_id("thread", thread.id)
        what = f"thread {thread.id}"
        with translated(what), self._disk.staged(self._root) as (staged, fd):
            self._disk.create(fd, THREAD_FILE, encode_thread(thread))
            self._disk.create(fd, MESSAGES_FILE, _encoded(messages, thread.id))
            if files:
                self._add_files(fd, files)
            self._disk.sync(fd)
            with self._index.adding(thread.id, thread.created_ms):
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
            return known
        with self._opened(thread_id) as fd:
            return self._read(fd, thread_id)

    def list(self, page: Page) -> Slice[Thread]:
        """See ``ThreadStore``."""
        return self._chosen(page, self._readable)

    def count(self) -> int:
        """See ``ThreadStore``."""
        return self._index.count()

    def all(self) -> Iterator[Thread]:
        """See ``ThreadStore``."""
        names = self._index.names(Page(limit=None))
        return (thread for name in names if (thread := self._readable(name)) is not None)

    def search(self, query: str, page: Page) -> Slice[Thread]:
        """See ``ThreadStore``."""
        words = Words(query)
        return self._chosen(page, lambda name: self._matching(name, words))

    def update(
        self,
        thread_id: str,
        change: Callable[[Thread], Thread],
        messages: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> Thread:
        """See ``ThreadStore``."""
        with self._writing(thread_id) as fd:
            before = self._read(fd, thread_id)
            # A copy: what was read is shared with others, and a change may alter what is nested in it and then fail.
            changed = dataclasses.replace(change(copy.deepcopy(before)), id=thread_id, updated_ms=ids.now_ms())
            if messages is None:
                self._disk.replace(fd, THREAD_FILE, encode_thread(changed))
            else:
                message_log.mend(self._disk, fd, thread_id)
                data = _encoded(messages(tuple(self.all_messages(thread_id))), thread_id)
                self._disk.replace_both(fd, (MESSAGES_FILE, data), (THREAD_FILE, encode_thread(changed)))
            return self._read(fd, thread_id)

    def delete(self, thread_id: str) -> None:
        """See ``ThreadStore``."""
        with self._writing(thread_id):
            with self._index.removing(thread_id):
                gone = self._disk.retire(self._root, thread_id)
            try:
                self._disk.sync_root(self._root)
            except BaseException:
                self._disk.restore(self._root, f"{STAGING}/{gone}", thread_id)
                raise
        self._views.drop(thread_id)
        self._indexes.drop(thread_id)
        self._disk.discard(self._root, gone)

    # --- messages ---------------------------------------------------------------------------------------------------

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        """See ``ThreadStore``."""
        data = _encoded(messages, thread_id)
        # An id of our own making is nobody else's, so that only others have to be looked for.
        foreign = {message.id for message in messages if ids.time_of(message.id) is None}
        with self._writing(thread_id) as fd:
            if foreign:
                self._refuse_taken(fd, thread_id, foreign)
            message_log.append(self._disk, fd, data, thread_id)

    def _refuse_taken(self, fd: int, thread_id: str, names: set[str]) -> None:
        with self._log(fd, thread_id) as messages:
            taken = () if messages is None else names.intersection(self._index_of(messages, thread_id).ids)
        for name in taken:
            raise _taken(thread_id, name)

    def message_ids(self, thread_id: str) -> Sequence[str]:
        """See ``ThreadStore``."""
        known = self._indexes.get(thread_id)
        if known is not None and known.signature == _signature(None, self._path(thread_id, MESSAGES_FILE)):
            return tuple(known.ids)
        with self._opened(thread_id) as fd, self._log(fd, thread_id) as messages:
            return () if messages is None else tuple(self._index_of(messages, thread_id).ids)

    def all_messages(self, thread_id: str) -> Iterator[Message]:
        """See ``ThreadStore``."""
        # The file is opened now, so that a thread that is not there is told at the call.
        with self._opened(thread_id) as fd:
            try:
                file = open_plain(fd, MESSAGES_FILE)
            except FileNotFoundError:
                return iter(())
        return _Messages(file, thread_id)

    def list_messages(self, thread_id: str, page: Page, *, run_id: str | None = None) -> Slice[Message]:
        """See ``ThreadStore``."""
        with self._opened(thread_id) as fd, self._log(fd, thread_id) as messages:
            if messages is None:
                _refuse_cursors(page)
                return Slice((), False)
            lines = self._lines(messages, thread_id, page)
            wanted = (
                message
                for line in lines
                if (message := messages.message(line)) is not None and run_id in (None, message.run_id)
            )
            return _cut(wanted, page)

    def get_message(self, thread_id: str, message_id: str) -> Message:
        """See ``ThreadStore``."""
        with self._opened(thread_id) as fd, self._log(fd, thread_id) as messages:
            return self._find(messages, thread_id, message_id)[1]

    def update_message(self, thread_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        """See ``ThreadStore``."""
        with self._writing(thread_id) as fd:
            message_log.mend(self._disk, fd, thread_id)
            with self._log(fd, thread_id) as messages:
                place, before = self._find(messages, thread_id, message_id)
                changed = dataclasses.replace(change(before), id=message_id, thread_id=thread_id)
                self._rewrite(fd, messages, place, encode_message(changed))
                return changed

    def delete_message(self, thread_id: str, message_id: str) -> None:
        """See ``ThreadStore``."""
        with self._writing(thread_id) as fd:
            message_log.mend(self._disk, fd, thread_id)
            with self._log(fd, thread_id) as messages:
                place, _ = self._find(messages, thread_id, message_id)
                self._rewrite(fd, messages, place, None)

    # --- the thread's own files -------------------------------------------------------------------------------------

    def files(self, thread_id: str) -> Sequence[ThreadFile]:
        """See ``ThreadStore``."""
        with self._opened(thread_id) as fd:
            try:
                with opened_folder(FILES_FOLDER, fd) as folder, os.scandir(folder) as entries:
                    plain = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
                    found = [ThreadFile(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in plain]
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda file: file.name)

    def open_file(self, thread_id: str, name: str) -> BinaryIO:
        """See ``ThreadStore``."""
        what = f"file {name[:200]!r} in thread {thread_id}"
        if not _is_file_name(name):
            raise NotFoundError(f"there is no {what}")
        with self._opened(thread_id) as fd, translated(what), opened_folder(FILES_FOLDER, fd) as folder:
            return os.fdopen(open_plain(folder, name), "rb")

    def _add_files(self, fd: int, files: Sequence[tuple[str, BinaryIO]]) -> None:
        os.mkdir(FILES_FOLDER, FOLDER_MODE, dir_fd=fd)
        taken: set[str] = set()
        with opened_folder(FILES_FOLDER, fd) as folder:
            for name, content in files:
                safe = ids.free_name(ids.safe_name(name), taken)
                taken.add(safe)
                file = os.open(safe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=folder)
                with os.fdopen(file, "wb") as out:
                    shutil.copyfileobj(content, out)
                    out.flush()
                    self._disk.sync(out.fileno())
            self._disk.sync(folder)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _folder(self, thread_id: str) -> Path:
        if not ids.is_id(thread_id):
            raise NotFoundError(f"there is no thread {thread_id[:128]!r}")
        return self._root / thread_id

    def _path(self, thread_id: str, name: str) -> str:
        return f"{self._root_name}/{thread_id}/{name}"

    def _still_true(self, thread_id: str) -> Thread | None:
        """What was read before, if both files are still the same ones, wherever their path leads now."""
        known = self._views.get(thread_id)
        if known is None:
            return None
        about = (_signature(None, self._path(thread_id, name)) for name in (THREAD_FILE, MESSAGES_FILE))
        return known.thread if known.about == tuple(about) else None

    @contextmanager
    def _opened(self, thread_id: str) -> Iterator[int]:
        folder = self._folder(thread_id)
        try:
            with opened_folder(folder) as fd:
                yield fd
        except OSError as error:
            raise _told(error, folder) from error
        except ConflictError:
            _refuse_link(folder)
            raise

    @contextmanager
    def _writing(self, thread_id: str) -> Iterator[int]:
        folder = self._folder(thread_id)
        try:
            with self._locks.exclusive(folder, f"thread {thread_id}", THREAD_FILE) as fd:
                yield fd
        except OSError as error:
            raise _told(error, folder) from error
        except ConflictError:
            _refuse_link(folder)
            raise

    def _read(self, fd: int, thread_id: str) -> Thread:
        data, stat = read_plain(fd, THREAD_FILE, MAX_THREAD_FILE, f"thread {thread_id}")
        raw = decode_object(data, f"{THREAD_FILE} of thread {thread_id}")
        thread = thread_from_json(raw, thread_id, int(stat.st_mtime_ns // 1_000_000))
        with self._log(fd, thread_id) as messages:
            last = None if messages is None else _last(messages)
            log_about = None if messages is None else messages.signature
            settled = is_settled(stat) and (messages is None or messages.settled)
        if last is not None and last.created_ms > thread.updated_ms:
            thread = dataclasses.replace(thread, updated_ms=last.created_ms)
        if settled:
            self._views.put(thread_id, _View((message_log.signature(stat), log_about), thread))
        return thread

    def _creation_of(self, thread_id: str) -> int:
        """When a thread with a foreign id was made, as far as that can be found out."""
        try:
            return self.get(thread_id).created_ms
        except (JanflaskError, OSError):
            with suppress(OSError):
                return int(os.lstat(self._root / thread_id).st_mtime_ns // 1_000_000)
            return 0

    def _readable(self, thread_id: str) -> Thread | None:
        try:
            return self.get(thread_id)
        except NotFoundError:
            return None  # a folder without the file, or gone meanwhile
        except (JanflaskError, OSError) as error:
            log.warning("thread %s is left out of a list: %s", thread_id, error)
            return None

    def _matching(self, thread_id: str, words: Words) -> Thread | None:
        thread = self._readable(thread_id)
        if thread is None or not words.missing(thread.title):
            return thread
        try:
            with self._opened(thread_id) as fd, self._log(fd, thread_id) as messages:
                return None if words.missing(thread.title, messages) else thread
        except (JanflaskError, OSError) as error:
            log.warning("the messages of thread %s cannot be searched: %s", thread_id, error)
            return None

    def _chosen(self, page: Page, load: Callable[[str], Thread | None]) -> Slice[Thread]:
        found = (thread for name in self._index.names(page) if (thread := load(name)) is not None)
        return _cut(found, page)

    @contextmanager
    def _log(self, fd: int, thread_id: str) -> Iterator[Log | None]:
        with message_log.opened(fd, thread_id) as messages:
            yield messages

    def _index_of(self, messages: Log, thread_id: str) -> MessageIndex:
        known = self._indexes.get(thread_id)
        index = None if known is None else known.grown(messages)
        if index is None:
            index = MessageIndex(messages)
        if messages.settled:
            self._indexes.put(thread_id, index, len(index) + 10)
        return index

    def _lines(self, messages: Log, thread_id: str, page: Page) -> Iterator[Line]:
        """The lines between the page's cursors, beginning at the end from which the page is cut."""
        backwards = page.before is not None and page.after is None
        newest_first = (page.order == "desc") != backwards
        if page.after is None and page.before is None:
            return messages.backward() if newest_first else messages.forward()
        index = self._index_of(messages, thread_id)
        rows = index.rows(messages, page)
        return (index.line(messages, row) for row in (reversed(rows) if newest_first else rows))

    def _find(self, messages: Log | None, thread_id: str, message_id: str) -> tuple[Line, Message]:
        if messages is not None:
            for line in islice(messages.backward(), _NEAR_END):
                if messages.id(line) == message_id and (message := messages.message(line)) is not None:
                    return line, message
            index = self._index_of(messages, thread_id)
            row = index.row(messages, message_id)
            if row is not None:
                line = index.line(messages, row)
                message = messages.message(line)
                if message is not None and message.id == message_id:
                    return line, message
        raise NotFoundError(f"there is no message {message_id[:128]!r} in thread {thread_id}")

    def _rewrite(self, fd: int, messages: Log | None, place: Line, data: bytes | None) -> None:
        """Writes the file anew, with ``data`` instead of the line at ``place``, or without it."""
        if messages is None:
            return
        lines = (data if line.start == place.start else line.data for line in messages.forward())
        message_log.rewrite(self._disk, fd, (line for line in lines if line is not None))


def _told(error: OSError, folder: Path) -> Exception:
    """The operating system's error about a thread's folder as ours."""
    told = translate(error, f"thread {folder.name}")
    if isinstance(told, ConflictError):
        _refuse_link(folder)
    return told


def _refuse_link(folder: Path) -> None:
    """What is no folder itself, a symbolic link for one, is no thread; such things in a thread's folder are told."""
    if folder.is_symlink() or not folder.is_dir():
        raise NotFoundError(f"there is no thread {folder.name}") from None


def _encoded(messages: Sequence[Message], thread_id: str) -> bytes:
    names: set[str] = set()
    for message in messages:
        if message.id in names:
            raise _taken(thread_id, message.id)
        names.add(message.id)
    return b"".join(
        encode_message(message if message.thread_id == thread_id else dataclasses.replace(message, thread_id=thread_id))
        for message in messages
    )


def _taken(thread_id: str, message_id: str) -> ConflictError:
    return ConflictError(f"thread {thread_id} has a message {message_id[:128]!r} already", param="messages")


def _is_file_name(name: str) -> bool:
    try:
        data = name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(data) < 256 and b"/" not in data and b"\0" not in data and data not in (b".", b"..")


def _signature(fd: int | None, name: str) -> Signature | None:
    try:
        return message_log.signature(os.stat(name, dir_fd=fd, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _last(messages: Log) -> Message | None:
    return next((message for line in messages.backward() if (message := messages.message(line)) is not None), None)


class _Messages:
    """A log's messages one by one; its file is closed with it, whether anybody asked for them or not."""

    def __init__(self, file: int, thread_id: str) -> None:
        weakref.finalize(self, os.close, file)
        log = Log(file, thread_id)
        self._messages = (message for line in log.forward() if (message := log.message(line)) is not None)

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        return next(self._messages)


def _refuse_cursors(page: Page) -> None:
    for param in ("after", "before"):
        cursor = getattr(page, param)
        if cursor is not None and ids.time_of(cursor) is None:
            raise InvalidRequestError(
                f"{param} is {cursor[:128]!r}, and there is no such message in this thread", param=param
            )


def _cut(found: Iterator[T], page: Page) -> Slice[T]:
    """The page out of what comes, beginning at the end from which it is cut."""
    items = list(found if page.limit is None else islice(found, page.limit + 1))
    has_more = page.limit is not None and len(items) > page.limit
    del items[page.limit if page.limit is not None else len(items) :]
    if page.before is not None and page.after is None:
        items.reverse()
    return Slice(items, has_more)
