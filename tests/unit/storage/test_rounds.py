"""Rounds in a run's file, in its log, and in the messages that keep them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from janflask.services.replies import owes_message, run_messages
from janflask.storage.jan import message_from_json, message_to_json
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import FIELD, Call, Round, read_kept
from janflask.storage.run_json import decode_run
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    TextEvent,
    ToolCallEvent,
    decode_events,
    encode_events,
    missing,
    of_round,
)

CALL = Call(id="call_1", name="look", arguments="{}", output="a cat")


def past(number: int, **fields: Any) -> Round:
    return Round(calls=(CALL,), step_id=f"step_{number}", ended_ms=10 * number, **{"answered_ms": 11} | fields)


SAID = past(1, message_id="msg_1", replied_ms=9, text="Well.", reasoning="Hm")
RUN = Run(
    id="run_1",
    thread_id="t",
    assistant_id="jan",
    message_id="msg_9",
    step_id="step_9",
    created_ms=1,
    expires_ms=100,
    model="m",
    status=RunStatus.IN_PROGRESS,
    started_ms=2,
    rounds=(past(0), SAID, past(2)),
    resumed_ms=12,
    replied_ms=13,
)


def test_a_runs_file_has_its_rounds() -> None:
    assert decode_run(msgspec.json.encode(RUN), "t", "run_1") == RUN
    old = {
        name: value for name, value in json.loads(msgspec.json.encode(RUN)).items() if name not in ("rounds", "calls")
    }
    assert decode_run(json.dumps(old).encode(), "t", "run_1") == replace(RUN, rounds=())


@pytest.mark.parametrize("broken", ["none", [{"calls": 5}], [None]])
def test_rounds_that_nobody_can_read_end_the_run(broken: Any) -> None:
    """Nobody could go on with it, and it stands in its thread's way no longer."""
    raw = json.loads(msgspec.json.encode(RUN)) | {"rounds": broken}
    found = decode_run(json.dumps(raw).encode(), "t", "run_1")
    assert found.status is RunStatus.FAILED
    assert "rounds is" in (found.error_message or "")


def test_a_message_keeps_the_rounds_since_the_one_before() -> None:
    first, last = (message_from_json(json.loads(msgspec.json.encode(message_to_json(item))), "t") for item in _said())
    assert [item.message_id for item in read_kept(first.extra)] == [None]
    assert [item.message_id for item in read_kept(last.extra)] == ["msg_1", None]
    assert read_kept(last.extra)[0].calls == (CALL,)
    assert (first.text, last.text, first.extra["reasoning_content"]) == ("Well.", "Yes.", "Hm")


def _said() -> Any:
    return run_messages(RUN, "Yes.")


def test_calls_without_outputs_are_not_kept() -> None:
    (message,) = run_messages(replace(RUN, rounds=(past(0, answered_ms=None),)), "Yes.")
    assert FIELD not in message.extra
    assert not owes_message(replace(RUN, rounds=(past(0, answered_ms=None),), replied_ms=None))
    assert owes_message(replace(RUN, replied_ms=None))


@pytest.mark.parametrize("field", ["x", [{"calls": "x"}], {"calls": []}])
def test_what_is_kept_and_cannot_be_read(field: Any) -> None:
    with pytest.raises(ValueError, match="Expected"):
        read_kept({FIELD: field})
    assert read_kept({}) == read_kept({FIELD: []}) == ()


def test_a_log_tells_its_rounds_apart() -> None:
    due = missing(RUN, [])
    waits = [place for place, event in enumerate(due) if getattr(event, "event", "") == "run.requires_action"]
    log: list[LogEvent] = []
    for place, event in enumerate(due):
        log += [TextEvent(f"before {place}"), event] if place in waits else [event]
    assert decode_events(encode_events(log)) == log
    for number, place in enumerate(waits):
        assert TextEvent(f"before {place}") in of_round(log, number)
        assert all(getattr(event, "round", number) in (number - 1, number) for event in of_round(log, number))
    assert of_round(log, 3)[0] == LifecycleEvent("run.step.completed", 11, 2, calls=True)
    assert of_round(log, 4) == ()
    assert [event.round for event in due if isinstance(event, ToolCallEvent)] == [0, 1, 2]
    for stop in range(len(log)):
        assert missing(RUN, log[:stop]) == [event for event in log[stop:] if not isinstance(event, TextEvent)]


def test_lines_of_the_first_round_are_as_they_always_were() -> None:
    assert encode_events([LifecycleEvent("run.created", 5)]) == b'{"type":"lifecycle","event":"run.created","at":5}\n'
    assert encode_events([LifecycleEvent("run.created", 0)]) == b'{"type":"lifecycle","event":"run.created","at":0}\n'
