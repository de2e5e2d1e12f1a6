"""One run, from queued to final."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from janflask.container import Services
from janflask.errors import (
    ClientDisconnectedError,
    EngineCrashedError,
    EngineError,
    JanflaskError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from janflask.files import ids
from janflask.inference.deltas import Done, Event, Finished, Started
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.runner.events import log_event
from janflask.runner.live import Halt, LiveRun
from janflask.runner.prompts import Begun, Prompts, PromptTooLongError, RunPrompt
from janflask.runner.titles import give_title
from janflask.services.replies import reply_message
from janflask.storage.base import EventWriter, Repository
from janflask.storage.records import Message, Run, RunStatus

SYNC_INTERVAL = 1.0  # seconds after which a power cut takes nothing of a reply any more
PAUSE = 0.5  # seconds between two looks at a queue that is full, and between two tries to write down an end
END_ATTEMPTS = 10  # to write down how a run ended

_ANSWERED = frozenset({RunStatus.COMPLETED, RunStatus.INCOMPLETE})

Ending = dict[str, Any]  # the fields of a run that its end sets

log = logging.getLogger(__name__)


class Execution:
    """Carries out one run, in one thread."""

    def __init__(self, services: Services, repository: Repository, live: LiveRun) -> None:
        self._services = services
        self._threads = repository.threads
        self._runs = repository.runs
        self._tries = Tries()
        self._prompts = Prompts(services, self._tries)
        self._live = live
        self._ids = live.run.thread_id, live.run.id
        self._synced = time.monotonic()
        self._unsynced = False

    def carry_out(self) -> None:
        """Returns when the run is final and its message stored; when this process ends, with the run as far as it is.

        A run whose thread is deleted is forgotten.
        """
        try:
            ending = self._ending()
            if ending is not None:
                self._end(ending)
        except NotFoundError as error:
            log.info("run %s ends with its thread: %s", self._live.run.id, error.message)
            self._runs.forget(self._live.run.id)

    # --- the answer ---------------------------------------------------------------------------------------------

    def _ending(self) -> Ending | None:
        """None: this process ends, the run doesn't."""
        try:
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
            return _incomplete("max_prompt_tokens")
        except JanflaskError as error:
            return failed(error)
        except Exception as error:
            log.exception("run %s failed", self._live.run.id)
            return failed(EngineError(f"the run failed: {error!r}"))

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
        begun = Begun(self._live.text, self._live.reasoning)
        prompt = self._prompts.of(self._live.run, self._messages(begun), begun, waiter)
        if prompt.request.max_tokens == 0:
            return _incomplete("max_completion_tokens")
        reason, done = "", None
        backend = self._services.backends.of(self._live.run.model)
        with closing(backend.chat(prompt.request, waiter, SYNC_INTERVAL, self._tries)) as events:
            for batch in events:
                for event in batch:
                    if isinstance(event, Started):
                        self._live.update(lambda run: _replying(run, prompt.left_out))
                    elif isinstance(event, Finished):
                        reason = event.reason
                    elif isinstance(event, Done):
                        done = event
                self._say(writer, batch)
                if done is not None:
                    return _ended(reason) | _usage(done, prompt)
        raise EngineCrashedError("the engine ended the answer without a word", retry_after=1)

    def _messages(self, begun: Begun) -> list[Message]:
        """The thread up to the reply."""
        run = self._live.run
        messages = [message for message in self._threads.all_messages(run.thread_id) if message.id != run.message_id]
        if not begun or run.replied_ms is None:
            return messages
        return [message for message in messages if message.created_ms <= (run.replied_ms or 0)]

    def _say(self, writer: EventWriter, batch: list[Event]) -> None:
        deltas = [logged for event in batch if (logged := log_event(event)) is not None]
        if deltas:
            self._live.add(writer, deltas)
            self._unsynced = True
        now = time.monotonic()
        if self._unsynced and now - self._synced >= SYNC_INTERVAL:
            writer.sync()
            self._synced, self._unsynced = now, False

    def _halted(self) -> Ending | None:
        now = ids.now_ms()
        match self._live.halted:
            case Halt.CANCELLED:
                return {"status": RunStatus.CANCELLED, "cancelled_ms": now}
            case Halt.EXPIRED:
                return {"status": RunStatus.EXPIRED}
        return None

    # --- its end ------------------------------------------------------------------------------------------------

    def _stored_ending(self) -> Ending | None:
        """How the run ended before a crash that came between its message and the last word on it."""
        run = self._live.run
        if run.message_id not in self._threads.message_ids(run.thread_id):
            return None
        return _ending_of(self._threads.get_message(run.thread_id, run.message_id))

    def _end(self, ending: Ending) -> None:
        """Raises NotFoundError when the thread is gone. What a store refuses for long is left to a next start."""
        for attempt in range(1, END_ATTEMPTS + 1):
            try:
                self._write_end(ending)
                return
            except NotFoundError:
                raise
            except JanflaskError as error:
                log.error("the end of run %s cannot be written (attempt %d): %s", self._live.run.id, attempt, error)
                if self._live.halted is Halt.STOPPED:
                    return
            time.sleep(PAUSE)

    def _write_end(self, ending: Ending) -> None:
        final = replace(self._live.run, **ending)
        if final.replied_ms is not None and final.message_id not in self._threads.message_ids(final.thread_id):
            self._threads.append(final.thread_id, [reply_message(final, self._live.text, self._live.reasoning)])
        if final.status in _ANSWERED and self._services.settings.thread_titles:
            give_title(self._threads, final.thread_id)
        self._live.close(ending)


def _started(run: Run) -> Run:
    status = RunStatus.IN_PROGRESS if run.status is RunStatus.QUEUED else run.status  # it may be cancelling by now
    return replace(run, status=status, started_ms=run.started_ms or ids.now_ms())


def _replying(run: Run, left_out: tuple[str, ...]) -> Run:
    return replace(run, replied_ms=run.replied_ms or ids.now_ms(), left_out=left_out)


def _ended(reason: str) -> Ending:
    if reason == "length":
        return _incomplete("max_completion_tokens")
    return {"status": RunStatus.COMPLETED, "completed_ms": ids.now_ms()}


def _incomplete(reason: str) -> Ending:
    return {"status": RunStatus.INCOMPLETE, "incomplete_reason": reason, "completed_ms": ids.now_ms()}


def failed(error: JanflaskError) -> Ending:
    """The end of a run that ``error`` stopped."""
    return {
        "status": RunStatus.FAILED,
        "failed_ms": ids.now_ms(),
        "error_code": _error_code(error),
        "error_message": error.message,
    }


def _error_code(error: JanflaskError) -> str:
    """OpenAI's words for the errors of runs."""
    if error.status == QueueFullError.status:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.param == "messages" and error.status == 400 else "server_error"


def _usage(done: Done, prompt: RunPrompt) -> Ending:
    usage = done.usage
    prompt_tokens = max(0, usage.prompt_tokens - prompt.said_tokens)
    return {
        "prompt_tokens": prompt_tokens,
        "cached_tokens": min(usage.cached_tokens, prompt_tokens),
        "completion_tokens": usage.completion_tokens + prompt.said_tokens,
    }


def _ending_of(message: Message) -> Ending:
    """The end of the run whose message this is."""
    ended_ms = message.completed_ms or message.incomplete_ms or ids.now_ms()
    match (message.incomplete_details or {}).get("reason"):
        case "max_tokens":
            return _incomplete("max_completion_tokens") | {"completed_ms": ended_ms}
        case "run_cancelled":
            return {"status": RunStatus.CANCELLED, "cancelled_ms": ended_ms}
        case "run_expired":
            return {"status": RunStatus.EXPIRED}
        case "run_failed":
            reason = EngineError("the run failed; the server ended before it could write down why")
            return failed(reason) | {"failed_ms": ended_ms}
    return {"status": RunStatus.COMPLETED, "completed_ms": ended_ms}
