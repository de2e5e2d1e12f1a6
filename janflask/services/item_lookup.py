"""Finds an item that a client names by its id alone, as some send what was answered before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    What it gives raises NotFoundError. Other threads are gone through from the newest that may have the message on; one
    with an id that does not tell its time is found in the history only.
    """

    def find(item_id: str) -> Item:
        for message in chain(reversed(history), _elsewhere(threads, item_id)):
            for item in readable_items(message):
                if item.id == item_id:
                    return item
        raise NotFoundError(f"Item with id '{item_id[:128]}' not found.")

    return find


def _elsewhere(threads: ThreadStore, item_id: str) -> Iterator[Message]:
    for name in message_ids_of(item_id):
        made_ms = ids.time_of(name)
        if made_ms is None:
            continue
        behind = ids.new_id(ids.THREAD, made_ms + _AHEAD_MS)
        for thread_id in islice(threads.ids(Page(limit=None, after=behind)), MOST):
            try:
                if threads.get(thread_id).updated_ms >= made_ms:
                    yield threads.get_message(thread_id, name)
            except (NotFoundError, ConflictError, StoreDamagedError):
                continue
