"""A run's events, as the SDK's stream helpers want them: the same ones, in the same order, whoever asks and whenever.

Every event has a number. It follows from how far the run is and how many pieces of text came before, so that a client
that comes back (``Last-Event-ID``) goes on exactly where it was, also after a crash::

    1 run.created   2 run.queued   3 run.in_progress            a run that never comes so far ends with 3 or 4
    4 step.created  5 step.in_progress  6 message.created  7 message.in_progress
    8... message.delta, one for each piece of text
    then what ends the message, the step and the run
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from janflask.api.answers.run_objects import run_object, step_object
from janflask.api.answers.thread_objects import message_object
from janflask.services.replies import reply_message
from janflask.storage.records import Run, RunStatus

_BEFORE_START, _BEFORE_REPLY, _BEFORE_TEXT = 2, 3, 7  # events
_STEP_ENDS = {
    RunStatus.COMPLETED: "completed",
    RunStatus.INCOMPLETE: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.EXPIRED: "expired",
}


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a stream."""

    number: int
    name: str
    data: dict[str, Any]


def opening(run: Run) -> Iterator[RunEvent]:
    """Everything up to the first piece of text, as far as the run has come."""
    fresh = _at_first(run)
    yield RunEvent(1, "thread.run.created", run_object(fresh))
    yield RunEvent(2, "thread.run.queued", run_object(fresh))
    if run.started_ms is None:
        return
    begun = replace(fresh, status=RunStatus.IN_PROGRESS, started_ms=run.started_ms, left_out=run.left_out)
    yield RunEvent(3, "thread.run.in_progress", run_object(begun))
    if run.replied_ms is None:
        return
    replying = replace(begun, replied_ms=run.replied_ms)
    message = message_object(reply_message(replying, ""))
    yield RunEvent(4, "thread.run.step.created", step_object(replying))
    yield RunEvent(5, "thread.run.step.in_progress", step_object(replying))
    yield RunEvent(6, "thread.message.created", {**message, "content": []})
    yield RunEvent(7, "thread.message.in_progress", {**message, "content": []})


def delta(run: Run, index: int, text: str) -> RunEvent:
    """Piece number ``index``, from 0."""
    part = {"index": 0, "type": "text", "text": {"value": text, "annotations": []}}
    data = {"id": run.message_id, "object": "thread.message.delta", "delta": {"content": [part]}}
    return RunEvent(_BEFORE_TEXT + 1 + index, "thread.message.delta", data)


def ending(run: Run, pieces: Sequence[str]) -> Iterator[RunEvent]:
    """What ends a final run that has said ``pieces``."""
    before = _BEFORE_TEXT + len(pieces)
    if run.replied_ms is None:
        before = _BEFORE_START if run.started_ms is None else _BEFORE_REPLY
    for number, (name, data) in enumerate(_endings(run, "".join(pieces)), before + 1):
        yield RunEvent(number, name, data)


def _endings(run: Run, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if run.status is RunStatus.CANCELLED:
        cancelling = replace(_at_first(run), status=RunStatus.CANCELLING, started_ms=run.started_ms)
        yield "thread.run.cancelling", run_object(cancelling)
    if run.replied_ms is not None:
        whole = run.status is RunStatus.COMPLETED
        yield f"thread.message.{'completed' if whole else 'incomplete'}", message_object(reply_message(run, text))
        yield f"thread.run.step.{_STEP_ENDS[run.status]}", step_object(run)
    yield f"thread.run.{run.status}", run_object(run)


def _at_first(run: Run) -> Run:
    """The run as it was when it was made."""
    return replace(
        run,
        status=RunStatus.QUEUED,
        started_ms=None,
        replied_ms=None,
        cancelled_ms=None,
        failed_ms=None,
        completed_ms=None,
        error_code=None,
        error_message=None,
        incomplete_reason=None,
        left_out=(),
        prompt_tokens=None,
        cached_tokens=None,
        completion_tokens=None,
    )
