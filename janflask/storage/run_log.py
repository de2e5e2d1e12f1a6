"""A run's event log, ``runs/<run>.reply``: one event a line, and the event's number is its line's, from 1.

``run.json`` says how far the run is, and is written first. Which lifecycle events there must be follows from it, so
that a log that a crash cut short is completed by ``missing`` before anything else is added, always with the same lines.

Before there were other events than pieces of text a line was a JSON string, and what opens a run was not written down:
a log whose first line is such a string has its seven opening events before that line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from janflask.errors import StoreDamagedError
from janflask.storage.records import Run, RunStatus


class TextEvent(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """A piece of the reply."""

    text: str


class ReasoningEvent(msgspec.Struct, frozen=True, gc=False, tag="reasoning"):
    """A piece of what the model thinks before it replies."""

    text: str


class ToolCallEvent(msgspec.Struct, frozen=True, gc=False, tag="tool_call", omit_defaults=True):
    """A piece of a tool call. The first one of a call has its ``id`` and ``name``; ``arguments`` is JSON that grows."""

    call: int  # which of the run's calls, from 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class LifecycleEvent(msgspec.Struct, frozen=True, gc=False, tag="lifecycle"):
    """Something became of the run, its step or its message; ``event`` is the API's name without ``thread.``."""

    event: str
    at: int  # milliseconds; 0 where an earlier version did not write it down


class UnknownEvent(msgspec.Struct, frozen=True, gc=False, tag="unknown"):
    """Holds the number of an event that a later version wrote."""

    kind: str


LogEvent = TextEvent | ReasoningEvent | ToolCallEvent | LifecycleEvent | UnknownEvent

_KINDS = frozenset({"text", "reasoning", "tool_call", "lifecycle", "unknown"})
_BEGUN = ("run.created", "run.queued")
_REPLYING = ("run.step.created", "run.step.in_progress", "message.created", "message.in_progress")
_STEP_ENDS = {
    RunStatus.COMPLETED: "completed",
    RunStatus.INCOMPLETE: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.EXPIRED: "expired",
}

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(str | LogEvent)
_tag_decoder = msgspec.json.Decoder(dict[str, object])

log = logging.getLogger(__name__)


# --- lines ------------------------------------------------------------------------------------------------------------


def encode_events(events: Sequence[LogEvent]) -> bytes:
    """Their lines."""
    return _encoder.encode_lines(events)


def decode_events(data: bytes) -> list[LogEvent]:
    """The events in a log; one whose line is not whole, the last one, counts for nothing.

    Raises StoreDamagedError for a line that is no event.
    """
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    events: list[LogEvent] = []
    for number, line in enumerate(lines, 1):
        try:
            event = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            event = _unknown(number, line, error)
        if isinstance(event, str):
            if not events:
                events += [LifecycleEvent(name, 0) for name in (*_BEGUN, "run.in_progress", *_REPLYING)]
            event = TextEvent(event)
        events.append(event)
    if later := sorted({event.kind[:40] for event in events if isinstance(event, UnknownEvent)}):
        log.warning("events of a run that a later version wrote are passed over: %s", ", ".join(later))
    return events


def _unknown(number: int, line: bytes, error: Exception) -> UnknownEvent:
    """Raises StoreDamagedError unless the line is an event of a kind that is not known here."""
    try:
        kind = _tag_decoder.decode(line).get("type")
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = None
    if not isinstance(kind, str) or kind in _KINDS:
        raise StoreDamagedError(f"line {number} is no event, so that nobody can go on behind it: {error}") from None
    return UnknownEvent(kind)


# --- what there must be -----------------------------------------------------------------------------------------------


def opening(run: Run) -> list[LogEvent]:
    """What comes before the first delta of ``run``."""
    return list(_due(replace(run, status=RunStatus.IN_PROGRESS)))


def missing(run: Run, events: Iterable[LogEvent]) -> list[LogEvent]:
    """What the log of ``run``, in which ``events`` are all there is, lacks at its end."""
    present = {event.event for event in events if isinstance(event, LifecycleEvent)}
    return [event for event in _due(run) if event.event not in present]


def _due(run: Run) -> Iterator[LifecycleEvent]:
    """The lifecycle events of a run that is so far, in their order; deltas come before those that end it."""
    for name in _BEGUN:
        yield LifecycleEvent(name, run.created_ms)
    if run.started_ms is not None:
        yield LifecycleEvent("run.in_progress", run.started_ms)
    if run.replied_ms is not None:
        for name in _REPLYING:
            yield LifecycleEvent(name, run.replied_ms)
    if run.status.is_final:
        at = ended_ms(run)
        for name in _endings(run):
            yield LifecycleEvent(name, at)


def _endings(run: Run) -> Iterator[str]:
    if run.status is RunStatus.CANCELLED:
        yield "run.cancelling"
    if run.replied_ms is not None:
        yield f"message.{'completed' if run.status is RunStatus.COMPLETED else 'incomplete'}"
        yield f"run.step.{_STEP_ENDS[run.status]}"
    yield f"run.{run.status}"


def ended_ms(run: Run) -> int:
    """When a final run ended."""
    return run.completed_ms or run.cancelled_ms or run.failed_ms or run.expires_ms


# --- what was said ----------------------------------------------------------------------------------------------------


def texts_of(events: Iterable[LogEvent]) -> list[str]:
    """The pieces of the reply."""
    return [event.text for event in events if isinstance(event, TextEvent)]


def reasoning_of(events: Iterable[LogEvent]) -> str:
    """What the model thought."""
    return "".join(event.text for event in events if isinstance(event, ReasoningEvent))
