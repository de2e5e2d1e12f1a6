"""Which events there are, and who asks for which."""

from __future__ import annotations

from dataclasses import replace

import openai.types.webhooks as openai_events
import pytest

from janflask.storage.changes import message_changes, run_changes
from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.webhooks import events

RUN = Run(
    id="run_1",
    thread_id="t",
    assistant_id="jan",
    message_id="msg_1",
    step_id="step_1",
    created_ms=1,
    expires_ms=2,
    model="m",
)


@pytest.mark.parametrize(
    ("pattern", "type", "is_told"),
    [
        ("*", "model.failed", True),
        ("thread.*", "thread.created", True),
        ("thread.*", "thread.run.completed", True),
        ("thread.run.*", "thread.created", False),
        ("thread.created", "thread.created", True),
        ("thread.created", "thread.created.more", False),
        ("response.*", "responses.completed", False),
    ],
)
def test_patterns(pattern: str, type: str, is_told: bool) -> None:
    assert events.matches(pattern, type) is is_told


def test_what_names_nothing() -> None:
    given = ["*", "thread.*", "thread", "thread.", ".*", "t*", "nothing.*", "", "model.running", "webhook.test"]
    assert events.unknown(given) == ["thread", "thread.", ".*", "t*", "nothing.*", "", "webhook.test"]


def test_responses_are_named_as_openai_names_them() -> None:
    for type in events.RESPONSES:
        name = "".join(word.capitalize() for word in type.split(".")) + "WebhookEvent"
        model = getattr(openai_events, name)
        assert model.model_fields["type"].annotation.__args__ == (type,)


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("status", RunStatus)
def test_how_a_run_ends_is_told(kind: RunKind, status: RunStatus) -> None:
    before = replace(RUN, kind=kind, status=RunStatus.CANCELLING if status is RunStatus.QUEUED else RunStatus.QUEUED)
    after = replace(before, status=status)
    told = [(event.type, dict(event.data)) for event in run_changes(before, after)]
    assert [type for type, _ in told if type not in events.TYPES] == []
    if kind is RunKind.RUN and (status.is_final or status is RunStatus.REQUIRES_ACTION):
        assert told == [(f"thread.run.{status}", {"id": "run_1", "thread_id": "t"})]
    elif kind is RunKind.RESPONSE and status.is_final:
        shown = "failed" if status is RunStatus.EXPIRED else status
        assert told == [(f"response.{shown}", {"id": "run_1"})]
    else:
        assert told == []
    assert list(run_changes(after, replace(after, metadata={"a": "b"}))) == []


def test_messages_that_are_replaced() -> None:
    old = [Message(id=name, thread_id="t", created_ms=1) for name in "abc"]
    new = [old[1], replace(old[2], role="assistant"), Message(id="d", thread_id="t", created_ms=1)]
    told = [(event.type.rpartition(".")[2], event.data["id"]) for event in message_changes("t", old, new)]
    assert told == [("deleted", "a"), ("updated", "c"), ("created", "d")]
