"""Where an answer is given: behind another one, in a conversation that its client names, or in a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from janflask.access.caller import working_for
from janflask.errors import InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.ipc.clients.runner import RunnerClient
from janflask.services.items import locked
from janflask.services.run_start import answering
from janflask.storage.answers import AnswerDraft
from janflask.storage.base import Repository
from janflask.storage.records import Message, Run, RunKind, RunStatus, Thread

NO_PREVIOUS = "previous_response_not_found"
_BROKEN_OFF = frozenset({RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.EXPIRED})


def _yes() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Place:
    """``messages`` are all that comes before the answer's input, of ``thread`` (None: a new one).

    ``may_stay``: the answer may be given in the thread itself, as long as ``still()`` is so. Otherwise it gets a thread
    of its own, with these messages: also where the thread is another key's, which an administrator may go on from.
    ``field`` is that of the request that names all this.
    """

    thread: Thread | None = None
    messages: tuple[Message, ...] = ()
    previous: Run | None = None
    may_stay: bool = False
    still: Callable[[], bool] = _yes
    field: str = "input"


class Places:
    """Finds the places of answers. Thread-safe."""

    def __init__(self, repository: Repository, runner: RunnerClient) -> None:
        self._threads = repository.threads
        self._runs = repository.runs
        self._runner = runner

    def of(self, draft: AnswerDraft) -> Place:
        """Raises InvalidRequestError, and NotFoundError for what the draft names and is not there."""
        if draft.previous is not None and draft.conversation is not None:
            raise InvalidRequestError(
                "previous_response_id and conversation cannot be set both: an answer is given in one place",
                param="conversation",
                code="mutually_exclusive_parameters",
            )
        if draft.previous is not None:
            return self._behind(draft.previous)
        return Place() if draft.conversation is None else self._in(draft.conversation)

    def check_free(self, thread_id: str) -> None:
        """Raises ConflictError while the thread is being answered."""
        if (run_id := answering(self._runs, self._runner, thread_id)) is not None:
            raise locked(thread_id, run_id)

    def _in(self, name: str) -> Place:
        """In a conversation: behind all that is in it."""
        thread_id = ids.thread_id(name)
        try:
            if not ids.is_id(thread_id):
                raise NotFoundError("it is no id")
            thread = self._threads.get(thread_id)
            messages = tuple(self._threads.all_messages(thread_id))
        except NotFoundError:
            raise NotFoundError(f"Conversation with id '{name[:128]}' not found.", param="conversation") from None
        if not ids.is_id(ids.new_answer_id(ids.CHAT, thread_id)):
            raise InvalidRequestError(
                f"the id of thread {thread_id} is too long for it to be answered in: {ids.MAX_ANSWERED} characters are "
                "the most; copy its messages into a new conversation",
                param="conversation",
            )
        return Place(thread, messages, may_stay=True, field="conversation")

    def _behind(self, answer_id: str) -> Place:
        thread_id = ids.thread_of(answer_id) if answer_id.startswith(ids.RESPONSE) else None
        try:
            if thread_id is None:
                raise NotFoundError("it is no id")
            run = self._runs.get(thread_id, answer_id)
            thread, messages = self._threads.get(thread_id), list(self._threads.all_messages(thread_id))
        except NotFoundError:
            raise _no_previous(f"Previous response with id '{answer_id[:128]}' not found.") from None
        if not run.status.is_final:
            raise _not_behind(f"Previous response {answer_id} is still {run.status}: wait for its end, or cancel it")
        if run.status in _BROKEN_OFF and all(message.id != run.message_id for message in messages):
            raise _not_behind(
                f"Previous response {answer_id} ended without output ({run.status}): ask again behind the one before it"
            )
        own = {*run.input_ids, run.message_id}
        end = next((number for number in reversed(range(len(messages))) if messages[number].id in own), None)
        if end is None:
            raise _no_previous(f"Previous response with id '{answer_id}' has no message left: they were deleted.")
        last = messages[end].id
        return Place(
            thread,
            tuple(messages[: end + 1]),
            run,
            may_stay=run.kind is RunKind.RESPONSE and not run.in_conversation and thread.owner == working_for.get(),
            still=lambda: list(self._threads.message_ids(run.thread_id)[-1:]) == [last],
            field="previous_response_id",
        )


def _no_previous(message: str) -> NotFoundError:
    return NotFoundError(message, param="previous_response_id", code=NO_PREVIOUS)


def _not_behind(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="previous_response_id")
