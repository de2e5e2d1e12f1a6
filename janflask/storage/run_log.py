"""A run's event log, ``runs/<run>.reply``: one event a line, and the event's number is its line's, from 1.

``run.json`` says how far the run is, and is written first. Which lifecycle events there must be follows from it, so
that a log that a crash cut short is completed by ``missing`` before anything else is added, always with the same lines.

A run that calls functions has rounds, each of which ends with calls and the wait for their outputs; its events say of
which round they are, from 0. Calls stand in ``run.json`` when they are whole and are events then, as lifecycle's are. A
run of another kind ends with its calls: they come before what ends its message.

Before there were other events than pieces of text a line was a JSON string, and what opens a run was not written down:
a log whose first line is such a string has its seven opening events before that line.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import StoreDamagedError
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import Round

Number = Annotated[int, msgspec.Meta(ge=0)]


class TextEvent(msgspec.Struct, frozen=True, gc=False, tag="text", omit_defaults=True):
    """A piece of the reply; ``logprobs`` as a chat tells them, where they were asked for."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


class ReasoningEvent(msgspec.Struct, frozen=True, gc=False, tag="reasoning"):
    """A piece of what the model thinks before it replies."""

    text: str


class ToolCallEvent(msgspec.Struct, frozen=True, gc=False, tag="tool_call", omit_defaults=True):
    """A call that is whole; ``arguments`` is JSON as the model wrote it."""

    call: Number  # which of the round's calls, from 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    round: Number = 0


class RefusalEvent(msgspec.Struct, frozen=True, gc=False, tag="refusal"):
    """Why an answer that is finished is not what was asked for; its text stands, and comes before."""

    text: str


class LifecycleEvent(msgspec.Struct, frozen=True, gc=False, tag="lifecycle", omit_defaults=True):
    """Something became of the run, a step or a message of it; ``event`` is the API's name without ``thread.``.

    Of the two steps that a round may have, ``calls`` says that it is the one of its calls.
    """

    event: str
    at: int  # milliseconds; 0 where an earlier version did not write it down
    round: Number = 0
    calls: bool = False


class UnknownEvent(msgspec.Struct, frozen=True, gc=False, tag="unknown"):
    """Holds the number of an event that a later version wrote."""

    kind: str


LogEvent = TextEvent | ReasoningEvent | ToolCallEvent | RefusalEvent | LifecycleEvent | UnknownEvent

DueEvent = LifecycleEvent | ToolCallEvent | RefusalEvent  # what follows from ``run.json``

_KINDS = frozenset({"text", "reasoning", "tool_call", "refusal", "lifecycle", "unknown"})
_BEGUN = ("run.created", "run.queued")
WAITING = "run.requires_action"  # the end of each round but the last one
COMPACTED = "run.compacted"  # what is older was summed up; no other event says so to a client of runs
_REPLYING = ("run.step.created", "run.step.in_progress", "message.created", "message.in_progress")
_STEP_ENDS = {
    RunStatus.COMPLETED: "completed",
    RunStatus.INCOMPLETE: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.EXPIRED: "expired",
}

_encoder = msgspec.json.Encoder()
_LINE: Any = str | LogEvent  # a union is no type[...]
_decoder: msgspec.json.Decoder[str | LogEvent] = json_decoder(_LINE)
_tag_decoder = json_decoder(dict[str, object])

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


def unheard(heard: int, first: int, events: Sequence[LogEvent]) -> Sequence[LogEvent]:
    """Those behind number ``heard``, in a part of a log whose first number is ``first``; none behind a gap."""
    return events[heard + 1 - first :] if first <= heard + 1 else ()


# --- what there must be -----------------------------------------------------------------------------------------------


def missing(run: Run, events: Iterable[LogEvent]) -> list[LogEvent]:
    """What the log of ``run``, in which ``events`` are all there is, lacks at its end."""
    present = {_key(event) for event in events}
    return [event for event in _due(run) if _key(event) not in present]


def retold(run: Run, text: str, reasoning: str = "") -> list[LogEvent]:
    """The events of a final run without its log, every message in one piece.

    ``text`` is that of the last one, ``reasoning`` what was thought before it.
    """
    last = len(run.rounds)
    texts = {number: item.text for number, item in enumerate(run.rounds)} | {last: text}
    events: list[LogEvent] = []
    for event in _due(run):
        events.append(event)
        if isinstance(event, LifecycleEvent) and event.event == _REPLYING[-1]:
            if event.round == last and reasoning:
                events.append(ReasoningEvent(reasoning))
            if texts[event.round]:
                events.append(TextEvent(texts[event.round]))
    return events


def _key(event: LogEvent) -> Hashable:
    """What tells an event that follows from ``run.json`` from all others of its run."""
    if isinstance(event, LifecycleEvent):
        return event.event, event.round, event.calls
    if isinstance(event, ToolCallEvent):
        return event.round, event.call
    return RefusalEvent if isinstance(event, RefusalEvent) else None


def _due(run: Run) -> Iterator[DueEvent]:
    """What follows from a run that is so far, in its order; deltas of texts come before what ends their message."""
    for name in _BEGUN:
        yield LifecycleEvent(name, run.created_ms)
    for number, past in enumerate(run.rounds):
        yield from _round_due(past, number)
    started_ms = run.resumed_ms if run.rounds else run.started_ms
    yield from _begun(started_ms, run.replied_ms, len(run.rounds), run.compaction.get("at"))
    if run.status.is_final:
        yield from _endings(run)


def _begun(
    started_ms: int | None, replied_ms: int | None, number: int, compacted_ms: int | None = None
) -> Iterator[LifecycleEvent]:
    if started_ms is not None:
        yield LifecycleEvent("run.in_progress", started_ms, number)
    if compacted_ms is not None:
        yield LifecycleEvent(COMPACTED, compacted_ms, number)
    if replied_ms is not None:
        for name in _REPLYING:
            yield LifecycleEvent(name, replied_ms, number)


def _round_due(past: Round, number: int) -> Iterator[LifecycleEvent | ToolCallEvent]:
    """All of a round that ended with calls, up to the next one's beginning."""
    yield from _begun(past.started_ms, past.replied_ms, number)
    if past.replied_ms is not None:
        yield LifecycleEvent("message.completed", past.ended_ms, number)
        yield LifecycleEvent("run.step.completed", past.ended_ms, number)
    for name in ("run.step.created", "run.step.in_progress"):
        yield LifecycleEvent(name, past.ended_ms, number, calls=True)
    for place, call in enumerate(past.calls):
        yield ToolCallEvent(place, call.id, call.name, call.arguments, number)
    yield LifecycleEvent(WAITING, past.ended_ms, number)
    if past.answered_ms is not None:
        yield LifecycleEvent("run.step.completed", past.answered_ms, number, calls=True)
        yield LifecycleEvent("run.queued", past.answered_ms, number + 1)


def _endings(run: Run) -> Iterator[DueEvent]:
    number, at = len(run.rounds), ended_ms(run)
    if run.refusal:
        yield RefusalEvent(run.refusal)
    for place, call in enumerate(run.wanted):
        yield ToolCallEvent(place, call.id, call.name, call.arguments, number)
    if run.status is RunStatus.CANCELLED:
        yield LifecycleEvent("run.cancelling", at, number)
    if run.replied_ms is not None:
        whole = "completed" if run.status is RunStatus.COMPLETED else "incomplete"
        yield LifecycleEvent(f"message.{whole}", at, number)
        yield LifecycleEvent(f"run.step.{_STEP_ENDS[run.status]}", at, number)
    if run.waiting is not None:
        yield LifecycleEvent(f"run.step.{_STEP_ENDS[run.status]}", at, number - 1, calls=True)
    yield LifecycleEvent(f"run.{run.status}", at, number)


def ended_ms(run: Run) -> int:
    """When a final run ended."""
    return run.completed_ms or run.cancelled_ms or run.failed_ms or run.expires_ms


# --- what was said ----------------------------------------------------------------------------------------------------


def is_wait(event: LogEvent) -> bool:
    """Whether a round ends with it."""
    return isinstance(event, LifecycleEvent) and event.event == WAITING


def of_round(events: Sequence[LogEvent], number: int) -> Sequence[LogEvent]:
    """Those of one of the run's rounds, from 0; none if the events do not go so far."""
    ends = [place for place, event in enumerate(events) if is_wait(event)]
    if number > len(ends):
        return ()
    return events[ends[number - 1] + 1 if number else 0 : ends[number] if number < len(ends) else len(events)]


def texts_of(events: Iterable[LogEvent]) -> list[str]:
    """The pieces of the reply."""
    return [event.text for event in events if isinstance(event, TextEvent)]


def reasoning_of(events: Iterable[LogEvent]) -> str:
    """What the model thought."""
    return "".join(event.text for event in events if isinstance(event, ReasoningEvent))
