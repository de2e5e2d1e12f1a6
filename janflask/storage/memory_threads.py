"""Threads and their messages in memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.storage.base import EVERYTHING, Page, Slice
from janflask.storage.branches import root_of
from janflask.storage.folders import check_new_id
from janflask.storage.paging import Key, cut
from janflask.storage.records import Message, Thread, ThreadFile
from janflask.storage.search import folded


def check_new(kind: str, new_id: str, taken: Mapping[str, object]) -> None:
    """Raises InvalidRequestError for what is no id, ConflictError for one that is in use."""
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


class MemoryThreadStore:
    """Threads, with their messages and files of their own."""

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
            check_new("thread", thread.id, self._conversations)
            conversation = _Conversation(deepcopy(thread), _joined({}, thread.id, messages), contents)
            self._conversations[thread.id] = conversation
            return conversation.view()

    def get(self, thread_id: str) -> Thread:
        with self._lock:
            return self._find(thread_id).view()

    def with_message_ids(self, thread_id: str) -> tuple[Thread, Sequence[str]]:
        with self._lock:
            return self.get(thread_id), self.message_ids(thread_id)

    def owner(self, thread_id: str) -> str | None:
        return self.get(thread_id).owner

    def give(self, thread_id: str, owner: str | None) -> None:
        with self._lock:
            conversation = self._find(thread_id)
            conversation.thread = replace(conversation.thread, owner=owner)

    def list(self, page: Page) -> Slice[Thread]:
        with self._lock:
            return cut(self._keys(page), page, self.get)

    def count(self, page: Page = EVERYTHING) -> int:
        with self._lock:
            return len(self._keys(page))

    def ids(self, page: Page) -> Iterator[str]:
        with self._lock:
            found: Sequence[str] = cut(self._keys(page), replace(page, limit=None), lambda thread_id: thread_id).items
        is_backwards = page.before is not None and page.after is None
        return iter(found[::-1] if is_backwards else found)

    def all(self, owner: str | None = None) -> Iterator[Thread]:
        return iter(self.list(Page(limit=None, owner=owner)).items)

    def search(self, query: str, page: Page) -> Slice[Thread]:
        words = folded(query).split()
        with self._lock:
            return cut(self._keys(page), page, lambda key: self.get(key) if self._matches(key, words, page) else None)

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
            owner = conversation.thread.owner
            conversation.thread = replace(changed, id=thread_id, owner=owner, updated_ms=ids.now_ms())
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

    def _keys(self, page: Page) -> Sequence[Key]:
        threads = self._of(page.owner)
        kept = list(threads.values())
        if page.family is not None:
            kept = [thread for thread in kept if page.family in (thread.id, root_of(thread))]
        if not page.branches:
            first = {thread.id for thread in threads.values() if root_of(thread) is None}
            kept = [thread for thread in kept if root_of(thread) not in first]
        return sorted((thread.created_ms, thread.id) for thread in kept)

    def _of(self, owner: str | None) -> dict[str, Thread]:
        threads = {name: conversation.thread for name, conversation in self._conversations.items()}
        return {name: thread for name, thread in threads.items() if owner in (None, thread.owner)}

    def _matches(self, thread_id: str, words: Sequence[str], page: Page) -> bool:
        hidden = [] if page.branches else [one.id for one in self._of(page.owner).values() if root_of(one) == thread_id]
        return any(self._find(name).matches(words) for name in (thread_id, *hidden))

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
