"""Threads and messages as somebody sees them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO, TypeVar

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.storage.base import EVERYTHING, Page, Slice, ThreadStore
from janflask.storage.owned.viewer import Viewer, is_own, maker, owner_for, page_for
from janflask.storage.records import Message, Thread, ThreadFile

T = TypeVar("T")

log = logging.getLogger(__name__)


class OwnedThreadStore:
    """``base.ThreadStore`` over ``store``. One that cannot be read is nobody's, and so for those who see all."""

    def __init__(self, store: ThreadStore, viewer: Callable[[], Viewer]) -> None:
        self._store = store
        self._viewer = viewer

    def check(self, thread_id: str) -> None:
        """Raises NotFoundError, the same for a thread of somebody else's and for one that never was."""
        viewer = self._viewer()
        if not viewer.sees_all and not is_own(viewer, self._found(thread_id, self._store.owner)):
            raise _missing(thread_id)

    def _found(self, thread_id: str, find: Callable[[str], T]) -> T:
        """Raises NotFoundError, also for what cannot be read."""
        try:
            return find(thread_id)
        except NotFoundError:
            pass
        except (StoreDamagedError, ConflictError) as error:
            log.debug("a thread is kept from its owner: %s", error.message)  # lists tell of it once
        raise _missing(thread_id)

    def _seen(self, thread_id: str, find: Callable[[str], T], owner: Callable[[T], str | None]) -> T:
        """What ``find`` gives, if it tells itself that it is the viewer's: nothing more is asked."""
        viewer = self._viewer()
        if viewer.sees_all:
            return find(thread_id)
        found = self._found(thread_id, find)
        if not is_own(viewer, owner(found)):
            raise _missing(thread_id)
        return found

    def create(
        self, thread: Thread, messages: Sequence[Message] = (), files: Sequence[tuple[str, BinaryIO]] = ()
    ) -> Thread:
        return self._store.create(replace(thread, owner=maker(self._viewer())), messages, files)

    def get(self, thread_id: str) -> Thread:
        return self._seen(thread_id, self._store.get, lambda thread: thread.owner)

    def with_message_ids(self, thread_id: str) -> tuple[Thread, Sequence[str]]:
        return self._seen(thread_id, self._store.with_message_ids, lambda found: found[0].owner)

    def owner(self, thread_id: str) -> str | None:
        self.check(thread_id)
        return self._store.owner(thread_id)

    def give(self, thread_id: str, owner: str | None) -> None:
        self.check(thread_id)
        self._store.give(thread_id, owner)

    def list(self, page: Page) -> Slice[Thread]:
        return self._store.list(page_for(self._viewer(), page))

    def count(self, page: Page = EVERYTHING) -> int:
        return self._store.count(page_for(self._viewer(), page))

    def ids(self, page: Page) -> Iterator[str]:
        return self._store.ids(page_for(self._viewer(), page))

    def all(self, owner: str | None = None) -> Iterator[Thread]:
        return self._store.all(owner_for(self._viewer()) or owner)

    def search(self, query: str, page: Page) -> Slice[Thread]:
        return self._store.search(query, page_for(self._viewer(), page))

    def update(
        self,
        thread_id: str,
        change: Callable[[Thread], Thread],
        messages: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
    ) -> Thread:
        self.check(thread_id)
        viewer = self._viewer()

        def changed(thread: Thread) -> Thread:
            if not is_own(viewer, thread.owner):  # it was given away, or is another of the same id
                raise _missing(thread_id)
            return change(thread)

        return self._store.update(thread_id, changed, messages)

    def delete(self, thread_id: str) -> None:
        self.check(thread_id)
        self._store.delete(thread_id)

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        self.check(thread_id)
        self._store.append(thread_id, messages)

    def message_ids(self, thread_id: str) -> Sequence[str]:
        self.check(thread_id)
        return self._store.message_ids(thread_id)

    def all_messages(self, thread_id: str) -> Iterator[Message]:
        self.check(thread_id)
        return self._store.all_messages(thread_id)

    def list_messages(self, thread_id: str, page: Page, *, run_id: str | None = None) -> Slice[Message]:
        self.check(thread_id)
        return self._store.list_messages(thread_id, page, run_id=run_id)

    def get_message(self, thread_id: str, message_id: str) -> Message:
        self.check(thread_id)
        return self._store.get_message(thread_id, message_id)

    def update_message(self, thread_id: str, message_id: str, change: Callable[[Message], Message]) -> Message:
        self.check(thread_id)
        return self._store.update_message(thread_id, message_id, change)

    def delete_message(self, thread_id: str, message_id: str) -> None:
        self.check(thread_id)
        self._store.delete_message(thread_id, message_id)

    def files(self, thread_id: str) -> Sequence[ThreadFile]:
        self.check(thread_id)
        return self._store.files(thread_id)

    def open_file(self, thread_id: str, name: str) -> BinaryIO:
        self.check(thread_id)
        return self._store.open_file(thread_id, name)


def _missing(thread_id: str) -> NotFoundError:
    return NotFoundError(f"there is no thread {thread_id[:128]!r}", param="thread_id")
