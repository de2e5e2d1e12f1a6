"""The messages of threads in folders: ``messages.jsonl``, appended to, and written anew where a message changes."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.files.disk import Disk, open_plain
from janflask.storage import message_log
from janflask.storage.base import Page, Slice
from janflask.storage.jan import MESSAGES_FILE, encode_message
from janflask.storage.lru import Recent
from janflask.storage.message_index import MessageIndex
from janflask.storage.message_log import Line, Log
from janflask.storage.paging import cut_in_order, time_of_gone
from janflask.storage.records import Message
from janflask.storage.thread_folders import ThreadFolders
from janflask.webhooks.events import of_message
from janflask.webhooks.outbox import Telling, untold

_IDS_KEPT = 300_000  # about 100 bytes each
_NEAR_END = 200  # lines in which a message is looked for before the whole file is


class ThreadMessages:
    """The part of ``ThreadStore`` that is about messages; its methods are described there."""

    def __init__(self, folders: ThreadFolders, disk: Disk, telling: Telling = untold) -> None:
        self._folders = folders
        self._disk = disk
        self._telling = telling
        self._indexes: Recent[MessageIndex] = Recent(_IDS_KEPT)

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        """See ``ThreadStore``."""
        data = encoded(messages, thread_id)
        # An id of our own making is nobody else's, so that only others have to be looked for.
        foreign = {message.id for message in messages if ids.time_of(message.id) is None}
        with self._folders.writing(thread_id) as fd:
            if foreign:
                self._refuse_taken(fd, thread_id, foreign)
            with self._telling(*(of_message("created", thread_id, message.id) for message in messages)):
                message_log.append(self._disk, fd, data, thread_id)

    def message_ids(self, thread_id: str) -> Sequence[str]:
        """See ``ThreadStore``."""
        known = self._indexes.get(thread_id)
        if known is not None and known.signature == message_log.signature_at(
            self._folders.path(thread_id, MESSAGES_FILE)
        ):
            return tuple(known.ids)
        with self._folders.opened(thread_id) as fd:
            return self.ids_in(fd, thread_id)

    def all_messages(self, thread_id: str) -> Iterator[Message]:
        """See ``ThreadStore``."""
        # The file is opened now, so that a thread that is not there is told at the call.
        with self._folders.opened(thread_id) as fd:
            try:
                file = open_plain(fd, MESSAGES_FILE)
            except FileNotFoundError:
                return iter(())
        return _Messages(file, thread_id)

    def list_messages(self, thread_id: str, page: Page, *, run_id: str | None = None) -> Slice[Message]:
        """See ``ThreadStore``."""
        with self._folders.opened(thread_id) as fd, message_log.opened(fd, thread_id) as messages:
            if messages is None:
                for param in ("after", "before"):
                    if (cursor := getattr(page, param)) is not None:
                        time_of_gone(cursor, param)
                return Slice((), False)
            wanted = (
                message
                for line in self._lines(messages, thread_id, page)
                if (message := messages.message(line)) is not None and run_id in (None, message.run_id)
            )
            return cut_in_order(wanted, page)

    def get_message(self, thread_id: str, message_id: str) -> Message:
        """See ``ThreadStore``."""
        with self._folders.opened(thread_id) as fd, message_log.opened(fd, thread_id) as messages:
            return self._find(messages, thread_id, message_id)[1]

    def update_message(self, thread_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        """See ``ThreadStore``."""
        with self._folders.writing(thread_id) as fd:
            message_log.mend(self._disk, fd, thread_id)
            with message_log.opened(fd, thread_id) as messages:
                place, before = self._find(messages, thread_id, message_id)
                changed = dataclasses.replace(change(before), id=message_id, thread_id=thread_id)
                with self._telling(of_message("updated", thread_id, message_id)):
                    self._rewrite(fd, messages, place, encode_message(changed))
                return changed

    def delete_message(self, thread_id: str, message_id: str) -> None:
        """See ``ThreadStore``."""
        with self._folders.writing(thread_id) as fd:
            message_log.mend(self._disk, fd, thread_id)
            with message_log.opened(fd, thread_id) as messages:
                place, _ = self._find(messages, thread_id, message_id)
                with self._telling(of_message("deleted", thread_id, message_id)):
                    self._rewrite(fd, messages, place, None)

    def forget_messages(self, thread_id: str) -> None:
        """The thread is gone, and what is remembered of its messages with it."""
        self._indexes.drop(thread_id)

    def ids_in(self, fd: int, thread_id: str) -> Sequence[str]:
        """The ids of the messages in a thread's folder."""
        with message_log.opened(fd, thread_id) as messages:
            return () if messages is None else tuple(self._index_of(messages, thread_id).ids)

    # --- finding and replacing --------------------------------------------------------------------------------------

    def _refuse_taken(self, fd: int, thread_id: str, names: set[str]) -> None:
        with message_log.opened(fd, thread_id) as messages:
            taken = () if messages is None else names.intersection(self._index_of(messages, thread_id).ids)
        for name in taken:
            raise _taken(thread_id, name)

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
            known = self._indexes.get(thread_id)
            if known is None or known.grown(messages) is None:  # else it is found by that at once
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
        raise NotFoundError(f"there is no message {message_id[:128]!r} in thread {thread_id}", param="message_id")

    def _rewrite(self, fd: int, messages: Log | None, place: Line, data: bytes | None) -> None:
        """Writes the file anew, with ``data`` instead of the line at ``place``, or without it."""
        if messages is None:
            return
        lines = (data if start == place.start else kept for start, kept in message_log.lasting(messages))
        message_log.rewrite(self._disk, fd, (line for line in lines if line is not None))


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


def encoded(messages: Sequence[Message], thread_id: str) -> bytes:
    """The lines for ``messages`` in that thread. Raises ConflictError if two have the same id."""
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
