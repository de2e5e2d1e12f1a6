"""One run, from queued to final."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from janflask.access.caller import working_for
from janflask.container import Services
from janflask.errors import (
    ClientDisconnectedError,
    ConflictError,
    EngineCrashedError,
    EngineError,
    JanflaskError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from janflask.files import ids
from janflask.inference.deltas import Delta, Done, Event, Finished, RefusalDelta, Started, ToolCallDelta
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import FinishReason
from janflask.runner.compacting import summed_up
from janflask.runner.events import Calls, log_event
from janflask.runner.live import Halt, LiveRun
from janflask.runner.titles import give_title
from janflask.services import endings
from janflask.services.compaction import told_of
from janflask.services.continuing import begun_in, continued, grown, is_continued
from janflask.services.endings import Ending, failed
from janflask.services.prompts import Begun, Prompts, PromptTooLongError, RunPrompt
from janflask.services.replies import owes_message, run_messages
from janflask.storage.answers import MADE_FOR
from janflask.storage.base import EventWriter, Repository
from janflask.storage.items import is_summary
from janflask.storage.jan import message_from_json, raw_message
from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.storage.run_log import ReasoningEvent, TextEvent

SYNC_INTERVAL = 1.0  # seconds after which a power cut takes nothing of a reply any more
PAUSE = 0.5  # seconds between two looks at a queue that is full, and between two tries to write down an end
END_ATTEMPTS = 10  # to write down how a run ended

_ANSWERED = frozenset({RunStatus.COMPLETED, RunStatus.INCOMPLETE})

log = logging.getLogger(__name__)


class Execution:
    """Carries out one run, in one thread."""

    def __init__(self, services: Services, repository: Repository, live: LiveRun) -> None:
        self._services = services
        self._threads = repository.threads
        self._runs = repository.runs
        self._tries = Tries()
        self._prompts = Prompts(services.backends, services.models, self._tries)
        self._live = live
        self._ids = live.run.thread_id, live.run.id
        self._first_token_ms = live.run.first_token_ms
        self._synced = time.monotonic()
        self._unsynced = False

    def carry_out(self) -> bool:
        """Returns when the run is final and its messages stored, or, with true, when it waits for outputs of calls.

        When this process ends it returns with the run as far as it is. A run whose thread is deleted is forgotten.
        """
        working_for.set(self._live.run.key_id)
        try:
            ending = self._ending()
            if ending is not None:
                return self._end(ending)
        except NotFoundError as error:
            log.info("run %s ends with its thread: %s", self._live.run.id, error.message)
            self._runs.forget(self._live.run.id)
        return False

    # --- the answer ---------------------------------------------------------------------------------------------

    def _ending(self) -> Ending | None:
        """None: this process ends, the run doesn't."""
        try:
            self._take_input()
            stored = self._stored_ending()
            if stored is not None:
                return stored
            with self._live.waiter() as waiter:
                waiter.wait(0)  # it may be halted before it begins
                self._live.update(_started)
                with self._runs.event_log(*self._ids) as writer:
                    self._live.add(writer, ())
                    return self._answer(writer, waiter)
        except ClientDisconnectedError:
            return self._halted()
        except PromptTooLongError:
            return endings.incomplete("max_prompt_tokens")
        except JanflaskError as error:
            return failed(error, self._live.run.kind)
        except Exception as error:
            log.exception("run %s failed", self._live.run.id)
            return failed(EngineError(f"the run failed: {error!r}"))

    def _take_input(self) -> None:
        """What the run brings to its thread is stored there, once, however often this begins."""
        run = self._live.run
        if not run.input:
            return
        messages = [message_from_json(raw, run.thread_id) for raw in run.input]
        stored = set(self._threads.message_ids(run.thread_id))
        if new := [message for message in messages if message.id not in stored]:
            self._threads.append(run.thread_id, new)
        names = tuple(message.id for message in messages)
        self._live.update(lambda run: replace(run, input=(), input_ids=names))

    def _take_input_back(self) -> None:
        """An answer that broke off without a word leaves its thread as it was, unless that was made for it.

        It keeps its input: a process that goes on with it in the middle of this stores that again.
        """
        run = self._live.run
        if not run.input_ids or self._threads.get(run.thread_id).extra.get(MADE_FOR) == run.id:
            return
        brought = set(run.input_ids)
        messages = [message for message in self._threads.all_messages(run.thread_id) if message.id in brought]
        raw = tuple(raw_message(message) for message in messages)
        self._live.update(lambda run: replace(run, input=raw, input_ids=()))
        self._threads.update(
            run.thread_id,
            lambda thread: thread,
            lambda present: [item for item in present if item.id not in brought and item.run_id != run.id],
        )

    def _answer(self, writer: EventWriter, waiter: Waiter) -> Ending:
        """Goes on where an engine died, and waits for a place in its queue however long that takes."""
        while True:
            try:
                return self._generate(writer, waiter)
            except QueueFullError:
                waiter.wait(PAUSE)
            except (EngineCrashedError, UnavailableError) as error:
                log.info("run %s goes on in a moment: %s", self._live.run.id, error.message)
                self._tries.again(error, waiter)

    def _generate(self, writer: EventWriter, waiter: Waiter) -> Ending:
        is_new = not (self._live.text or self._live.reasoning or self._live.run.rounds)
        begun = self._begun()
        if self._live.run.compact_threshold is not None and not self._live.run.compaction and not begun:
            self._compact(waiter)
        prompt = self._prompts.of(self._live.run, self._messages(begun), begun, waiter)
        if prompt.request.max_tokens == 0:
            return endings.incomplete("max_completion_tokens")
        finished, done, refusal = Finished(0, ""), None, ""
        calls = Calls(call.id for past in self._live.run.rounds for call in past.calls)
        backend = self._services.backends.of(self._live.run.model)
        with closing(backend.chat(prompt.request, waiter, SYNC_INTERVAL, self._tries)) as events:
            for batch in events:
                for event in batch:
                    if isinstance(event, Started):
                        self._live.update(lambda run: self._begin(run, prompt))
                        self._take_over(writer, begun)
                    elif isinstance(event, ToolCallDelta):
                        calls.add(event)
                    elif isinstance(event, RefusalDelta):
                        refusal += event.text
                    elif isinstance(event, Finished):
                        finished = event
                    elif isinstance(event, Done):
                        done = event
                if is_new and self._first_token_ms is None:
                    self._time(batch)
                self._say(writer, batch)
                if done is not None:
                    ending = self._ended(finished, calls, refusal, endings.usage(done, prompt))
                    return ending | endings.timings(self._live.run, done)
        raise EngineCrashedError("the engine ended the answer without a word", retry_after=1)

    def _begun(self) -> Begun:
        """What the answer goes on behind: what it has said, or what was there before it."""
        begun, run = Begun(self._live.text, self._live.reasoning), self._live.run
        if begun or run.begins_with is None:
            return begun
        message = self._threads.get_message(run.thread_id, run.message_id)
        if continued(message) != run.begins_with:
            raise ConflictError(
                f"message {message.id} was changed before the run could go on with it: make another run"
            )
        return begun_in(message)

    def _take_over(self, writer: EventWriter, begun: Begun) -> None:
        """What was there before the run is its first words, in one write: so its log has all of the message."""
        if self._live.run.begins_with is not None and not self._live.text and not self._live.reasoning:
            thought = [ReasoningEvent(begun.reasoning)] if begun.reasoning else []
            self._live.add(writer, [*thought, *([TextEvent(begun.text)] if begun.text else [])])
            self._unsynced = True

    def _compact(self, waiter: Waiter) -> None:
        """What is older is summed up, once, if the prompt is longer than the run has it."""
        messages = self._messages(Begun())
        summary = summed_up(self._services.compactions, self._threads, self._live.run, messages, waiter)
        if summary is not None:
            self._live.update(lambda run: replace(run, compaction=told_of(summary)))

    def _begin(self, run: Run, prompt: RunPrompt) -> Run:
        """A model that may call functions need not say anything: its message is begun with its first word."""
        run = replace(run, left_out=prompt.left_out, context_tokens=prompt.context_tokens)
        return run if run.tools and run.begins_with is None else _replying(run)

    def _ended(self, finished: Finished, calls: Calls, refusal: str, used: Ending) -> Ending:
        run, wanted = self._live.run, calls.whole()
        if run.kind is not RunKind.RUN:
            return endings.answered(finished, wanted, refusal) | endings.total(run, used)
        if finished.reason == FinishReason.TOOL_CALLS and wanted:
            return endings.waiting(run, wanted, self._live.text, self._live.reasoning, used)
        ending = failed(EngineError(refusal)) if refusal else endings.ended(finished.reason)
        return ending | endings.total(run, used)

    def _messages(self, begun: Begun) -> list[Message]:
        """The thread up to what the run says itself; a summary that it made is what it goes on from."""
        run = self._live.run
        messages = [
            message
            for message in self._threads.all_messages(run.thread_id)
            if (message.run_id != run.id or is_summary(message)) and not is_continued(run, message.id)
        ]
        if not begun or run.replied_ms is None:
            return messages
        return [message for message in messages if message.created_ms <= run.replied_ms]

    def _time(self, batch: list[Event]) -> None:
        """When the first token came is written down at the end: before it a write would take its time."""
        if any(isinstance(event, Delta) for event in batch):
            self._first_token_ms = max(0, ids.now_ms() - self._live.run.created_ms)

    def _say(self, writer: EventWriter, batch: list[Event]) -> None:
        deltas = [logged for event in batch if (logged := log_event(event)) is not None]
        if deltas:
            if self._live.run.replied_ms is None and any(isinstance(item, TextEvent) for item in deltas):
                self._live.update(_replying)
            self._live.add(writer, deltas)
            self._unsynced = True
        now = time.monotonic()
        if self._unsynced and now - self._synced >= SYNC_INTERVAL:
            writer.sync()
            self._synced, self._unsynced = now, False

    def _halted(self) -> Ending | None:
        match self._live.halted:
            case Halt.CANCELLED:
                return endings.cancelled()
            case Halt.EXPIRED:
                return endings.expired()
        return None

    # --- its end ------------------------------------------------------------------------------------------------

    def _stored_ending(self) -> Ending | None:
        """How the run ended before a crash that came between its messages and the last word on it."""
        run = self._live.run
        if run.message_id not in self._threads.message_ids(run.thread_id):
            return None
        message = self._threads.get_message(run.thread_id, run.message_id)
        return None if is_continued(run, message.id) and message.run_id != run.id else endings.ending_of(message)

    def _end(self, ending: Ending) -> bool:
        """Whether the run waits now. What a store refuses for long is left to a next start.

        Raises NotFoundError when the thread is gone.
        """
        for attempt in range(1, END_ATTEMPTS + 1):
            try:
                return self._write_end(ending)
            except NotFoundError:
                raise
            except JanflaskError as error:
                log.error("the end of run %s cannot be written (attempt %d): %s", self._live.run.id, attempt, error)
                if self._live.halted is Halt.STOPPED:
                    break
            time.sleep(PAUSE)
        return False

    def _write_end(self, ending: Ending) -> bool:
        ending = {**ending, "first_token_ms": self._first_token_ms}
        if ending["status"] is RunStatus.REQUIRES_ACTION:
            ended = self._live.update(lambda run: run if run.status is RunStatus.CANCELLING else replace(run, **ending))
            if ended.status is not RunStatus.CANCELLING:
                return True
            ending = {**endings.cancelled(), "first_token_ms": self._first_token_ms}
        if self._live.run.waiting is not None:
            self._live.update(lambda run: run)  # it may have got its outputs in the moment in which it expired
        if self._needs_message(ending):
            self._live.update(_replying)
        has_said = self._has_said(ending)
        if not has_said:
            self._take_input_back()
        final = replace(self._live.run, **ending)
        if has_said:
            self._store(run_messages(final, self._live.text, self._live.reasoning), final)
        if final.status in _ANSWERED and self._services.settings.thread_titles:
            give_title(self._threads, final.thread_id)
        self._live.close(ending)
        return False

    def _store(self, messages: Sequence[Message], run: Run) -> None:
        """Each once, however often this begins."""
        stored = set(self._threads.message_ids(run.thread_id))
        for message in messages:
            if message.id in stored and is_continued(run, message.id):
                self._threads.update_message(run.thread_id, message.id, partial(grown, reply=message, run=run))
        if new := [message for message in messages if message.id not in stored]:
            self._threads.append(run.thread_id, new)

    def _has_said(self, ending: Ending) -> bool:
        """False for an answer by itself that broke off without a word."""
        is_whole = self._live.run.kind is RunKind.RUN or ending["status"] in _ANSWERED
        return is_whole or bool(self._live.text or self._live.reasoning)

    def _needs_message(self, ending: Ending) -> bool:
        """A whole answer has a message, be it empty, and so have calls that were answered: it keeps them.

        Of an answer by itself the message keeps what was thought and called, too.
        """
        run = self._live.run
        is_said = run.kind is not RunKind.RUN and bool(ending.get("wanted") or self._live.reasoning)
        is_whole = ending["status"] is RunStatus.COMPLETED
        return owes_message(run) or (run.replied_ms is None and (is_whole or is_said))


def _started(run: Run) -> Run:
    status = RunStatus.IN_PROGRESS if run.status is RunStatus.QUEUED else run.status  # it may be cancelling by now
    now = ids.now_ms()
    resumed = (run.resumed_ms or now) if run.rounds else None
    return replace(run, status=status, started_ms=run.started_ms or now, resumed_ms=resumed)


def _replying(run: Run) -> Run:
    return replace(run, replied_ms=run.replied_ms or ids.now_ms())
