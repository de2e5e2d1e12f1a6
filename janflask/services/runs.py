"""Runs: a thread is made to answer. What is asked for is written down here; the runner's process carries it out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from janflask.access.caller import working_for
from janflask.errors import (
    ClientDisconnectedError,
    InvalidRequestError,
    JanflaskError,
    NotFoundError,
)
from janflask.files import ids
from janflask.inference import leftovers
from janflask.inference.waiting import Waiter
from janflask.inference.window import conversation, fitting
from janflask.ipc.clients.runner import RunnerClient
from janflask.services.assistants import AssistantService
from janflask.services.continuing import continued
from janflask.services.inherited import inherited
from janflask.services.messages import MessageService, check_thread_id
from janflask.services.models import ModelService
from janflask.services.run_calls import answered, format_for, seen, tools_for
from janflask.services.run_changes import Changes, changes_of
from janflask.services.run_start import TIMEOUT, answering, begun, chosen_model, revive
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.base import Page, Repository, Slice
from janflask.storage.records import (
    DEFAULT_ASSISTANT,
    Assistant,
    Message,
    Run,
    RunDraft,
    Thread,
    ThreadAssistant,
    ThreadDraft,
)
from janflask.storage.run_json import STEP

log = logging.getLogger(__name__)


class RunService:
    """Makes, lists, watches and cancels runs. Thread-safe.

    Besides what is said here, every method raises what the repository's do (``janflask.storage.base``).
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        runner: RunnerClient,
        *,
        assistants: AssistantService,
        messages: MessageService,
        models: ModelService,
        threads: ThreadService,
    ) -> None:
        self._settings = settings
        self._store = repository.runs
        self._threads = repository.threads
        self._runner = runner
        self._assistants = assistants
        self._messages = messages
        self._models = models
        self._thread_service = threads

    # --- making -------------------------------------------------------------------------------------------------

    def create(self, thread_id: str, draft: RunDraft) -> Run:
        """A run that is on disk and about to begin, also if this process or the runner ends now.

        Raises InvalidRequestError when the thread is busy, nobody says which model, or there is something in it that
        could not be used; NotFoundError for an unknown thread or assistant, ModelNotFoundError. Then nothing is stored.
        """
        check_thread_id(thread_id)
        thread = self._threads.get(thread_id)
        self.check_free(thread_id)
        run = self._run(thread, draft)
        added = self._added(thread_id, draft)
        stored = list(self._threads.all_messages(thread_id))
        _refuse_leftovers(run, stored, added)
        return self._stored(_continuing(run, draft, stored), added)

    def create_with_thread(self, draft: RunDraft) -> Run:
        """A new thread and its run. Raises what ``create`` and ThreadService.create do; then there is no thread."""
        thread, messages = self._thread_service.drafted(draft.thread or ThreadDraft())
        run = self._run(thread, draft)
        placed = {f"thread.{where}": item for where, item in messages.items()} | self._added(thread.id, draft)
        _refuse_leftovers(run, (), placed)
        run = _continuing(run, draft, list(messages.values()))
        self._thread_service.add(thread, placed)
        try:
            return self._stored(run, {})
        except Exception:
            self._threads.delete(thread.id)
            raise

    def _added(self, thread_id: str, draft: RunDraft) -> dict[str, Message]:
        """The messages that come with the run, by where they are in the request."""
        places = ((f"additional_messages.{number}", item) for number, item in enumerate(draft.additional_messages))
        return {where: self._messages.drafted(thread_id, item, param=where) for where, item in places}

    def _stored(self, run: Run, added: Mapping[str, Message]) -> Run:
        if added:
            self._messages.add(run.thread_id, added)
        if not self._store.create(run, lambda: self._may_go_on(run)):
            self._take_back(added.values())
            self.check_free(run.thread_id)
            if run.continued is not None:
                raise InvalidRequestError("the last message was changed just now: ask again", param="continue_last")
            raise _busy(run.thread_id, "another one")
        return begun(self._runner, run)

    def _may_go_on(self, run: Run) -> bool:
        """Whether what it goes on with is as it was when it was looked at."""
        if run.continued is None:
            return True
        last = self._threads.message_ids(run.thread_id)[-1:]
        return bool(last) and continued(self._threads.get_message(run.thread_id, last[0])) == run.continued

    def check_free(self, thread_id: str) -> None:
        """Raises InvalidRequestError while a run of the thread is under way."""
        if (run_id := answering(self._store, self._runner, thread_id)) is not None:
            raise _busy(thread_id, run_id)

    def _run(self, thread: Thread, draft: RunDraft) -> Run:
        """Run over thread over assistant; the model's own and the defaults come in when it is carried out."""
        entry, assistant = self._assistant(thread, draft.assistant_id)
        model = self._model(draft.model, thread, entry, assistant)
        named = _named(thread, entry)
        leftovers.refuse(leftovers.of_run(draft, thread, entry, assistant, named))
        tools, form = tools_for(draft, entry, assistant, named), format_for(draft, entry, assistant, named)
        taken = inherited(thread, entry, assistant, _own_parameters(draft))
        instructions = entry.instructions or assistant.instructions
        if draft.instructions is not None:
            instructions = draft.instructions
        now = ids.now_ms()
        return Run(
            id=ids.new_id(ids.RUN),
            thread_id=thread.id,
            assistant_id=entry.assistant_id,
            message_id=ids.new_id(ids.MESSAGE),
            step_id=ids.new_id(STEP),
            created_ms=now,
            expires_ms=now + int(self._settings.run_timeout * 1000),
            key_id=working_for.get(),
            model=model,
            instructions="\n\n".join(text for text in (instructions, draft.additional_instructions) if text),
            settings=taken.settings,
            parameters=taken.parameters,
            temperature=taken.parameters.get("temperature"),
            top_p=taken.parameters.get("top_p"),
            max_prompt_tokens=draft.max_prompt_tokens,
            max_completion_tokens=draft.max_completion_tokens,
            last_messages=draft.last_messages,
            response_format=form,
            form=draft.form,
            tools=tools,
            tool_choice=draft.tool_choice,
            calls=draft.calls,
            parallel_tool_calls=draft.parallel_tool_calls,
            metadata=draft.metadata,
            ends_with_client=draft.ends_with_client,
            problem=taken.problem,
        )

    def _assistant(self, thread: Thread, assistant_id: str | None) -> tuple[ThreadAssistant, Assistant]:
        """As the thread has it, and as the server does; a thread may have one that the server does not know."""
        entries = {entry.assistant_id: entry for entry in thread.assistants}
        if assistant_id is None:
            assistant_id = next(iter(entries), DEFAULT_ASSISTANT)
        entry = entries.get(assistant_id)
        try:
            if not ids.is_id(assistant_id):
                raise NotFoundError(f"there is no assistant {assistant_id[:128]!r}; GET /v1/assistants lists them")
            assistant = self._assistants.get(assistant_id)
        except NotFoundError:
            if entry is None:
                raise
            assistant = Assistant(id=assistant_id, created_ms=thread.created_ms)
        return entry or ThreadAssistant(assistant_id=assistant_id), assistant

    def _model(self, wanted: str | None, thread: Thread, entry: ThreadAssistant, assistant: Assistant) -> str:
        """Raises ModelNotFoundError, and InvalidRequestError when nobody names one and there is a choice."""
        names = (wanted, thread.model_id, entry.model.get("id"), assistant.model)
        return chosen_model(self._models, names, "neither the run nor its thread nor its assistant")

    def _take_back(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._messages.delete(message.thread_id, message.id)

    # --- reading and changing -----------------------------------------------------------------------------------

    def get(self, thread_id: str, run_id: str) -> Run:
        """One run."""
        _check_ids(thread_id, run_id)
        return self._now(self._store.get(thread_id, run_id))

    def list(self, thread_id: str, page: Page) -> Slice[Run]:
        """A page of the thread's runs."""
        check_thread_id(thread_id)
        self._threads.get(thread_id)
        found = self._store.list(thread_id, page)
        return Slice([self._now(run) for run in found.items], found.has_more)

    def modify(self, thread_id: str, run_id: str, changes: Mapping[str, Any]) -> Run:
        """The run with ``changes`` (``metadata``) made."""
        _check_ids(thread_id, run_id)
        return self._now(self._store.update(thread_id, run_id, lambda run: replace(run, **changes)))

    def _now(self, run: Run) -> Run:
        """The run as it is told. One that has waited in vain ends before anybody hears so: its thread is free then."""
        if seen(run) is run:
            return run
        revive(self._runner, run.thread_id, run.id)
        return seen(self._store.get(run.thread_id, run.id))

    def cancel(self, thread_id: str, run_id: str) -> Run:
        """The run, which is about to end. Raises InvalidRequestError for one that has ended, UnavailableError."""
        _check_ids(thread_id, run_id)
        return self._runner.cancel(thread_id, run_id, TIMEOUT)

    def submit(self, thread_id: str, run_id: str, outputs: Sequence[tuple[str, str]]) -> Run:
        """The run, which goes on with these outputs, by the ids of the calls that it waits for; they are on disk.

        Raises what ``run_calls.answered`` does; then nothing has changed.
        """
        _check_ids(thread_id, run_id)
        most = self._settings.max_message_mb << 20
        run = self._store.update(thread_id, run_id, lambda run: answered(run, outputs, most))
        revive(self._runner, thread_id, run_id)
        return run

    # --- listening ----------------------------------------------------------------------------------------------

    def watch(self, thread_id: str, run_id: str, waiter: Waiter, beat: float, every: float = 0) -> Changes:
        """The run now, what it has said, and what comes, until it is final or waits for the outputs of calls.

        None after ``beat`` seconds of silence. Behind words nothing is told for ``every`` seconds, and then together
        what came meanwhile.

        What was told may be told again, after a runner has gone away and another goes on. Raises UnavailableError and
        ClientDisconnectedError; the run goes on without its watchers.
        """
        _check_ids(thread_id, run_id)
        return changes_of(self._runner, thread_id, run_id, waiter, beat, every)

    def follow(self, run: Run, waiter: Waiter, beat: float) -> Changes:
        """``watch`` for whoever made the run: if that was asked for, it is cancelled when its client leaves."""
        try:
            yield from self.watch(run.thread_id, run.id, waiter, beat)
        except (ClientDisconnectedError, GeneratorExit):
            if run.ends_with_client:
                self._cancel_for_client(run)
            raise

    def _cancel_for_client(self, run: Run) -> None:
        try:
            self.cancel(run.thread_id, run.id)
        except JanflaskError as error:
            log.info("run %s is not cancelled though its client left: %s", run.id, error.message)


def _continuing(run: Run, draft: RunDraft, messages: Sequence[Message]) -> Run:
    """The run, which goes on with the last of ``messages`` if that was asked for. Raises InvalidRequestError."""
    if not draft.continue_last:
        return run
    last = continued(messages[-1] if messages else None)
    return replace(run, continued=last, message_id=last.message_id)


def _own_parameters(draft: RunDraft) -> dict[str, Any]:
    own = {"temperature": draft.temperature, "top_p": draft.top_p}
    return {**draft.parameters, **{name: value for name, value in own.items() if value is not None}}


def _named(thread: Thread, entry: ThreadAssistant) -> dict[str, Any]:
    """What the thread over its entry names among the parameters, understood or not."""
    levels = (entry.model.get("parameters"), thread.parameters)
    return {name: value for level in levels if isinstance(level, Mapping) for name, value in level.items()}


def _refuse_leftovers(run: Run, stored: Iterable[Message], added: Mapping[str, Message]) -> None:
    """Raises InvalidRequestError for what the model would not be shown of messages that it may be shown.

    How many fit its context is found out later, and what was added until then: ``services.prompts`` asks once more.
    """
    messages = conversation((*stored, *added.values()))
    window = fitting(messages, lambda _: True, run.last_messages)
    places = {message.id: where for where, message in added.items()}
    without_tools = run.tool_choice == leftovers.NO_TOOLS
    leftovers.refuse(leftovers.of_messages(window.shown, places, without_tools=without_tools))


def _check_ids(thread_id: str, run_id: str) -> None:
    check_thread_id(thread_id)
    if not ids.is_id(run_id):
        raise NotFoundError(
            f"there is no run {run_id[:128]!r}; GET /v1/threads/{thread_id}/runs lists them", param="run_id"
        )


def _busy(thread_id: str, run_id: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Thread {thread_id} already has an active run {run_id}: wait for its end, or cancel it", param="thread_id"
    )
