"""A run's events: read by the SDK's own types and stream helper, numbered without gap, the same for who comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import httpx
import msgspec
import openai
import pytest
from openai.types.beta.threads import Run as SdkRun
from openai.types.beta.threads.runs import RunStep

from janflask.api.answers.run_events import RunEventWriter
from janflask.api.answers.run_objects import run_object
from janflask.api.answers.step_objects import message_step
from janflask.storage.records import Run, RunKind, RunStatus
from janflask.storage.rounds import Call
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    ReasoningEvent,
    RefusalEvent,
    TextEvent,
    ToolCallEvent,
    UnknownEvent,
    decode_events,
    missing,
)

PIECES = ["Glass ", "is\n", "“sand”."]
RUN = Run(
    id="run_1",
    thread_id="thread_1",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=1_000_000,
    expires_ms=9_000_000,
    model="m",
    instructions="Be brief.",
)
BEGUN = replace(RUN, status=RunStatus.IN_PROGRESS, started_ms=2_000_000, left_out=("msg_0",))
REPLYING = replace(BEGUN, replied_ms=3_000_000)
USED: dict[str, Any] = {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 3}
ENDS = {
    RunStatus.COMPLETED: {"completed_ms": 4_000_000, **USED},
    RunStatus.INCOMPLETE: {"completed_ms": 4_000_000, "incomplete_reason": "max_completion_tokens", **USED},
    RunStatus.FAILED: {"failed_ms": 4_000_000, "error_code": "engine_crashed", "error_message": "it died"},
    RunStatus.CANCELLED: {"cancelled_ms": 4_000_000},
    RunStatus.EXPIRED: {},
}


def ended(status: RunStatus, before: Run = REPLYING) -> Run:
    return replace(before, status=status, **ENDS[status])


class RunEvent(NamedTuple):
    number: int
    name: str
    data: dict[str, Any]


def log_of(run: Run, pieces: list[str]) -> list[LogEvent]:
    """The log of a run that has come so far and said ``pieces``."""
    log = [*missing(replace(run, status=RunStatus.IN_PROGRESS), []), *map(TextEvent, pieces)]
    return [*log, *missing(run, log)]


def parsed(data: bytes) -> list[RunEvent]:
    """Server-sent events with numbers."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert list(fields) == ["id", "event", "data"]
        found.append(RunEvent(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def events(run: Run, pieces: list[str]) -> list[RunEvent]:
    writer = RunEventWriter(0)
    writer.run(run)
    return parsed(writer.events(1, log_of(run, pieces)) + writer.end())


def through_the_sdk(given: list[RunEvent]) -> Any:
    lines = [
        f"id: {event.number}\nevent: {event.name}\ndata: {msgspec.json.encode(event.data).decode()}\n\n"
        for event in given
    ]
    body = "".join(lines) + "event: done\ndata: [DONE]\n\n"
    answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body.encode())
    transport = httpx.MockTransport(lambda request: answer)
    client = openai.OpenAI(api_key="-", base_url="http://test/v1", http_client=httpx.Client(transport=transport))
    return client.beta.threads.runs.stream(thread_id="thread_1", assistant_id="jan")


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
@pytest.mark.parametrize("status", ENDS)
def test_the_sdk_follows_a_stream_to_its_end(status: RunStatus) -> None:
    given = events(ended(status), PIECES)
    with through_the_sdk(given) as stream:
        told = list(stream)
        run = stream.get_final_run()
        (message,) = stream.get_final_messages()
    assert [event.event for event in told] == [event.name for event in given]
    assert run.status == status
    assert message.content[0].text.value == "".join(PIECES)
    assert message.status == ("completed" if status is RunStatus.COMPLETED else "incomplete")
    step = next(event.data for event in reversed(told) if event.event.startswith("thread.run.step"))
    assert step.status == ("completed" if status is RunStatus.INCOMPLETE else status)


def test_the_order_of_a_whole_stream() -> None:
    assert [event.name.removeprefix("thread.") for event in events(ended(RunStatus.COMPLETED), PIECES)] == [
        *("run.created", "run.queued", "run.in_progress", "run.step.created", "run.step.in_progress"),
        *("message.created", "message.in_progress", "message.delta", "message.delta", "message.delta"),
        *("message.completed", "run.step.completed", "run.completed"),
    ]


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("before", [BEGUN, REPLYING], ids=["before its reply", "in its reply"])
def test_numbers_have_no_gap_and_do_not_depend_on_when_one_asks(status: RunStatus, before: Run) -> None:
    run = ended(status, before)
    pieces = PIECES if before is REPLYING else []
    whole = events(run, pieces)
    assert [event.number for event in whole] == list(range(1, len(whole) + 1))
    for so_far in (RUN, replace(BEGUN, left_out=()), BEGUN, before):
        early = events(so_far, [])
        assert early == whole[: len(early)]


def test_a_run_that_fails_before_it_begins_ends_too() -> None:
    run = ended(RunStatus.FAILED, RUN)
    assert [event.name for event in events(run, [])] == ["thread.run.created", "thread.run.queued", "thread.run.failed"]
    assert [event.number for event in events(run, [])] == [1, 2, 3]


@pytest.mark.parametrize("status", ENDS)
def test_objects_are_what_the_sdk_takes_them_for(status: RunStatus) -> None:
    run = ended(status)
    told = SdkRun.model_validate(msgspec.json.decode(msgspec.json.encode(run_object(run))), strict=True)
    assert told.status == status
    assert (told.usage is None) == (run.prompt_tokens is None)
    assert told.last_error is None or told.last_error.code == "server_error"
    RunStep.model_validate(msgspec.json.decode(msgspec.json.encode(message_step(run))), strict=True)


def test_a_run_says_what_the_model_was_not_shown() -> None:
    assert run_object(REPLYING)["left_out_message_ids"] == ("msg_0",)


# --- coming back ----------------------------------------------------------------------------------------------------

THOUGHT: list[LogEvent] = [ReasoningEvent("Hm."), TextEvent("Sand"), ToolCallEvent(0, "call_1"), UnknownEvent("image")]


def whole_log(run: Run, said: Sequence[LogEvent]) -> list[LogEvent]:
    log = [*missing(replace(run, status=RunStatus.IN_PROGRESS), []), *said]
    return [*log, *missing(run, log)]


def old_log(run: Run) -> list[LogEvent]:
    """Of a run whose text an earlier version wrote."""
    log = decode_events(b"".join(msgspec.json.encode(piece) + b"\n" for piece in PIECES))
    return [*log, *missing(run, log)]


def told(run: Run, log: list[LogEvent], after: int, parts: int = 1) -> bytes:
    """The stream behind ``after`` of a run whose log comes in so many parts, each of them twice."""
    writer = RunEventWriter(after)
    writer.run(run)
    size = -(-len(log) // parts)
    heard = [writer.events(first + 1, log[first : first + size]) for first in range(0, len(log), size) for _ in "12"]
    return b"".join(heard) + writer.end()


LOGS = [
    *[(status, "new", whole_log(ended(status), [*map(TextEvent, PIECES)])) for status in ENDS],
    *[(status, "old", old_log(ended(status))) for status in ENDS],
    (RunStatus.COMPLETED, "thinking", whole_log(ended(RunStatus.COMPLETED), THOUGHT)),
]


@pytest.mark.parametrize(
    ("status", "log"), [(status, log) for status, _, log in LOGS], ids=[f"{s} {n}" for s, n, _ in LOGS]
)
def test_whoever_comes_back_hears_exactly_the_rest(status: RunStatus, log: list[LogEvent]) -> None:
    run = ended(status)
    whole = parsed(told(run, log, 0))
    for after in range(len(log) + 3):
        for parts in (1, 4):
            assert parsed(told(run, log, after, parts)) == [event for event in whole if event.number > after]


@pytest.mark.parametrize("status", ENDS)
def test_an_earlier_versions_log_is_told_as_if_it_were_written_today(status: RunStatus) -> None:
    run = ended(status)
    assert told(run, old_log(run), 0) == told(run, whole_log(run, [*map(TextEvent, PIECES)]), 0)


def test_what_has_no_event_has_a_number_all_the_same() -> None:
    run = ended(RunStatus.COMPLETED)
    found = parsed(told(run, whole_log(run, THOUGHT), 0))
    assert [(event.number, event.name) for event in found[7:]] == [
        (9, "thread.message.delta"),
        (12, "thread.message.completed"),
        (13, "thread.run.step.completed"),
        (14, "thread.run.completed"),
    ]
    assert found[8].data["content"][0]["text"]["value"] == "Sand"


THOUGHTS: list[LogEvent] = [
    *map(ReasoningEvent, ("Hm", ", sa", "nd?")),
    *map(TextEvent, PIECES),
    UnknownEvent("image"),
    TextEvent("!"),
]


def asked(run: Run, log: list[LogEvent], after: int = 0, **how: bool) -> list[RunEvent]:
    writer = RunEventWriter(after, **how)
    writer.run(run)
    return parsed(writer.events(1, log) + writer.end())


def pieces_of(events: list[RunEvent], after: int = 0) -> list[tuple[int, str]]:
    """The numbers and pieces of thoughts and words; thoughts in brackets."""
    found = []
    for event in events:
        delta = event.data.get("delta", {})
        if event.name == "thread.message.reasoning.delta":
            assert event.data == {"id": "msg_1", "object": event.name, "delta": {"reasoning": delta["reasoning"]}}
            found.append((event.number, f"({delta['reasoning']})"))
        elif event.name == "thread.message.delta":
            found.append((event.number, delta["content"][0]["text"]["value"]))
    return [(number, piece) for number, piece in found if number > after]


def test_thoughts_are_told_as_they_come_to_who_asks_for_them() -> None:
    run = ended(RunStatus.COMPLETED)
    log = whole_log(run, THOUGHTS)
    found = asked(run, log, thoughts=True)
    assert pieces_of(found) == [
        *[(8, "(Hm)"), (9, "(, sa)"), (10, "(nd?)")],
        *[(11, "Glass "), (12, "is\n"), (13, "“sand”."), (15, "!")],
    ]
    others = [event for event in found if event.name != "thread.message.reasoning.delta"]
    assert others == asked(run, log)
    for after in range(len(log) + 2):
        assert asked(run, log, after, thoughts=True) == [event for event in found if event.number > after]


def test_a_whole_message_has_its_thoughts_and_a_begun_one_none() -> None:
    run = ended(RunStatus.COMPLETED)
    found = {event.name: event.data for event in asked(run, whole_log(run, THOUGHTS))}
    assert found["thread.message.completed"]["reasoning_content"] == "Hm, sand?"
    assert "reasoning_content" not in found["thread.message.in_progress"]
    assert "reasoning_content" not in asked(run, whole_log(run, [TextEvent("!")]))[8].data


def test_pieces_that_come_together_are_one_event_by_the_number_of_the_last() -> None:
    run = ended(RunStatus.COMPLETED)
    log = whole_log(run, THOUGHTS)
    found = asked(run, log, thoughts=True, joins=True)
    assert pieces_of(found) == [(10, "(Hm, sand?)"), (13, "Glass is\n“sand”."), (15, "!")]
    assert found[-3:] == asked(run, log)[-3:]  # what ends them knows all of it


@pytest.mark.parametrize("after", range(17))
def test_who_comes_back_in_the_middle_of_joined_pieces_hears_exactly_the_rest(after: int) -> None:
    run = ended(RunStatus.COMPLETED)
    log = whole_log(run, THOUGHTS)
    rest = "".join(piece.strip("()") for _, piece in pieces_of(asked(run, log, thoughts=True), after))
    found = asked(run, log, after, thoughts=True, joins=True)
    assert "".join(piece.strip("()") for _, piece in pieces_of(found)) == rest
    assert all(event.number > after for event in found)


@pytest.mark.parametrize("heard", range(7 + len(PIECES), 7 + len(PIECES) + 4))
def test_a_runner_that_goes_away_before_it_tells_the_end_changes_nothing(heard: int) -> None:
    """The run is final, and whoever listens knows that; what its log would have said follows from it."""
    run = ended(RunStatus.COMPLETED)
    log = whole_log(run, [*map(TextEvent, PIECES)])
    assert told(run, log[:heard], 0) == told(run, log, 0)


def test_a_lifecycle_event_that_is_not_known_is_passed_over() -> None:
    writer = RunEventWriter(0)
    writer.run(RUN)
    assert [event.number for event in parsed(writer.events(1, log_of(RUN, [])))] == [1, 2]
    assert writer.events(3, [LifecycleEvent("run.paused", 1)]) == b""
    assert [event.number for event in parsed(writer.events(4, [TextEvent("a")]))] == [4]


def test_an_answer_by_itself_is_told_as_a_run_without_its_calls() -> None:
    """Calls that a run ends with are nothing that the assistants API knows; what else there is has its numbers."""
    call = Call(id="call_1", name="look", arguments="{}")
    run = replace(
        ended(RunStatus.COMPLETED), id="resp_1", kind=RunKind.RESPONSE, wanted=(call,), refusal="It is no JSON"
    )
    log = [*missing(replace(run, status=RunStatus.IN_PROGRESS), []), *map(TextEvent, PIECES)]
    log += missing(run, log)
    writer = RunEventWriter(0)
    writer.run(run)
    told = parsed(writer.events(1, log) + writer.end())
    quiet = [number for number, event in enumerate(log, 1) if isinstance(event, ToolCallEvent | RefusalEvent)]
    assert len(quiet) == 2
    assert [event.number for event in told] == [number for number in range(1, len(log) + 1) if number not in quiet]
    assert told[-1].name == "thread.run.completed"
    assert SdkRun.model_validate_json(msgspec.json.encode(run_object(run))).status == "completed"
