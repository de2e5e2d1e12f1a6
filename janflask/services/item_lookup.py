"""Finds an item that a client names by its id alone, as some send what was answered before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.files import ids
from janflask.storage.base import Page, ThreadStore
from janflask.storage.items import Item, message_ids_of, readable_items
from janflask.storage.records import Message

_AHEAD_MS = 10_000  # a message that comes with its thread may have got its id before that
MOST = 1000  # threads that are looked at; that of an answer of its own is nearly always the first


def finder(threads: ThreadStore, history: Sequence[Message]) -> Callable[[str], Item]:
    """Finds items: in ``history``, else in the thread that was there when the item's message was made.

    What it gives raises NotFoundError. Other threads are gone through from the newest that may have the message on, but
    first that of the item before; one with an id that does not tell its time is found in the history only.
    """
    last: list[str] = []  # the thread in which one was found: a client that names many has them from there

    @cache
    def known() -> Mapping[str, Item]:
        return {item.id: item for message in history for item in readable_items(message)}

    def find(item_id: str) -> Item:
        if (found := known().get(item_id)) is not None:
            return found
        for thread_id, message in _elsewhere(threads, item_id, last):
            for item in readable_items(message):
                if item.id == item_id:
                    last[:] = [thread_id]
                    return item
        raise NotFoundError(f"Item with id '{item_id[:128]}' not found.")

    return find


def _elsewhere(threads: ThreadStore, item_id: str, first: Sequence[str]) -> Iterator[tuple[str, Message]]:
    for name in message_ids_of(item_id):
        made_ms = ids.time_of(name)
        if made_ms is None:
            continue
        for thread_id in chain(first, _there(threads, made_ms)):
            try:
                if threads.get(thread_id).updated_ms >= made_ms:
                    yield thread_id, threads.get_message(thread_id, name)
            except (NotFoundError, ConflictError, StoreDamagedError):
                continue


def _there(threads: ThreadStore, made_ms: int) -> Iterator[str]:
    """The threads of that time, the newest first."""
    behind = ids.new_id(ids.THREAD, made_ms + _AHEAD_MS)
    yield from islice(threads.ids(Page(limit=None, after=behind)), MOST)
