"""The messages of a thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import msgspec

from janflask.errors import InvalidRequestError, NotFoundError, RequestTooLargeError, StoreDamagedError
from janflask.files import ids
from janflask.services.continuing import grown, is_continued
from janflask.services.replies import run_messages
from janflask.settings import Settings
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.paging import cut
from janflask.storage.records import Message, MessageDraft, Run
from janflask.storage.run_log import of_round, reasoning_of, texts_of

log = logging.getLogger(__name__)


class MessageService:
    """Stores, changes and lists messages. Thread-safe.

    Besides what is said here, every method raises what the repository's do (``janflask.storage.base``).
    """

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._max_bytes = settings.max_message_mb << 20
        self._threads = repository.threads
        self._files = repository.files
        self._runs = repository.runs

    def create(self, thread_id: str, draft: MessageDraft) -> Message:
        """The message, stored at the thread's end.

        Raises RequestTooLargeError, and InvalidRequestError for a file that does not exist and while the thread is
        being answered.
        """
        check_thread_id(thread_id)
        run_id = self._runs.open_run(thread_id)
        if run_id is not None:
            raise InvalidRequestError(
                f"Can't add messages to {thread_id} while a run {run_id} is active: wait for its end, or cancel it",
                param="thread_id",
            )
        message = self.drafted(thread_id, draft)
        self.add(thread_id, {"": message})
        return message

    def add(self, thread_id: str, messages: Mapping[str, Message]) -> None:
        """Stores drafted messages at the thread's end, all of them or none; the keys are where they came from.

        Raises InvalidRequestError for a file that does not exist.
        """
        if not any(message.files for message in messages.values()):
            self._threads.append(thread_id, list(messages.values()))
            return
        self._threads.get(thread_id)  # nothing is remembered as a holder that does not exist
        with self.holding(thread_id, messages):
            self._threads.append(thread_id, list(messages.values()))

    def list(self, thread_id: str, page: Page, run_id: str | None = None) -> Slice[Message]:
        """A page of the thread's messages; with ``run_id`` of those that this run made.

        The newest may be those of a run that is not over, with the text that it has so far.
        """
        check_thread_id(thread_id)
        replies = {reply.id: reply for reply in self._replies(thread_id)}
        if not replies or run_id not in (None, *[reply.run_id for reply in replies.values()]):
            return self._threads.list_messages(thread_id, page, run_id=run_id)
        stored = [] if run_id is not None else self._threads.message_ids(thread_id)
        keys = [(ids.time_of(message_id) or 0, message_id) for message_id in stored if message_id not in replies]
        keys += [(reply.created_ms, reply.id) for reply in replies.values()]
        return cut(keys, page, lambda message_id: self._readable(thread_id, replies, message_id))

    def get(self, thread_id: str, message_id: str) -> Message:
        """One message; a reply that is being given has the text that it has so far."""
        return self._found(thread_id, message_id)[0]

    def modify(self, thread_id: str, message_id: str, changes: Mapping[str, Any]) -> Message:
        """The message with ``changes`` (``content``, ``metadata``) made, in its place. Raises what ``create`` does."""
        message = self.stored(thread_id, message_id)
        if not changes:
            return message

        def change(current: Message) -> Message:
            changed = replace(current, **changes)
            self._check_size(changed)
            return changed

        # Only what comes in anew has to exist: a message found on disk may name a file that never was here.
        pictured = replace(message, file_ids=(), attachments=(), content=changes.get("content", ()))
        with self.holding(thread_id, {"": pictured}):
            return self._threads.update_message(thread_id, message_id, change)

    def delete(self, thread_id: str, message_id: str) -> None:
        """Its files stay. Raises InvalidRequestError for a reply that is being given."""
        self.stored(thread_id, message_id)
        self._threads.delete_message(thread_id, message_id)

    def stored(self, thread_id: str, message_id: str) -> Message:
        """One message. Raises InvalidRequestError for a reply that is being given."""
        message, is_stored = self._found(thread_id, message_id)
        if not is_stored:
            raise InvalidRequestError(
                f"message {message.id} is being written by run {message.run_id}: wait for its end, or cancel it",
                param="message_id",
            )
        return message

    def _found(self, thread_id: str, message_id: str) -> tuple[Message, bool]:
        """A message, and whether it is stored: a reply that is being given isn't."""
        _check_ids(thread_id, message_id)
        try:
            message = self._threads.get_message(thread_id, message_id)
        except NotFoundError:
            for reply in self._replies(thread_id):
                if reply.id == message_id:
                    return reply, False
            raise
        newer = message if message.role != "assistant" else self._newer(thread_id, message)
        return newer, newer is message

    def _newer(self, thread_id: str, message: Message) -> Message:
        """The message as a run leaves it that goes on with it just now."""
        replies = (reply for reply in self._replies(thread_id) if reply.id == message.id)
        return next((reply for reply in replies if reply.run_id != message.run_id), message)

    def _replies(self, thread_id: str) -> Sequence[Message]:
        """What the thread's run has said so far: its messages are stored when the run has ended."""
        run_id = self._runs.open_run(thread_id)
        if run_id is None:
            return []
        try:
            run = self._runs.get(thread_id, run_id)
            events = of_round(self._runs.events(thread_id, run_id), len(run.rounds))
        except NotFoundError:  # it is being made
            return []
        except StoreDamagedError as error:  # the messages are there all the same
            log.error("what run %s has said is not listed: %s", run_id, error.message)
            return []
        replies = run_messages(run, "".join(texts_of(events)), reasoning_of(events))
        return [self._whole(run, reply) if is_continued(run, reply.id) else reply for reply in replies]

    def _whole(self, run: Run, reply: Message) -> Message:
        """With what was there before the run."""
        try:
            return grown(self._threads.get_message(run.thread_id, reply.id), reply, run)
        except (NotFoundError, StoreDamagedError):
            return reply

    def _readable(self, thread_id: str, replies: Mapping[str, Message], message_id: str) -> Message | None:
        """One of the thread's messages or of ``replies``; None for what cannot be read or is gone."""
        reply = replies.get(message_id)
        try:
            message = self._threads.get_message(thread_id, message_id)
        except (NotFoundError, StoreDamagedError):
            return reply
        return message if reply is None or reply.run_id == message.run_id else reply

    def files(self, thread_id: str, message_id: str, page: Page) -> tuple[Message, Slice[str]]:
        """The message and a page of the ids of its files, which are in the order in which it names them."""
        message = self.get(thread_id, message_id)
        return message, cut([(0, file_id) for file_id in message.files], page, lambda file_id: file_id)

    def with_file(self, thread_id: str, message_id: str, file_id: str) -> Message:
        """The message. Raises NotFoundError unless it holds the file."""
        message = self.get(thread_id, message_id)
        if file_id not in message.files:
            raise NotFoundError(
                f"message {message_id} has no file {file_id[:128]!r}; "
                f"GET /v1/threads/{thread_id}/messages/{message_id}/files lists them",
                param="file_id",
            )
        return message

    def drafted(self, thread_id: str, draft: MessageDraft, *, over: Message | None = None, param: str = "") -> Message:
        """A message out of ``draft``, not yet stored; with ``over`` that one, changed. ``param`` is where it came from.

        Each of ``file_ids`` and ``attachments`` names the files of both: OpenAI's first API had the one, its second
        the other, and a client of either sees them all. Raises RequestTooLargeError.
        """
        attached = tuple(item["file_id"] for item in draft.attachments)
        attachments = draft.attachments + tuple(
            {"file_id": file_id, "tools": []} for file_id in dict.fromkeys(draft.file_ids) if file_id not in attached
        )
        content: dict[str, Any] = {
            "role": draft.role,
            "content": draft.content,
            "file_ids": tuple(dict.fromkeys((*draft.file_ids, *attached))),
            "attachments": attachments,
            "metadata": draft.metadata,
        }
        if over is not None:
            message = replace(over, **content)
        else:
            new_id, now = ids.new_id(ids.MESSAGE), ids.now_ms()
            message = Message(id=new_id, thread_id=thread_id, created_ms=now, extra=draft.extra, **content)
        self._check_size(message, param)
        return message

    @contextmanager
    def holding(self, thread_id: str, messages: Mapping[str, Message]) -> Iterator[None]:
        """Keeps the messages' files from being deleted while they are stored; the keys are where they came from.

        Raises InvalidRequestError for a file that does not exist.
        """
        files = tuple(dict.fromkeys(file_id for message in messages.values() for file_id in message.files))
        with ExitStack() as stack:
            if files:
                self._check_files(messages)
                try:
                    stack.enter_context(self._files.holding(files, thread_id))
                except NotFoundError as error:  # one of them was deleted just now
                    raise InvalidRequestError(error.message, param="file_ids", code="file_not_found") from None
            yield

    def _check_files(self, messages: Mapping[str, Message]) -> None:
        known: set[str] = set()
        for where, message in messages.items():
            for file_id in message.files:
                if file_id not in known and not self._exists(file_id):
                    field = "file_ids" if file_id in message.file_ids else "content"
                    raise InvalidRequestError(
                        f"there is no file {file_id[:128]!r}; upload it with POST /v1/files first",
                        param=f"{where}.{field}" if where else field,
                        code="file_not_found",
                    )
                known.add(file_id)

    def known_files(self, messages: Iterable[Message]) -> tuple[str, ...]:
        """Those of the messages' files that are here still, once each."""
        names = dict.fromkeys(file_id for message in messages for file_id in message.files)
        return tuple(file_id for file_id in names if self._exists(file_id))

    def _exists(self, file_id: str) -> bool:
        if not ids.is_id(file_id):
            return False
        try:
            self._files.get(file_id)
        except NotFoundError:
            return False
        return True

    def _check_size(self, message: Message, param: str = "") -> None:
        size = len(msgspec.json.encode((message.content, message.attachments, message.file_ids, message.metadata)))
        if size > self._max_bytes:
            raise RequestTooLargeError(
                f"the message has {size} bytes as JSON; {self._max_bytes >> 20} MiB is the most",
                param=param or "content",
            )


def check_thread_id(thread_id: str) -> None:
    """Raises NotFoundError unless ``thread_id`` may be an id."""
    if not ids.is_id(thread_id):
        raise NotFoundError(f"there is no thread {thread_id[:128]!r}; GET /v1/threads lists them", param="thread_id")


def _check_ids(thread_id: str, message_id: str) -> None:
    check_thread_id(thread_id)
    if not ids.is_id(message_id):
        raise NotFoundError(
            f"there is no message {message_id[:128]!r}; GET /v1/threads/{thread_id}/messages lists them",
            param="message_id",
        )
