"""The items of a conversation: lines out of what a client brings, and one item at a time of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Reversible, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.files import ids
from janflask.services.call_order import CallOrder
from janflask.services.compaction import Compactions
from janflask.services.item_lines import check_size, draft_of, is_assistants, line_of, thoughts_line
from janflask.services.messages import MessageService, check_thread_id
from janflask.services.seals import Seals
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.base import Order, Page, Repository, Slice, ThreadStore
from janflask.storage.items import (
    Item,
    ItemDraft,
    ItemKind,
    ItemReference,
    ReasoningDraft,
    SealedDraft,
    SummaryDraft,
    items_of,
    message_ids_of,
    place_in,
    readable_items,
    summary_field,
    without,
)
from janflask.storage.records import Message, Thread, ThreadDraft

LOCKED = "conversation_locked"
MAX_READ = 100  # messages at a time


def locked(thread_id: str, run_id: str) -> ConflictError:
    """For a conversation that is being answered by ``run_id``."""
    return ConflictError(
        f"conversation {ids.conversation_id(thread_id)} is being answered by {run_id}: wait for its end, or cancel it",
        param="conversation",
        code=LOCKED,
    )


# --- what a client brings ---------------------------------------------------------------------------------------------


def drafted(
    thread_id: str,
    drafts: Sequence[ItemDraft],
    places: Sequence[str],
    resolve: Callable[[str], Item],
    *,
    max_bytes: int,
    before: Reversible[Message] | None = None,
) -> list[Message]:
    """Lines for ``drafts``, in order and not yet stored: one for each, but thoughts stand with what comes after them.

    ``resolve`` gives the stored item that a reference names, or raises NotFoundError. ``before`` are the lines that
    these come after; None: nobody knows them. ``places`` are where in the request the drafts came from, for errors:

    * InvalidRequestError for two calls with one id unless the first was answered, for a second output of a call, and
      for an output that comes before its call, or has none if ``before`` is known,
    * RequestTooLargeError for a line of more than ``max_bytes`` as JSON,
    * NotFoundError for a reference.
    """
    brought = [_resolved(draft, resolve, place) for draft, place in zip(drafts, places, strict=True)]
    calls = CallOrder.behind(before, brought)
    lines: list[tuple[Message, str]] = []
    thought, thought_place = "", ""  # of the draft before, for the assistant's line that follows
    for found, place in zip(brought, places, strict=True):
        if thought and not is_assistants(found):
            lines.append((thoughts_line(thread_id, thought), thought_place))
            thought = ""
        if isinstance(found, ReasoningDraft):
            thought, thought_place = found.text, place
            continue
        line = line_of(thread_id, found, thought)
        if isinstance(found, SummaryDraft):
            kept = [item.id for item, _ in lines[len(lines) - found.leading :]]
            line = replace(line, extra=summary_field(kept, found.encrypted_content))
        thought = ""
        calls.add(found, place)
        lines.append((line, place))
    if thought:
        lines.append((thoughts_line(thread_id, thought), thought_place))
    for line, place in lines:
        check_size(line, max_bytes, place)
    return [line for line, _ in lines]


def _resolved(draft: ItemDraft, resolve: Callable[[str], Item], place: str) -> ItemDraft:
    if not isinstance(draft, ItemReference):
        return draft
    try:
        return draft_of(resolve(draft.id))
    except NotFoundError:
        told = f"{place} is a reference to {draft.id[:128]!r}, and there is no such item"
        raise NotFoundError(told, param=place) from None


# --- what is stored ---------------------------------------------------------------------------------------------------


class ItemService:
    """Adds, lists and deletes the items of threads. Thread-safe.

    Besides what is said here, every method raises what the repository's do (``janflask.storage.base``).
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        *,
        threads: ThreadService,
        messages: MessageService,
        seals: Seals,
        compactions: Compactions,
    ) -> None:
        self._max_bytes = settings.max_message_mb << 20
        self._seals = seals
        self._compactions = compactions
        self._threads = repository.threads
        self._runs = repository.runs
        self._messages = messages
        self._thread_service = threads

    def create_thread(self, metadata: Mapping[str, Any], drafts: Sequence[ItemDraft], places: Sequence[str]) -> Thread:
        """A new thread with these items. Raises what ``opened`` and ``drafted`` do; then there is none."""
        thread, _ = self._thread_service.drafted(ThreadDraft(fields={"metadata": metadata}))
        lines = self.drafted(thread.id, *self.opened(drafts, places), before=())
        return self._thread_service.add(thread, {line.id: line for line in lines}).thread

    def create(self, thread_id: str, drafts: Sequence[ItemDraft], places: Sequence[str]) -> Sequence[Item]:
        """The items, stored at the thread's end: all of them or none.

        Raises what ``opened`` and ``drafted`` do, and ConflictError while the thread is being answered.
        """
        check_thread_id(thread_id)
        self._threads.get(thread_id)
        self.check_free(thread_id)
        lines = self.drafted(thread_id, *self.opened(drafts, places), before=_Lines(self._threads, thread_id))
        if lines:
            self._messages.add(thread_id, {line.id: line for line in lines})
        return [item for line in lines for item in items_of(line)]

    def opened(self, drafts: Sequence[ItemDraft], places: Sequence[str]) -> tuple[Sequence[ItemDraft], Sequence[str]]:
        """``drafts`` with those that came sealed opened, and their places: a compaction may be several of them.

        Raises InvalidRequestError naming the place of one that is not from here.
        """
        return self._compactions.unsealed([self._open(*each) for each in zip(drafts, places, strict=True)], places)

    def _open(self, draft: ItemDraft, place: str) -> ItemDraft:
        if not isinstance(draft, SealedDraft) or draft.kind != ItemKind.REASONING:
            return draft
        return ReasoningDraft(self._seals.opened(draft.kind, draft.sealed, param=f"{place}.encrypted_content"))

    def drafted(
        self,
        thread_id: str,
        drafts: Sequence[ItemDraft],
        places: Sequence[str],
        *,
        before: Reversible[Message] | None = None,
    ) -> Sequence[Message]:
        """``drafted`` for this server, with references to items of the thread."""
        resolve = partial(self.get, thread_id)
        return drafted(thread_id, drafts, places, resolve, max_bytes=self._max_bytes, before=before)

    def check_free(self, thread_id: str) -> None:
        """Raises ConflictError while the thread is being answered."""
        run_id = self._runs.open_run(thread_id)
        if run_id is not None:
            raise locked(thread_id, run_id)

    def list(self, thread_id: str, page: Page) -> Slice[Item]:
        """A page of the thread's items by ``page.after``; the newest may be those of an answer under way."""
        found: list[Item] = []
        for item in self._from(thread_id, page):
            if len(found) == page.limit:
                return Slice(found, True)
            found.append(item)
        return Slice(found, False)

    def _from(self, thread_id: str, page: Page) -> Iterator[Item]:
        """The items behind the cursor, in the page's order, read as they are asked for."""
        check_thread_id(thread_id)
        size = MAX_READ if page.limit is None else min(page.limit + 1, MAX_READ)
        after = None
        if page.after is not None:
            after, rest = self._at(thread_id, page.after, page.order)
            yield from rest
        while True:
            found = self._messages.list(thread_id, Page(limit=size, order=page.order, after=after))
            for message in found.items:
                yield from _ordered(readable_items(message), page.order)
            if not found.has_more:
                return
            after = found.items[-1].id

    def _at(self, thread_id: str, item_id: str, order: Order) -> tuple[str, Sequence[Item]]:
        """The message that a cursor is in, and what of it lies behind the cursor. Either may be deleted."""
        names = message_ids_of(item_id)
        for name in names:
            try:
                message = self._messages.get(thread_id, name)
            except NotFoundError:
                continue
            if (place := place_in(name, item_id)) is not None:
                return name, [item for item in _ordered(readable_items(message), order) if _follows(item, place, order)]
        made_here = (name for name in names if ids.time_of(name) is not None)
        return next(made_here, names[0]), []

    def get(self, thread_id: str, item_id: str) -> Item:
        """One item; what is being answered is as far as it has come."""
        return self._found(thread_id, item_id)[1]

    def delete(self, thread_id: str, item_id: str) -> None:
        """The item goes, and its message with its last one. Raises InvalidRequestError for what is being answered."""
        message, item = self._found(thread_id, item_id)
        self._messages.stored(thread_id, message.id)
        if without(message, item.id) is None:
            self._messages.delete(thread_id, message.id)
        else:
            self._threads.update_message(thread_id, message.id, lambda now: without(now, item.id) or now)

    def _found(self, thread_id: str, item_id: str) -> tuple[Message, Item]:
        check_thread_id(thread_id)
        self._threads.get(thread_id)
        for name in message_ids_of(item_id):
            try:
                message = self._messages.get(thread_id, name)
                item = next((item for item in list(items_of(message)) if item.id == item_id), None)
            except NotFoundError:
                continue
            except ValueError as error:
                raise StoreDamagedError(f"item {item_id[:128]!r} cannot be read: {error}") from error
            if item is not None:
                return message, item
        raise NotFoundError(
            f"there is no item {item_id[:128]!r} in {ids.conversation_id(thread_id)}; "
            f"GET /v1/conversations/{ids.conversation_id(thread_id)}/items lists them",
            param="item_id",
        )


@dataclass(frozen=True, slots=True)
class _Lines:
    """The stored lines of a thread, read while they are asked for."""

    store: ThreadStore
    thread_id: str

    def __iter__(self) -> Iterator[Message]:
        return self.store.all_messages(self.thread_id)

    def __reversed__(self) -> Iterator[Message]:
        after, size = None, MAX_READ
        while True:
            found = self.store.list_messages(self.thread_id, Page(limit=size, after=after))
            yield from found.items
            if not found.has_more:
                return
            after, size = found.items[-1].id, 4 * size  # finding a place costs as much as the thread is long


def _ordered(found: Sequence[Item], order: Order) -> Sequence[Item]:
    return found if order == "asc" else found[::-1]


def _follows(item: Item, place: tuple[int, ...], order: Order) -> bool:
    own = place_in(item.message.id, item.id) or ()
    return own > place if order == "asc" else own < place
