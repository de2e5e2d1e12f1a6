"""The lines of a run's event log: what they look like, what is read from any of them, what must be there."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from janflask.errors import StoreDamagedError
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    ReasoningEvent,
    TextEvent,
    ToolCallEvent,
    UnknownEvent,
    decode_events,
    encode_events,
    missing,
    reasoning_of,
    texts_of,
)

RUN = Run(
    id="run_1",
    thread_id="t",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=1_000,
    expires_ms=9_000,
    model="m",
)
BEGUN = replace(RUN, status=RunStatus.IN_PROGRESS, started_ms=2_000)
REPLYING = replace(BEGUN, replied_ms=3_000)
OPENING = [
    *("run.created", "run.queued", "run.in_progress", "run.step.created", "run.step.in_progress"),
    *("message.created", "message.in_progress"),
]
ENDINGS = {
    RunStatus.COMPLETED: ["message.completed", "run.step.completed", "run.completed"],
    RunStatus.INCOMPLETE: ["message.incomplete", "run.step.completed", "run.incomplete"],
    RunStatus.FAILED: ["message.incomplete", "run.step.failed", "run.failed"],
    RunStatus.CANCELLED: ["run.cancelling", "message.incomplete", "run.step.cancelled", "run.cancelled"],
    RunStatus.EXPIRED: ["message.incomplete", "run.step.expired", "run.expired"],
}
SAID: list[LogEvent] = [ReasoningEvent("Hm."), TextEvent("Hel"), TextEvent("lo")]


def names(events: list[LogEvent]) -> list[str]:
    return [event.event for event in events if isinstance(event, LifecycleEvent)]


def test_a_line_is_an_object_that_anybody_can_read() -> None:
    events: list[LogEvent] = [
        LifecycleEvent("run.in_progress", 2_000),
        ReasoningEvent("Hm\n"),
        TextEvent("\u2028 “Hel”"),
        ToolCallEvent(0, "call_1", "look", '{"a'),
        ToolCallEvent(0, arguments='":1}'),
    ]
    data = encode_events(events)
    assert data.decode().split("\n") == [
        '{"type":"lifecycle","event":"run.in_progress","at":2000}',
        '{"type":"reasoning","text":"Hm\\n"}',
        '{"type":"text","text":"\u2028 “Hel”"}',
        '{"type":"tool_call","call":0,"id":"call_1","name":"look","arguments":"{\\"a"}',
        '{"type":"tool_call","call":0,"arguments":"\\":1}"}',
        "",
    ]
    assert decode_events(data) == events
    assert texts_of(events) == ["\u2028 “Hel”"]
    assert reasoning_of(events) == "Hm\n"


def test_an_earlier_versions_strings_are_text_behind_the_seven_events_that_open_a_run() -> None:
    events = decode_events(b'"Once\\n"\n"\\u2028 upon"\n')
    assert names(events) == OPENING
    assert events[7:] == [TextEvent("Once\n"), TextEvent("\u2028 upon")]


def test_an_earlier_versions_log_goes_on_with_objects() -> None:
    old = b'"Once"\n'
    begun = decode_events(old)
    final = replace(REPLYING, status=RunStatus.COMPLETED, completed_ms=4_000)
    added: list[LogEvent] = [TextEvent(" upon"), *missing(final, begun)]
    assert names(added) == ENDINGS[RunStatus.COMPLETED]
    assert decode_events(old + encode_events(added)) == [*begun, *added]


def test_strings_among_objects_are_text_in_their_place() -> None:
    lines = encode_events([LifecycleEvent("run.created", 1)]) + b'"a"\n'
    assert decode_events(lines) == [LifecycleEvent("run.created", 1), TextEvent("a")]


@pytest.mark.parametrize("whole", [b"", b'"a"\n', b'{"type":"text","text":"a"}\n'])
def test_a_line_that_was_cut_short_counts_for_nothing(whole: bytes) -> None:
    for torn in (b"{", b'"b', b'{"type":"text","text":"b"}', b"\xff"):
        assert decode_events(whole + torn) == decode_events(whole)


def test_what_a_later_version_wrote_keeps_its_number_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    lines = b'{"type":"text","text":"a","mood":"good"}\n{"type":"image","of":{}}\n{"type":"image"}\n"b"\n'
    with caplog.at_level(logging.WARNING):
        assert decode_events(lines) == [TextEvent("a"), UnknownEvent("image"), UnknownEvent("image"), TextEvent("b")]
    (told,) = caplog.messages
    assert told.endswith("are passed over: image")


@pytest.mark.parametrize(
    "line",
    [
        *(b"5", b"", b"[]", b"{}", b'"\xff"', b'"a""b"'),
        *(b'{"type":7}', b'{"type":"text"}', b'{"type":"text","text":5}'),
        *(b'{"type":"tool_call","call":-1}', b'{"type":"lifecycle","event":"run.requires_action","at":1,"round":-1}'),
    ],
)
def test_a_line_that_is_no_event_is_named(line: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="line 2 is no event"):
        decode_events(b'"a"\n' + line + b'\n"c"\n')


@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("before", [RUN, BEGUN, REPLYING], ids=["queued", "begun", "replying"])
def test_what_there_must_be_follows_from_the_run(status: RunStatus, before: Run) -> None:
    """And is the same at whatever line the log stops."""
    final = replace(before, status=status)
    opening = missing(before, [])
    said = SAID if before is REPLYING else []
    whole = [*opening, *said, *missing(final, opening)]
    count = 2 if before is RUN else 3 if before is BEGUN else 7
    assert names(opening) == OPENING[:count]
    kept = ENDINGS[status] if before is REPLYING else [name for name in ENDINGS[status] if name.count(".") == 1]
    kept = kept if before is REPLYING else [name for name in kept if name.startswith("run.")]
    assert names(whole)[count:] == kept
    for stop in range(len(whole) + 1):
        if stop < count:
            assert [*whole[:stop], *missing(before, whole[:stop])] == opening
        elif stop >= count + len(said):
            assert [*whole[:stop], *missing(final, whole[:stop])] == whole


def test_times_are_those_of_the_run() -> None:
    final = replace(REPLYING, status=RunStatus.FAILED, failed_ms=4_000)
    times = {event.event: event.at for event in missing(final, []) if isinstance(event, LifecycleEvent)}
    assert times == {
        **dict.fromkeys(OPENING[:2], 1_000),
        "run.in_progress": 2_000,
        **dict.fromkeys(OPENING[3:], 3_000),
        **dict.fromkeys(ENDINGS[RunStatus.FAILED], 4_000),
    }


def test_every_line_stands_for_itself() -> None:
    for line in encode_events([*missing(REPLYING, []), *SAID]).splitlines():
        assert json.loads(line)["type"] in ("lifecycle", "reasoning", "text")
