"""A response as it grows: of what a backend says, where nothing is stored, or of a run as it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from flask import Response

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.response_events import EVERYTHING, NOWHERE, ResponseEventWriter
from janflask.api.plumbing.sse import KEEP_ALIVE, event_stream
from janflask.errors import JanflaskError
from janflask.files import ids
from janflask.inference.deltas import (
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
from janflask.inference.logprobs import logprob_entries
from janflask.ipc.messages.runner import RunChanged
from janflask.services import endings
from janflask.services.prompts import RunPrompt
from janflask.services.run_changes import Change, Changes
from janflask.services.seals import Seals
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import (
    COMPACTED,
    DueEvent,
    LifecycleEvent,
    LogEvent,
    ReasoningEvent,
    RefusalEvent,
    TextEvent,
    ToolCallEvent,
    missing,
    unheard,
)

Failure = Callable[[Run], JanflaskError]


# --- not stored -------------------------------------------------------------------------------------------------------


def unstored_response(run: Run, prompt: RunPrompt, events: Events, seals: Seals) -> dict[str, Any]:
    """The response, once ``events`` has come to its end."""
    writer = ResponseEventWriter(run, seals, EVERYTHING)
    for _ in _spoken(prompt, events, writer):
        pass
    return writer.response()


def unstored_stream(run: Run, prompt: RunPrompt, events: Events, seals: Seals) -> Response:
    """The response's events.

    The first event is waited for here, so what is wrong from the start is raised and becomes a true HTTP status. A
    failure after that is the response's own, which then has failed.
    """
    writer = ResponseEventWriter(run, seals)
    first = next(events)

    def failed(error: JanflaskError) -> bytes:
        return writer.ended(replace(writer.run, **endings.failed(error, run.kind)))

    opening = writer.created() + writer.in_progress() + writer.compacted()
    lines = chain([opening], _spoken(prompt, chain([first], events), writer))
    return event_stream(lines, events.close, tell_error=failed)


def _spoken(prompt: RunPrompt, events: Iterator[Sequence[Event]], writer: ResponseEventWriter) -> Iterator[bytes]:
    """One piece for each batch of events; at the end the writer's run is final."""
    reason = ""
    for batch in events:
        if not batch:
            yield writer.silence()
            continue
        pieces: list[bytes] = []
        for event in batch:
            if isinstance(event, TextDelta):
                if event.text or event.logprobs:
                    pieces.append(writer.text(event.text, logprob_entries(event.logprobs) if event.logprobs else ()))
            elif isinstance(event, Finished):
                reason = event.reason
            elif isinstance(event, Done):
                pieces.append(writer.ended(_finished(writer, reason, endings.usage(event, prompt), prompt)))
            elif not isinstance(event, Started):
                pieces.append(_aside(event, writer))
        if piece := b"".join(pieces):
            yield piece


def _aside(event: ReasoningDelta | ToolCallDelta | RefusalDelta, writer: ResponseEventWriter) -> bytes:
    if isinstance(event, ReasoningDelta):
        return writer.thought(event.text) if event.text else b""
    if isinstance(event, RefusalDelta):
        return writer.refusal(event.text)
    return writer.call(event.call, event.id or ids.new_id("call_"), event.name or "", event.arguments)


def _finished(writer: ResponseEventWriter, reason: str, used: endings.Ending, prompt: RunPrompt) -> Run:
    said = replace(writer.run, wanted=writer.calls, refusal=writer.refused, left_out=prompt.left_out)
    return replace(said, **endings.ended(reason), **used)


# --- of a run ---------------------------------------------------------------------------------------------------------


def stored_stream(
    changes: Changes,
    run: Run,
    seals: Seals,
    after: int = NOWHERE,
    unspoken: Failure | None = None,
) -> Response:
    """The events of a stored response behind number ``after``.

    With ``unspoken`` the first word is waited for, or a silence: the error that it makes of a run that fails before is
    raised, and becomes a true HTTP status. An error of the stream itself is an event with the number of the last one
    that its client has: whoever comes back behind that number goes on where it was.
    """
    teller = _Teller(ResponseEventWriter(run, seals, after))
    lines = _lines(changes, teller)
    opening: list[bytes] = []
    for line in lines:
        opening.append(line)
        if unspoken is None or line is KEEP_ALIVE or teller.has_begun:
            break
    if unspoken is not None and teller.failed_unspoken:
        changes.close()
        raise unspoken(teller.run)
    return event_stream(_told(chain(opening, lines)), changes.close, tell_error=teller.error)


def _told(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if line)


def _lines(changes: Iterator[Change], teller: _Teller) -> Iterator[bytes]:
    for change in changes:
        if change is None:
            yield KEEP_ALIVE
        elif isinstance(change, RunChanged):
            teller.changed(change.run)
            yield b""
        else:
            yield teller.events(change.first, change.events)
    yield teller.end()


class _Teller:
    """Makes events of the lines of a run's log, each once."""

    def __init__(self, writer: ResponseEventWriter) -> None:
        self._writer = writer
        self._heard = 0
        self._due: list[DueEvent] = []
        self._told: dict[str, Callable[[], bytes]] = {  # of the run's own events
            "run.created": writer.created,
            "run.queued": writer.queued,
            "run.in_progress": writer.in_progress,
            COMPACTED: writer.compacted,
            **{f"run.{status}": lambda: writer.ended(writer.run) for status in RunStatus if status.is_final},
        }

    @property
    def run(self) -> Run:
        """As it was last heard of."""
        return self._writer.run

    @property
    def has_begun(self) -> bool:
        """Whether the model is at it, or has been."""
        return self._writer.has_spoken or self.run.replied_ms is not None

    @property
    def failed_unspoken(self) -> bool:
        return self.run.status is RunStatus.FAILED and not self._writer.has_spoken

    def changed(self, run: Run) -> None:
        """The run as it is now; its events come behind it."""
        self._writer.run = run

    def events(self, first: int, events: Sequence[LogEvent]) -> bytes:
        """What is new in the part of the log that begins with number ``first``."""
        new = unheard(self._heard, first, events)
        self._heard += len(new)
        return b"".join([self._line(event) for event in new])

    def end(self) -> bytes:
        """What ends the run, as far as it was not heard."""
        return self.events(self._heard + 1, missing(self.run, self._due))

    def error(self, error: JanflaskError) -> bytes:
        """An error of the stream, not of the response."""
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return b"event: error\ndata: %s\n\n" % encode_json({**told, "sequence_number": max(0, self._writer.newest)})

    def _line(self, event: LogEvent) -> bytes:
        writer = self._writer
        if isinstance(event, TextEvent):
            return writer.text(event.text, event.logprobs)
        if isinstance(event, ReasoningEvent):
            return writer.thought(event.text)
        if isinstance(event, DueEvent):
            self._due.append(event)
        if isinstance(event, ToolCallEvent):
            return writer.call(event.call, event.id or "", event.name or "", event.arguments)
        if isinstance(event, RefusalEvent):
            return writer.refusal(event.text)
        if isinstance(event, LifecycleEvent) and event.event in self._told:
            return self._told[event.event]()
        return b""
