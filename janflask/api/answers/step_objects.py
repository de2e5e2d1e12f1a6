"""The steps of runs as the API shows them, in the shape of OpenAI's: the making of messages, and calls."""

from __future__ import annotations

from typing import Any

from janflask.api.answers.run_objects import call_object, last_error, seconds, usage_object
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import Call, Round

Step = dict[str, Any]
# A step has no word of its own for what ended before its text was whole: the text that there is was made.
_STATUS = {
    RunStatus.QUEUED: "in_progress",
    RunStatus.REQUIRES_ACTION: "in_progress",
    RunStatus.CANCELLING: "in_progress",
    RunStatus.INCOMPLETE: "completed",
}


def steps_of(run: Run) -> list[Step]:
    """All of a run's, in their order."""
    steps: list[Step] = []
    for past in run.rounds:
        if past.replied_ms is not None:
            steps.append(round_message_step(run, past))
        steps.append(calls_step(run, past))
    return steps if run.replied_ms is None else [*steps, message_step(run)]


def message_step(run: Run) -> Step:
    """The making of the reply, which is as far as the run is."""
    step = _ended_with(run) | _step(run, run.step_id, run.replied_ms or run.created_ms, _making(run.message_id))
    used = None
    if run.prompt_tokens is not None and run.completion_tokens is not None:
        used = usage_object(
            run.prompt_tokens - sum(past.prompt_tokens for past in run.rounds),
            run.completion_tokens - sum(past.completion_tokens for past in run.rounds),
            (run.cached_tokens or 0) - sum(past.cached_tokens for past in run.rounds),
        )
    return step | {"usage": used}


def round_message_step(run: Run, past: Round) -> Step:
    """The making of what was said before calls; the tokens of both are told with the calls."""
    return (
        _NOTHING
        | _completed(past.ended_ms)
        | _step(run, past.message_step_id, past.replied_ms or past.ended_ms, _making(past.message_id))
    )


def calls_step(run: Run, past: Round) -> Step:
    """The calls of a round; of one that is not answered it is as far as the run is."""
    details = {"type": "tool_calls", "tool_calls": [step_call(call, call.output) for call in past.calls]}
    end = _ended_with(run) if past.answered_ms is None else _NOTHING | _completed(past.answered_ms)
    used = usage_object(past.prompt_tokens, past.completion_tokens, past.cached_tokens)
    return end | _step(run, past.step_id, past.ended_ms, details) | {"usage": used}


def begun_step(step: Step) -> Step:
    """A step as it was when it began; one of calls had none yet."""
    details = step["step_details"]
    if details["type"] == "tool_calls":
        details = details | {"tool_calls": []}
    return step | _NOTHING | {"step_details": details}


def step_call(call: Call, output: str | None) -> dict[str, Any]:
    """A call as a step has it, with what it gave back."""
    told = call_object(call)
    return told | {"function": told["function"] | {"output": output}}


def _making(message_id: str) -> dict[str, Any]:
    return {"type": "message_creation", "message_creation": {"message_id": message_id}}


def _step(run: Run, step_id: str, created_ms: int, details: dict[str, Any]) -> Step:
    return {
        "id": step_id,
        "object": "thread.run.step",
        "created_at": created_ms // 1000,
        "run_id": run.id,
        "assistant_id": run.assistant_id,
        "thread_id": run.thread_id,
        "type": details["type"],
        "step_details": details,
        "metadata": {},
    }


_NOTHING: Step = {
    "status": "in_progress",
    "cancelled_at": None,
    "completed_at": None,
    "expired_at": None,
    "failed_at": None,
    "last_error": None,
    "usage": None,
}


def _completed(at_ms: int) -> Step:
    return {"status": "completed", "completed_at": at_ms // 1000}


def _ended_with(run: Run) -> Step:
    """What the end of the run makes of a step that is not over."""
    status = _STATUS.get(run.status, str(run.status))
    return _NOTHING | {
        "status": status,
        "cancelled_at": seconds(run.cancelled_ms),
        "completed_at": seconds(run.completed_ms) if status == "completed" else None,
        "expired_at": run.expires_ms // 1000 if run.status is RunStatus.EXPIRED else None,
        "failed_at": seconds(run.failed_ms),
        "last_error": last_error(run),
    }
