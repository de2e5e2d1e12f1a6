"""Threads: conversations with what decides how they are answered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from janflask.errors import InvalidRequestError, NotFoundError
from janflask.files import ids, kv_folder
from janflask.services.assistants import AssistantService
from janflask.services.messages import MessageService, check_thread_id
from janflask.services.overrides import checked_settings
from janflask.settings import Settings
from janflask.storage import branches
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.records import (
    DEFAULT_ASSISTANT,
    Assistant,
    Message,
    MessageDraft,
    Thread,
    ThreadAssistant,
    ThreadDraft,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread and the ids of its messages, in order."""

    thread: Thread
    message_ids: Sequence[str]


class ThreadService:
    """Stores, changes, lists and finds threads. Thread-safe.

    Besides what is said here, every method raises what the repository's do (``janflask.storage.base``).
    """

    def __init__(
        self, settings: Settings, repository: Repository, assistants: AssistantService, messages: MessageService
    ) -> None:
        self._settings = settings
        self._threads = repository.threads
        self._files = repository.files
        self._assistants = assistants
        self._messages = messages

    def create(self, draft: ThreadDraft) -> ThreadView:
        """A new thread with its first messages. Raises what ``drafted`` and ``add`` do."""
        return self.add(*self.drafted(draft))

    def drafted(self, draft: ThreadDraft) -> tuple[Thread, dict[str, Message]]:
        """A new thread, not yet stored, and its first messages by where they came from.

        Raises InvalidRequestError for an id that cannot be one and for an unknown assistant or setting, and
        RequestTooLargeError for a message.
        """
        thread_id = ids.new_id(ids.THREAD) if draft.id is None else _new_id(draft.id)
        named = draft.assistants if draft.assistants is not None else (DEFAULT_ASSISTANT,)
        now = ids.time_of(thread_id) or ids.now_ms()
        thread = Thread(
            id=thread_id,
            created_ms=now,
            updated_ms=now,
            assistants=self._resolved(named, ()),
            **self._checked_fields(draft.fields),
        )
        return thread, self._drafted(thread_id, draft.messages or (), {})

    def add(self, thread: Thread, messages: Mapping[str, Message]) -> ThreadView:
        """Stores what was ``drafted``. Raises InvalidRequestError for a file, ConflictError for an id that is taken."""
        with self._messages.holding(thread.id, messages):
            stored = self._threads.create(thread, tuple(messages.values()))
        return ThreadView(stored, [message.id for message in messages.values()])

    def branch(self, thread_id: str, before: str | None) -> ThreadView:
        """A new thread with this one's messages before that one, or all of them, by their ids: in one step.

        Of a reply that is being given all others are before it. Raises InvalidRequestError for a message that is not
        there.
        """
        check_thread_id(thread_id)
        thread, messages = self._threads.get(thread_id), self._before(thread_id, before)
        made = branches.branch(thread, messages[-1].id if messages else "")
        with ExitStack() as stack:
            if held := self._messages.known_files(messages):
                stack.enter_context(self._files.holding(held, made.id))
            names = [file.name for file in self._threads.files(thread_id)]
            own = [(name, stack.enter_context(self._threads.open_file(thread_id, name))) for name in names]
            stored = self._threads.create(made, messages, own)
        return ThreadView(stored, [message.id for message in messages])

    def _before(self, thread_id: str, message_id: str | None) -> Sequence[Message]:
        messages: list[Message] = []
        for message in self._threads.all_messages(thread_id):
            if message.id == message_id:
                return messages
            messages.append(message)
        if message_id is not None:
            try:
                self._messages.get(thread_id, message_id)
            except NotFoundError:
                raise _invalid(f"the thread has no message {message_id[:128]!r}", "before") from None
        return messages

    def get(self, thread_id: str) -> ThreadView:
        """One thread."""
        check_thread_id(thread_id)
        return ThreadView(*self._threads.with_message_ids(thread_id))

    def with_messages(self, thread_id: str) -> tuple[Thread, Iterator[Message]]:
        """One thread and its messages, read while they are asked for."""
        check_thread_id(thread_id)
        return self._threads.get(thread_id), self._threads.all_messages(thread_id)

    def count(self, page: Page) -> int:
        """How many threads the page is cut from."""
        return self._threads.count(_of_threads(page))

    def all(self) -> Iterator[Thread]:
        """Every thread, newest first, read while they are asked for."""
        return self._threads.all()

    def list(self, page: Page, query: str = "") -> Slice[Thread]:
        """A page of the threads; with ``query`` of those whose title or messages have all of its words.

        Cursors may name them as conversations.
        """
        page = _of_threads(page)
        return self._threads.search(query, page) if query else self._threads.list(page)

    def modify(self, thread_id: str, draft: ThreadDraft) -> ThreadView:
        """The thread with what ``draft`` gives; the rest stays, and on an error everything does.

        Raises what ``create`` does.
        """
        view = self.get(thread_id)
        if draft.messages is None and draft.assistants is None and not draft.fields:
            return view
        fields = self._checked_fields(draft.fields)
        if draft.assistants is not None:
            fields["assistants"] = self._resolved(draft.assistants, view.thread.assistants)
        if draft.messages is None or tuple(draft.messages) == tuple(view.message_ids):
            thread = self._threads.update(thread_id, lambda current: replace(current, **fields))
            return ThreadView(thread, self._threads.message_ids(thread_id))
        return self._with_messages(thread_id, draft.messages, fields)

    def _with_messages(
        self, thread_id: str, drafts: Sequence[str | MessageDraft], fields: Mapping[str, Any]
    ) -> ThreadView:
        """The thread with ``fields`` and another set of messages."""

        def drafted(present: Iterable[Message]) -> dict[str, Message]:
            return self._drafted(thread_id, drafts, {message.id: message for message in present})

        # Once for the files that are new to the thread, which have to be held; then under the thread's lock, so that
        # what others do to the messages that stay is not undone.
        first = drafted(self._threads.all_messages(thread_id))
        new = {at: item for (at, item), given in zip(first.items(), drafts, strict=True) if not isinstance(given, str)}
        with self._messages.holding(thread_id, new):
            thread = self._threads.update(
                thread_id,
                lambda current: replace(current, **fields),
                lambda present: tuple(drafted(present).values()),
            )
        return ThreadView(thread, self._threads.message_ids(thread_id))

    def delete(self, thread_id: str) -> None:
        """The thread, its messages and what engines keep of it; uploaded files stay."""
        check_thread_id(thread_id)
        self._threads.delete(thread_id)
        try:
            kv_folder.forget(self._settings.cache_dir, thread_id)
        except OSError as error:
            log.error("the KV state of thread %s, which is deleted, cannot be removed: %s", thread_id, error)

    def set_assistant(self, thread_id: str, assistant_id: str, changes: Mapping[str, Any]) -> ThreadView:
        """Changes an assistant's entry in the thread, or adds one of this server's assistants to it first.

        Raises NotFoundError when it is neither in the thread nor on this server.
        """
        check_thread_id(thread_id)
        changes = self._checked_entry(changes, "model")

        def change(thread: Thread) -> Thread:
            entries = {entry.assistant_id: entry for entry in thread.assistants}
            # In the thread's lock, but an assistant is a small file of its own.
            entry = entries.get(assistant_id) or _entry(self._assistants.get(assistant_id))
            entries[assistant_id] = replace(entry, **changes)
            return replace(thread, assistants=tuple(entries.values()))

        if not ids.is_id(assistant_id):
            raise NotFoundError(
                f"there is no assistant {assistant_id[:128]!r}; GET /v1/assistants lists them", param="assistant_id"
            )
        thread = self._threads.update(thread_id, change)
        return ThreadView(thread, self._threads.message_ids(thread_id))

    def _checked_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        checked = dict(fields)
        if "settings" in checked:
            checked["settings"] = checked_settings(self._settings, checked["settings"])
        return checked

    def _checked_entry(self, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
        model = fields.get("model") or {}
        if "settings" not in model:
            return dict(fields)
        settings = checked_settings(self._settings, model["settings"], f"{where}.settings")
        return {**fields, "model": {**model, "settings": settings}}

    def _resolved(
        self, given: Sequence[str | ThreadAssistant], present: Sequence[ThreadAssistant]
    ) -> tuple[ThreadAssistant, ...]:
        """The entries of a thread for ids and objects; what a present one has that we don't know stays with it."""
        known = {entry.assistant_id: entry for entry in present}
        entries: dict[str, ThreadAssistant] = {}
        for number, item in enumerate(given):
            where = f"assistants.{number}"
            entry = self._named(item, known, where) if isinstance(item, str) else self._described(item, known, where)
            if entry.assistant_id in entries:
                raise _invalid(f"{where} names {entry.assistant_id!r}, which is in the list already", where)
            entries[entry.assistant_id] = entry
        return tuple(entries.values())

    def _named(self, assistant_id: str, known: Mapping[str, ThreadAssistant], where: str) -> ThreadAssistant:
        if assistant_id in known:
            return known[assistant_id]
        try:
            if ids.is_id(assistant_id):
                return _entry(self._assistants.get(assistant_id))
        except NotFoundError:
            pass
        raise _invalid(f"there is no assistant {assistant_id[:128]!r}; GET /v1/assistants lists them", where)

    def _described(self, given: ThreadAssistant, known: Mapping[str, ThreadAssistant], where: str) -> ThreadAssistant:
        if not ids.is_id(given.assistant_id):
            raise _invalid(f"{given.assistant_id[:128]!r} cannot be the id of an assistant", f"{where}.assistant_id")
        model = self._checked_entry({"model": given.model}, f"{where}.model")["model"]
        before = known.get(given.assistant_id)
        return replace(given, model=model, extra={**(before.extra if before else {}), **given.extra})

    def _drafted(
        self, thread_id: str, drafts: Sequence[str | MessageDraft], present: Mapping[str, Message]
    ) -> dict[str, Message]:
        """The messages of a set, by where they came from: present ones by id, and new ones or such that replace one."""
        messages: dict[str, Message] = {}
        taken: set[str] = set()
        for number, item in enumerate(drafts):
            where = f"messages.{number}"
            if isinstance(item, str):
                if item not in present:
                    raise _invalid(f"the thread has no message {item[:128]!r}", where)
                message = present[item]
            else:
                over = present.get(item.id) if item.id is not None else None
                message = self._messages.drafted(thread_id, item, over=over, param=where)
            if message.id in taken:
                raise _invalid(f"{where} is {message.id!r}, which is in the list already", where)
            taken.add(message.id)
            messages[where] = message
        return messages


def _entry(assistant: Assistant) -> ThreadAssistant:
    """As Jan does it, a thread keeps what the assistant was when it was added."""
    model = {} if assistant.model in ("", "*") else {"id": assistant.model}
    return ThreadAssistant(
        assistant_id=assistant.id,
        assistant_name=assistant.name,
        instructions=assistant.instructions,
        model=model,
    )


def _of_threads(page: Page) -> Page:
    after, before, family = (
        None if name is None else ids.thread_id(name) for name in (page.after, page.before, page.family)
    )
    return replace(page, after=after, before=before, family=family)


def _new_id(name: str) -> str:
    text = ids.thread_id(name)
    if not ids.is_id(text) or ids.is_reserved(text):
        raise _invalid(f"{name[:80]!r} cannot be an id: use 1 to 128 letters, digits and . _ -", "id")
    return text


def _invalid(message: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=param, code="invalid_value")
