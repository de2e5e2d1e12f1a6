"""A stored chat's run and its log, as the events that a backend would have given: whole, or as they come."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from janflask.api.answers.run_objects import timings_of
from janflask.decoding import convert
from janflask.errors import EngineError, JanflaskError, ModelStoppedError, TimeoutExceededError
from janflask.inference.deltas import (
    Delta,
    Done,
    Event,
    Events,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from janflask.ipc.messages.error import ErrorReply
from janflask.ipc.messages.generation import FinishReason, Timings, Usage
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from janflask.services.run_changes import Changes
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    ReasoningEvent,
    RefusalEvent,
    TextEvent,
    ToolCallEvent,
    unheard,
)

ANSWERED = frozenset({RunStatus.COMPLETED, RunStatus.INCOMPLETE})
_REPLYING = "message.in_progress"  # the backend has taken the request
_NO_TIMINGS = Timings(cache_n=0, prompt_n=0, prompt_ms=0, predicted_n=0, predicted_ms=0, queue_ms=0)
_ERRORS = range(400, 600)  # HTTP statuses
_UNKNOWN = -1  # the id of a token: a log does not tell it

log = logging.getLogger(__name__)


def deltas_of(events: Sequence[LogEvent]) -> list[Delta]:
    """What of a log is part of the answer."""
    return [delta for event in events if (delta := _delta(event)) is not None]


def whole_events(run: Run, events: Sequence[LogEvent]) -> list[Event]:
    """Of an answer that has ended, in one of the ways that are ``ANSWERED``."""
    return [Started(run.prompt_tokens or 0), *deltas_of(events), *_ending(run)]


class ChatListener:
    """Hears a run, and says what it hears as a backend would. ``run`` is as it was heard of last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.has_said = False  # a word, a thought, a call
        self._heard = 0  # events; a runner that goes on for another one tells all of them again
        self._is_started = False

    def events(self, changes: Changes) -> Events:
        """An empty list for each silence. Of a run that ended without an answer there is no end."""
        for change in changes:
            if change is None:
                yield []
            elif isinstance(change, RunChanged):
                self.run = change.run
            elif news := self._news(change):
                yield news
        if self.run.status in ANSWERED:
            yield [*self._start(), *_ending(self.run)]

    def _news(self, said: RunSaid) -> list[Event]:
        new = unheard(self._heard, said.first, said.events)
        self._heard += len(new)
        deltas = deltas_of(new)
        self.has_said = self.has_said or bool(deltas)
        is_begun = deltas or any(isinstance(event, LifecycleEvent) and event.event == _REPLYING for event in new)
        return [*(self._start() if is_begun else ()), *deltas]

    def _start(self) -> Iterator[Event]:
        if not self._is_started:
            self._is_started = True
            yield Started(self.run.prompt_tokens or 0)


def _delta(event: LogEvent) -> Delta | None:
    if isinstance(event, TextEvent):
        return TextDelta(0, event.text, tuple(_logprobs(event)))
    if isinstance(event, ReasoningEvent):
        return ReasoningDelta(0, event.text)
    if isinstance(event, RefusalEvent):
        return RefusalDelta(0, event.text)
    if isinstance(event, ToolCallEvent):
        return ToolCallDelta(0, event.call, event.id, event.name, event.arguments)
    return None


def _logprobs(event: TextEvent) -> Iterator[TokenLogprob]:
    """Without those of which a hand has left nothing that could be told."""
    for token in event.logprobs:
        try:
            yield _logprob(token)
        except (KeyError, TypeError, ValueError):
            log.warning("a token's log-probability in a log cannot be understood, and is left out: %.200r", token)


def _logprob(token: Mapping[str, Any]) -> TokenLogprob:
    """Out of what a chat tells of it."""
    top = tuple(
        TopLogprob(item["token"], bytes(item["bytes"]), item["logprob"], _UNKNOWN) for item in token["top_logprobs"]
    )
    return TokenLogprob(token["token"], bytes(token["bytes"]), token["logprob"], _UNKNOWN, top)


# --- its end ----------------------------------------------------------------------------------------------------------


def _ending(run: Run) -> list[Event]:
    if run.status is RunStatus.INCOMPLETE:
        reason = FinishReason.LENGTH
    else:
        reason = FinishReason.TOOL_CALLS if run.wanted else FinishReason.STOP
    return [Finished(0, reason, run.stop), Done(_usage(run), _timings(run))]


def error_of(run: Run) -> JanflaskError:
    """What ended a run that has no answer."""
    reply = _failure(run)
    if reply is not None and reply.status in _ERRORS:
        error = reply.to_error()
        error.param = "messages" if error.param == "input" else error.param  # a response's name for them
        return error
    if run.status is RunStatus.CANCELLED:
        return ModelStoppedError(f"the answer {run.id} was cancelled: what it had said by then is all there is of it")
    if run.status is RunStatus.EXPIRED:
        return TimeoutExceededError(f"the time of the answer {run.id} was over before it ended (JANFLASK_RUN_TIMEOUT)")
    return EngineError(run.error_message or f"the answer {run.id} failed")


def is_counted(run: Run) -> bool:
    """Whether somebody knows what it took: nobody does of one whose end a crash kept from being written down."""
    return run.prompt_tokens is not None


def _usage(run: Run) -> Usage:
    return Usage(
        prompt_tokens=run.prompt_tokens or 0,
        completion_tokens=run.completion_tokens or 0,
        cached_tokens=run.cached_tokens or 0,
        reasoning_tokens=run.reasoning_tokens or 0,
    )


def is_timed(run: Run) -> bool:
    """Whether it is known where its time went."""
    return timings_of(run) is not None


def _timings(run: Run) -> Timings:
    return timings_of(run) or _NO_TIMINGS


def _failure(run: Run) -> ErrorReply | None:
    """None for what is missing, and for what a hand has made of it: the answer can be told without."""
    try:
        return convert(run.failure, ErrorReply)
    except msgspec.ValidationError:
        return None
