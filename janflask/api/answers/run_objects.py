"""Runs as the API shows them, in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

import msgspec

from janflask.api.answers.inference import timings_object
from janflask.decoding import convert
from janflask.ipc.messages.generation import Timings
from janflask.storage.records import Run, RunStatus
from janflask.storage.rounds import Call

# OpenAI's codes of a run's last_error; everything else is a server_error.
_ERROR_CODES = {"rate_limit_exceeded", "invalid_prompt"}
_IN_USAGE = {"cache_n", "prompt_n", "predicted_n"}  # of timings


def run_object(run: Run) -> dict[str, Any]:
    """A run. ``left_out_message_ids`` is ours: what the model was not shown, since it did not fit or is an error."""
    return {
        "id": run.id,
        "object": "thread.run",
        "created_at": run.created_ms // 1000,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "status": str(run.status),
        "required_action": _required_action(run),
        "last_error": last_error(run),
        "expires_at": None if run.status.is_final else run.expires_ms // 1000,
        "started_at": seconds(run.started_ms),
        "cancelled_at": seconds(run.cancelled_ms),
        "failed_at": seconds(run.failed_ms),
        "completed_at": seconds(run.completed_ms),
        "incomplete_details": None if run.incomplete_reason is None else {"reason": run.incomplete_reason},
        "model": run.model,
        "instructions": run.instructions,
        "tools": run.tools,
        "metadata": run.metadata,
        "usage": _usage(run),
        "timings": _timings(run),
        "temperature": run.temperature,
        "top_p": run.top_p,
        "max_prompt_tokens": run.max_prompt_tokens,
        "max_completion_tokens": run.max_completion_tokens,
        "truncation_strategy": {
            "type": "auto" if run.last_messages is None else "last_messages",
            "last_messages": run.last_messages,
        },
        "response_format": "auto" if run.response_format is None else run.response_format,
        "form": run.form or None,
        "tool_choice": "auto" if run.tool_choice is None else run.tool_choice,
        "parallel_tool_calls": run.parallel_tool_calls,
        "left_out_message_ids": run.left_out,
    }


def call_object(call: Call) -> dict[str, Any]:
    """A call that is to be answered."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _required_action(run: Run) -> dict[str, Any] | None:
    if run.status is not RunStatus.REQUIRES_ACTION or run.waiting is None:
        return None
    calls = [call_object(call) for call in run.waiting.calls]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def _usage(run: Run) -> dict[str, Any] | None:
    """The tokens of a run that has ended, as far as they are known."""
    if run.prompt_tokens is None or run.completion_tokens is None:
        return None
    return usage_object(run.prompt_tokens, run.completion_tokens, run.cached_tokens or 0)


def timings_of(run: Run) -> Timings | None:
    """Where its time went; None where nobody knows, or a hand has made something else of it."""
    try:
        return convert(run.timings, Timings)
    except msgspec.ValidationError:
        return None


def _timings(run: Run) -> dict[str, Any] | None:
    """Of all its rounds together; null before the first has ended."""
    spent = timings_of(run)
    if spent is None:
        return None
    cached = sum(past.cached_tokens for past in run.rounds) if run.cached_tokens is None else run.cached_tokens
    return {
        **{name: value for name, value in timings_object(spent).items() if name not in _IN_USAGE},
        "time_to_first_token_ms": run.first_token_ms,
        "cached_tokens": cached,
        "context_tokens": run.context_tokens,
    }


def usage_object(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    """Tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_token_details": {"cached_tokens": cached},
    }


def last_error(run: Run) -> dict[str, Any] | None:
    """What made it fail."""
    if run.error_message is None:
        return None
    code = run.error_code if run.error_code in _ERROR_CODES else "server_error"
    return {"code": code, "message": run.error_message}


def seconds(milliseconds: int | None) -> int | None:
    """A moment as the API tells it."""
    return None if milliseconds is None else milliseconds // 1000
