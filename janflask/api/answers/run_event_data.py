"""What a run's events say: the run, a step or a message as it was then, made from the run as it is now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from janflask.api.answers.run_objects import run_object
from janflask.api.answers.step_objects import (
    Step,
    begun_step,
    calls_step,
    message_step,
    round_message_step,
    step_call,
)
from janflask.api.answers.thread_objects import message_object
from janflask.services.replies import reply_message, round_message
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import Round
from janflask.storage.run_log import WAITING, LifecycleEvent, ToolCallEvent

Data = dict[str, Any]


def lifecycle_data(run: Run, event: LifecycleEvent, texts: list[str], thoughts: list[str]) -> Data | None:
    """The data of an event of ``run``, which has come at least so far.

    ``texts`` and ``thoughts`` are what the event's round had said before. None for an event that is not known.
    """
    name = event.event
    if name == WAITING and event.round >= len(run.rounds):
        return None  # nobody wrote down for what
    if name in _RUNS:
        return run_object(_RUNS[name](run, event.round))
    past = run.rounds[event.round] if event.round < len(run.rounds) else None
    kind, _, change = name.rpartition(".")
    if kind == "run.step" and change in _STEPS:
        step = _step(run, past, event.calls)
        return begun_step(step) if change in _BEGINNINGS else step
    if kind == "message" and change in _MESSAGES:
        return _message(run, past, "".join(texts), "".join(thoughts), is_begun=change in _BEGINNINGS)
    return None


def delta_data(run: Run, event: ToolCallEvent) -> Data | None:
    """The data of an event with a call; None if the run's file has no such call."""
    past = run.rounds[event.round] if event.round < len(run.rounds) else None
    if past is None or event.call >= len(past.calls):
        return None
    told = {"index": event.call, **step_call(past.calls[event.call], None)}
    delta = {"step_details": {"type": "tool_calls", "tool_calls": [told]}}
    return {"id": past.step_id, "object": "thread.run.step.delta", "delta": delta}


def message_id_of(run: Run, number: int) -> str:
    """The id of the message of a round."""
    return run.rounds[number].message_id if number < len(run.rounds) else run.message_id


_BEGINNINGS = ("created", "in_progress")
_STEPS = (*_BEGINNINGS, "completed", "failed", "cancelled", "expired")
_MESSAGES = (*_BEGINNINGS, "completed", "incomplete")


def _step(run: Run, past: Round | None, calls: bool) -> Step:
    if past is None:
        return message_step(run)
    return calls_step(run, past) if calls else round_message_step(run, past)


def _message(run: Run, past: Round | None, text: str, thought: str, *, is_begun: bool) -> Data:
    if not is_begun:
        return message_object(reply_message(run, text, thought) if past is None else round_message(run, past))
    begun = run if past is None else replace(run, message_id=past.message_id, replied_ms=past.replied_ms)
    return {**message_object(reply_message(_under_way(begun, RunStatus.IN_PROGRESS), "")), "content": []}


# --- runs as they were --------------------------------------------------------------------------------------------


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
        timings={},
    )


def _under_way(run: Run, status: RunStatus) -> Run:
    """What it was not shown is known only when it replies."""
    return replace(_at_first(run), status=status, started_ms=run.started_ms, replied_ms=run.replied_ms)


def _queued(run: Run, number: int) -> Run:
    """When outputs have come it had begun long before."""
    return _under_way(run, RunStatus.QUEUED) if number else _at_first(run)


def _waiting(run: Run, number: int) -> Run:
    """It waits for what that round called, whatever came of it."""
    wanted = replace(run.rounds[number], answered_ms=None)
    return replace(_under_way(run, RunStatus.REQUIRES_ACTION), rounds=(*run.rounds[:number], wanted))


_RUNS: Mapping[str, Callable[[Run, int], Run]] = {
    "run.created": lambda run, number: _at_first(run),
    "run.queued": _queued,
    "run.in_progress": lambda run, number: _under_way(run, RunStatus.IN_PROGRESS),
    WAITING: _waiting,
    "run.cancelling": lambda run, number: _under_way(run, RunStatus.CANCELLING),
    **{f"run.{status}": lambda run, number: run for status in RunStatus if status.is_final},
}
