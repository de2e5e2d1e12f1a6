"""Answers that are asked for by themselves: responses, and stored chats. Each is a run of a thread.

The runner carries them out as it does other runs; streaming one, waiting for it and polling are ways to look at it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError, NotFoundError, UnavailableError
from janflask.files import ids
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged
from janflask.services.answer_list import answers_between
from janflask.services.answer_making import AnswerMaker, check_outputs
from janflask.services.answer_places import Places
from janflask.services.items import ItemService
from janflask.services.messages import MessageService
from janflask.services.models import ModelService
from janflask.services.run_changes import Changes, changes_of
from janflask.services.run_start import TIMEOUT, begun
from janflask.services.run_told import told_events, told_reply
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.answers import AnswerDraft
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.items import Item, message_ids_of, place_in, readable_items
from janflask.storage.jan import message_from_json
from janflask.storage.paging import cut, cut_in_order
from janflask.storage.records import Message, Run, RunKind
from janflask.storage.run_json import kind_of
from janflask.storage.run_log import LogEvent

log = logging.getLogger(__name__)

_BEAT = 0.5  # seconds between two looks at how long the end of an answer is waited for
_NAMES = {RunKind.RESPONSE: "Response", RunKind.CHAT: "Chat completion"}


class AnswerService:
    """Makes, finds, watches, cancels and deletes answers. Thread-safe.

    Besides what is said here, every method raises what the repository's do (``janflask.storage.base``).
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        runner: RunnerClient,
        *,
        items: ItemService,
        messages: MessageService,
        models: ModelService,
        threads: ThreadService,
    ) -> None:
        self._repository = repository
        self._threads = repository.threads
        self._runs = repository.runs
        self._runner = runner
        self._thread_service = threads
        self._places = Places(repository, runner)
        self._maker = AnswerMaker(settings, repository, items=items, messages=messages, models=models, threads=threads)

    # --- making -------------------------------------------------------------------------------------------------

    def create(self, draft: AnswerDraft) -> Run:
        """An answer that is on disk and about to begin, also if this process or the runner ends now.

        Raises InvalidRequestError for what cannot be used or is missing, NotFoundError for what the draft names and is
        not there, ModelNotFoundError, ConflictError for a conversation that is being answered, RequestTooLargeError.
        Then nothing is stored.
        """
        place = self._places.of(draft)
        if draft.conversation is not None and place.thread is not None:
            self._places.check_free(place.thread.id)
        return begun(self._runner, self._maker.stored(draft, place))

    def drafted(self, draft: AnswerDraft) -> tuple[Run, Sequence[Message]]:
        """A response as it would be, but of no thread, and all that it answers. Raises what ``create`` does."""
        place = self._places.of(draft)
        messages = (*place.messages, *self._maker.lines(draft, place))
        check_outputs(messages)
        return self._maker.run(draft, place), messages

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, answer_id: str, kind: RunKind) -> Run:
        """One answer. Raises NotFoundError naming it, also for one of another kind."""
        thread_id = ids.thread_of(answer_id) if kind_of(answer_id) is kind else None
        try:
            if thread_id is not None:
                return self._runs.get(thread_id, answer_id)
        except NotFoundError:
            pass
        raise _not_found(answer_id, kind)

    def input(self, run: Run) -> list[Message]:
        """What came with the request, without what was deleted since."""
        if run.input:
            return [message_from_json(raw, run.thread_id) for raw in run.input]
        wanted = set(run.input_ids)
        return [message for message in self._threads.all_messages(run.thread_id) if message.id in wanted]

    def input_items(self, run: Run, page: Page) -> Slice[Item]:
        """A page of the items of ``input``; a cursor may name one that was deleted."""
        found = {message.id: readable_items(message) for message in self.input(run)}
        items = {item.id: item for brought in found.values() for item in brought}
        cursors = [name for name in (page.after, page.before) if name is not None and name not in items]
        keys: list[tuple[int, str]] = []
        for message_id in run.input_ids or found:
            names = [item.id for item in found.get(message_id, ())]
            names += [name for name in cursors if message_id in message_ids_of(name)]
            keys += [(0, name) for name in sorted(names, key=lambda name: place_in(message_id, name) or ())]
        return cut(keys, page, items.get)

    def input_messages(self, run: Run, page: Page) -> Slice[Message]:
        """A page of ``input``; a cursor may name one that was deleted."""
        found = {message.id: message for message in self.input(run)}
        return cut([(0, message_id) for message_id in run.input_ids or found], page, found.get)

    def output(self, run: Run) -> list[Message]:
        """The answer as far as it has come; nothing if it was deleted."""
        return told_reply(self._repository, run)

    def events(self, run: Run) -> Sequence[LogEvent]:
        """The answer's events so far: an event's number is its place, from 1."""
        return told_events(self._repository, run)

    def list(self, kind: RunKind, page: Page, matches: Callable[[Run], bool]) -> Slice[Run]:
        """A page of those that match, in the order in which their threads were made."""
        found = answers_between(self._repository, kind, page)
        return cut_in_order((run for run in found if matches(run)), page)

    # --- listening ----------------------------------------------------------------------------------------------

    def watch(self, run: Run, waiter: Waiter, beat: float) -> Changes:
        """As ``RunService.watch``."""
        return changes_of(self._runner, run.thread_id, run.id, waiter, beat)

    def finished(self, run: Run, waiter: Waiter, beat: float) -> Run:
        """The answer when it is over. Raises what ``watch`` does."""
        for change in self.watch(run, waiter, beat):
            if isinstance(change, RunChanged):
                run = change.run
        return run

    # --- changing -----------------------------------------------------------------------------------------------

    def cancel(self, answer_id: str, kind: RunKind) -> Run:
        """The answer, which is over; one that was so before stays as it is. Raises UnavailableError."""
        run = self.get(answer_id, kind)
        if run.status.is_final:
            return run
        try:
            run = self._runner.cancel(run.thread_id, run.id, TIMEOUT)
        except InvalidRequestError:  # it ended just now
            return self.get(answer_id, kind)
        waited = 0.0
        for change in self.watch(run, Waiter(), _BEAT):
            if isinstance(change, RunChanged):
                run = change.run
            waited += _BEAT if change is None else 0
            if waited >= TIMEOUT:
                break
        return run

    def modify(self, answer_id: str, kind: RunKind, changes: Mapping[str, Any]) -> Run:
        """The answer with ``changes`` (``metadata``) made."""
        run = self.get(answer_id, kind)
        return self._runs.update(run.thread_id, run.id, lambda run: replace(run, **changes))

    def take_back(self, run: Run) -> None:
        """One that has failed before it said anything goes, and what came with its request.

        Only for the request that made it. Somebody else may have deleted it already: then nothing is left to do.
        """
        try:
            brought = self.input(run)
            self.delete(run.id, run.kind)
        except NotFoundError:
            log.info("%s, which failed, is deleted already", run.id)
            return
        for message in brought:
            with suppress(NotFoundError):  # it went with its thread, or somebody else deleted it
                self._threads.delete_message(run.thread_id, message.id)

    def delete(self, answer_id: str, kind: RunKind) -> None:
        """One that is under way is cancelled first. Its messages stay, unless the thread is there for answers alone.

        Such a thread goes with the last of them. Raises UnavailableError.
        """
        try:
            self._delete(self.cancel(answer_id, kind))
        except NotFoundError:  # maybe of its thread, which somebody else has just deleted
            raise _not_found(answer_id, kind) from None

    def _delete(self, run: Run) -> None:
        if not run.status.is_final:
            raise UnavailableError(f"{run.id} does not end: try again", retry_after=1)
        with self._runs.idle(run.thread_id) as is_idle:
            if is_idle and self._maker.is_all_there_is(run):
                self._thread_service.delete(run.thread_id)
            else:
                self._runs.delete(run.thread_id, run.id)


def _not_found(answer_id: str, kind: RunKind) -> NotFoundError:
    param = "response_id" if kind is RunKind.RESPONSE else "completion_id"
    return NotFoundError(f"{_NAMES[kind]} with id '{answer_id[:128]}' not found.", param=param)
