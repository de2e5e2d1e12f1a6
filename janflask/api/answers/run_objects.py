"""Runs and their steps as the API shows them, in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

from janflask.storage.records import Run, RunStatus

# A step has no word of its own for what ended before its text was whole: the text that there is was made.
_STEP_STATUS = {
    RunStatus.QUEUED: "in_progress",
    RunStatus.CANCELLING: "in_progress",
    RunStatus.INCOMPLETE: "completed",
}
# OpenAI's codes of a run's last_error; everything else is a server_error.
_ERROR_CODES = {"rate_limit_exceeded", "invalid_prompt"}


def run_object(run: Run) -> dict[str, Any]:
    """A run. ``left_out_message_ids`` is ours: what the model was not shown, since it did not fit or is an error."""
    return {
        "id": run.id,
        "object": "thread.run",
        "created_at": run.created_ms // 1000,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "status": str(run.status),
        "required_action": None,
        "last_error": _last_error(run),
        "expires_at": None if run.status.is_final else run.expires_ms // 1000,
        "started_at": _seconds(run.started_ms),
        "cancelled_at": _seconds(run.cancelled_ms),
        "failed_at": _seconds(run.failed_ms),
        "completed_at": _seconds(run.completed_ms),
        "incomplete_details": None if run.incomplete_reason is None else {"reason": run.incomplete_reason},
        "model": run.model,
        "instructions": run.instructions,
        "tools": run.tools,
        "metadata": run.metadata,
        "usage": usage_object(run),
        "temperature": run.temperature,
        "top_p": run.top_p,
        "max_prompt_tokens": run.max_prompt_tokens,
        "max_completion_tokens": run.max_completion_tokens,
        "truncation_strategy": {
            "type": "auto" if run.last_messages is None else "last_messages",
            "last_messages": run.last_messages,
        },
        "response_format": "auto" if run.response_format is None else run.response_format,
        "tool_choice": "auto" if run.tool_choice is None else run.tool_choice,
        "parallel_tool_calls": run.parallel_tool_calls,
        "left_out_message_ids": run.left_out,
    }


def step_object(run: Run) -> dict[str, Any]:
    """A run's one step: the making of its message."""
    status = _STEP_STATUS.get(run.status, str(run.status))
    return {
        "id": run.step_id,
        "object": "thread.run.step",
        "created_at": (run.replied_ms or run.created_ms) // 1000,
        "run_id": run.id,
        "assistant_id": run.assistant_id,
        "thread_id": run.thread_id,
        "type": "message_creation",
        "status": status,
        "cancelled_at": _seconds(run.cancelled_ms),
        "completed_at": _seconds(run.completed_ms) if status == "completed" else None,
        "expired_at": run.expires_ms // 1000 if run.status is RunStatus.EXPIRED else None,
        "failed_at": _seconds(run.failed_ms),
        "last_error": _last_error(run),
        "step_details": {"type": "message_creation", "message_creation": {"message_id": run.message_id}},
        "metadata": {},
        "usage": usage_object(run),
    }


def usage_object(run: Run) -> dict[str, Any] | None:
    """The tokens of a run that has ended, as far as they are known."""
    if run.prompt_tokens is None or run.completion_tokens is None:
        return None
    return {
        "prompt_tokens": run.prompt_tokens,
        "completion_tokens": run.completion_tokens,
        "total_tokens": run.prompt_tokens + run.completion_tokens,
        "prompt_token_details": {"cached_tokens": run.cached_tokens or 0},
    }


def _last_error(run: Run) -> dict[str, Any] | None:
    if run.error_message is None:
        return None
    code = run.error_code if run.error_code in _ERROR_CODES else "server_error"
    return {"code": code, "message": run.error_message}


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
