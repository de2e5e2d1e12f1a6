"""How an answer gets onto the disk: what is checked before, and whether it stays in its thread or gets a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from janflask.access.caller import working_for
from janflask.errors import ConflictError, InvalidRequestError, RequestTooLargeError
from janflask.files import ids
from janflask.inference import leftovers
from janflask.inference.window import conversation
from janflask.services.answer_places import Place
from janflask.services.call_order import CallOrder
from janflask.services.compacted import shown
from janflask.services.item_lookup import finder
from janflask.services.items import ItemService, drafted, locked
from janflask.services.messages import MessageService
from janflask.services.models import ModelService
from janflask.services.run_calls import format_for, tools_for
from janflask.services.run_start import chosen_model
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.answers import BRANCHED_FROM, INPUT_OF, MADE_FOR, AnswerDraft
from janflask.storage.base import Repository
from janflask.storage.jan import raw_message
from janflask.storage.records import (
    DEFAULT_ASSISTANT,
    Assistant,
    Message,
    Run,
    RunDraft,
    RunKind,
    Thread,
    ThreadAssistant,
    ThreadDraft,
)
from janflask.storage.run_json import STEP

_PREFIXES = {RunKind.RESPONSE: ids.RESPONSE, RunKind.CHAT: ids.CHAT}
_NOBODY = ThreadAssistant(assistant_id=DEFAULT_ASSISTANT), Assistant(id=DEFAULT_ASSISTANT, created_ms=0)


class AnswerMaker:
    """Stores answers. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        *,
        items: ItemService,
        messages: MessageService,
        models: ModelService,
        threads: ThreadService,
    ) -> None:
        self._settings = settings
        self._threads = repository.threads
        self._files = repository.files
        self._runs = repository.runs
        self._items = items
        self._messages = messages
        self._models = models
        self._thread_service = threads

    def stored(self, draft: AnswerDraft, place: Place) -> Run:
        """The answer, on disk. Everything is checked before anything is written: see ``AnswerService.create``."""
        run = self.run(draft, place)
        lines = self.lines(draft, place)
        _check_conversation(run, place, lines)
        if place.thread is not None and place.may_stay and (stored := self._in_thread(run, place.thread, place, lines)):
            return stored
        if draft.conversation is not None and place.thread is not None:
            raise locked(place.thread.id, self._runs.open_run(place.thread.id) or "another answer")
        return self._in_new_thread(run, place, lines)

    def run(self, draft: AnswerDraft, place: Place) -> Run:
        """The answer, of no thread yet. What it does not say itself is the model's to decide, and nobody else's."""
        thread_model = None if place.thread is None else place.thread.model_id
        model = chosen_model(self._models, (draft.model, thread_model), "neither the request nor its conversation")
        asked = RunDraft(
            tools=draft.tools,
            tool_choice=draft.tool_choice,
            calls=draft.calls,
            response_format=draft.response_format,
            form=draft.form,
        )
        now = ids.now_ms()
        return Run(
            id=ids.new_id(_PREFIXES[draft.kind]),
            thread_id="",
            assistant_id=_assistant_of(place.thread),
            message_id=ids.new_id(ids.MESSAGE),
            step_id=ids.new_id(STEP),
            created_ms=now,
            expires_ms=now + int(self._settings.run_timeout * 1000),
            key_id=working_for.get(),
            model=model,
            instructions=draft.instructions or "",
            parameters=draft.parameters,
            temperature=draft.parameters.get("temperature"),
            top_p=draft.parameters.get("top_p"),
            max_completion_tokens=draft.max_tokens,
            response_format=format_for(asked, *_NOBODY, {}),
            form=draft.form,
            tools=tools_for(asked, *_NOBODY, {}),
            tool_choice=draft.tool_choice,
            calls=draft.calls,
            parallel_tool_calls=draft.parallel_tool_calls,
            metadata=draft.metadata,
            kind=draft.kind,
            asked=draft.asked,
            in_conversation=draft.conversation is not None,
            truncates=draft.truncates,
            compact_threshold=draft.compact_threshold,
            top_logprobs=draft.top_logprobs,
        )

    def lines(self, draft: AnswerDraft, place: Place) -> Sequence[Message]:
        """What the draft brings, as messages of no thread yet."""
        drafts, places = self._items.opened(draft.input, draft.places)
        # A chat need not be in order: what it brings is the client's own business, stored or not.
        before = place.messages if draft.kind is RunKind.RESPONSE else None
        most = self._settings.max_message_mb << 20
        return drafted("", drafts, places, finder(self._threads, place.messages), max_bytes=most, before=before)

    # --- in a thread --------------------------------------------------------------------------------------------

    def _in_thread(self, run: Run, thread: Thread, place: Place, lines: Sequence[Message]) -> Run | None:
        """The run holds its input until it begins. None: somebody answers there, or has answered since."""
        run = self._of_thread(run, thread.id)
        own = [replace(line, thread_id=thread.id) for line in _marked(lines, run)]
        run = replace(run, input=tuple(raw_message(line) for line in own))
        try:
            with self._messages.holding(thread.id, _by_place(own)):
                return run if self._runs.create(run, place.still) else None
        except RequestTooLargeError as error:  # all of it together
            error.param = error.param or "input"
            raise

    def _in_new_thread(self, run: Run, place: Place, lines: Sequence[Message]) -> Run:
        """The thread comes with all its messages, in one step."""
        thread, _ = self._thread_service.drafted(ThreadDraft(fields={"model_id": run.model}))
        run = self._of_thread(run, thread.id)
        own = _marked(lines, run)
        run = replace(run, input_ids=tuple(line.id for line in own))
        extra: dict[str, Any] = {MADE_FOR: run.id}
        if place.thread is not None and place.previous is not None:
            extra[BRANCHED_FROM] = {"thread_id": place.thread.id, "response_id": place.previous.id}
        with ExitStack() as stack:
            stack.enter_context(self._messages.holding(thread.id, _by_place(own)))
            if kept := self._messages.known_files(place.messages):
                stack.enter_context(self._files.holding(kept, thread.id))
            self._threads.create(replace(thread, extra=extra), [*place.messages, *own])
        try:
            if not self._runs.create(run):
                raise ConflictError(f"thread {thread.id} was answered before it was told of", param=place.field)
        except BaseException:
            self._threads.delete(thread.id)
            raise
        return run

    def _of_thread(self, run: Run, thread_id: str) -> Run:
        return replace(run, id=ids.new_answer_id(_PREFIXES[run.kind], thread_id), thread_id=thread_id)

    # --- the last one -------------------------------------------------------------------------------------------

    def is_all_there_is(self, run: Run) -> bool:
        """Whether the run's thread was made for an answer and holds nothing but this one, and what it came with."""
        thread = self._threads.get(run.thread_id)
        maker = thread.extra.get(MADE_FOR)
        is_made_for_one = isinstance(maker, str) and ids.thread_of(maker) == thread.id  # not one that is a copy of it
        if not is_made_for_one or run.in_conversation or list(self._runs.ids(run.thread_id)) != [run.id]:
            return False
        return all(_is_answers(message, thread) for message in self._threads.all_messages(run.thread_id))


def _check_conversation(run: Run, place: Place, lines: Sequence[Message]) -> None:
    """Raises InvalidRequestError for what cannot be answered."""
    messages = conversation((*place.messages, *lines))
    if not messages and not run.instructions:
        raise InvalidRequestError("there is nothing that could be answered: send input or instructions", param="input")
    places = {line.id: "input" for line in lines}
    found = leftovers.of_messages(messages, places, without_tools=run.tool_choice == leftovers.NO_TOOLS)
    leftovers.refuse(found, None if found and found[0].param == "input" else place.field)
    if run.kind is RunKind.RESPONSE:
        check_outputs(messages)


def check_outputs(messages: Sequence[Message]) -> None:
    """Raises InvalidRequestError, which begins as OpenAI's does, for a call in a conversation that has no output."""
    for call_id in CallOrder.of(shown(messages)).waiting:
        raise InvalidRequestError(
            f"No tool output found for function call {call_id[:128]}. "
            "Send a function_call_output (a tool_result in Messages) with its id",
            param="input",
        )


def _assistant_of(thread: Thread | None) -> str:
    """Who answers, as far as the thread and Jan go."""
    entries = () if thread is None else thread.assistants
    return next((entry.assistant_id for entry in entries), DEFAULT_ASSISTANT)


def _marked(lines: Sequence[Message], run: Run) -> list[Message]:
    return [replace(line, extra={**line.extra, INPUT_OF: run.id}) for line in lines]


def _by_place(lines: Sequence[Message]) -> Mapping[str, Message]:
    return {f"input.{number}": line for number, line in enumerate(lines)}


def _is_answers(message: Message, thread: Thread) -> bool:
    """Whether an answer came with it, or said it, or brought it along from where it branched off."""
    run_id = message.run_id or message.extra.get(INPUT_OF)
    is_copy = BRANCHED_FROM in thread.extra and message.created_ms < thread.created_ms
    return is_copy or (isinstance(run_id, str) and ids.thread_of(run_id) is not None)
