"""Examples of runs for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CREATED, MESSAGE_ID, MODEL_ID, THREAD_ID
from janflask.api.examples.store import ASSISTANT_ID

RUN_ID = "run_01hf7yat00n3x8k2d5v7w9c4bm"
STEP_ID = "step_01hf7yat00j6q1r4t8z2y5g7hn"

RUN_REQUEST: dict[str, Any] = {"assistant_id": "jan", "max_completion_tokens": 256}
THREAD_AND_RUN_REQUEST: dict[str, Any] = {
    "assistant_id": "jan",
    "thread": {"messages": [{"role": "user", "content": "How does AI work? Explain it in simple terms."}]},
}
TOOL_OUTPUTS: dict[str, Any] = {"tool_outputs": [{"tool_call_id": "call_abc123", "output": "28 C"}]}
RUN_CHANGES: dict[str, Any] = {"metadata": {"key": "value"}}
RUN: dict[str, Any] = {
    "id": RUN_ID,
    "object": "thread.run",
    "created_at": CREATED,
    "thread_id": THREAD_ID,
    "assistant_id": ASSISTANT_ID,
    "status": "completed",
    "required_action": None,
    "last_error": None,
    "expires_at": None,
    "started_at": CREATED,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": CREATED + 2,
    "incomplete_details": None,
    "model": MODEL_ID,
    "instructions": "You explain every step.",
    "tools": [],
    "metadata": {},
    "usage": {
        "prompt_tokens": 31,
        "completion_tokens": 42,
        "total_tokens": 73,
        "prompt_token_details": {"cached_tokens": 0},
    },
    "timings": {
        "queue_ms": 0.412,
        "prompt_ms": 61.2,
        "prompt_per_second": 506.536,
        "predicted_ms": 420.0,
        "predicted_per_second": 100.0,
        "time_to_first_token_ms": 74,
        "cached_tokens": 0,
        "context_tokens": 8192,
    },
    "temperature": 0.2,
    "top_p": None,
    "max_prompt_tokens": None,
    "max_completion_tokens": 256,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "response_format": "auto",
    "form": None,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "left_out_message_ids": [],
}
QUEUED_RUN: dict[str, Any] = RUN | {
    "status": "queued",
    "expires_at": CREATED + 600,
    "completed_at": None,
    "usage": None,
    "timings": None,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ],
}
RUN_LIST: dict[str, Any] = {
    "object": "list",
    "data": [RUN],
    "first_id": RUN_ID,
    "last_id": RUN_ID,
    "has_more": False,
}
STEP: dict[str, Any] = {
    "id": STEP_ID,
    "object": "thread.run.step",
    "created_at": CREATED,
    "run_id": RUN_ID,
    "assistant_id": ASSISTANT_ID,
    "thread_id": THREAD_ID,
    "type": "message_creation",
    "status": "completed",
    "cancelled_at": None,
    "completed_at": CREATED + 2,
    "expired_at": None,
    "failed_at": None,
    "last_error": None,
    "step_details": {"type": "message_creation", "message_creation": {"message_id": MESSAGE_ID}},
    "metadata": {},
    "usage": RUN["usage"],
}
STEP_LIST: dict[str, Any] = {
    "object": "list",
    "data": [STEP],
    "first_id": STEP_ID,
    "last_id": STEP_ID,
    "has_more": False,
}
STREAM = (
    "id: 1\nevent: thread.run.created\ndata: {...}\n\n"
    'id: 8\nevent: thread.message.delta\ndata: {"id": "msg_...", "object": "thread.message.delta", "delta": '
    '{"content": [{"index": 0, "type": "text", "text": {"value": "The sky", "annotations": []}}]}}\n\n'
    "event: done\ndata: [DONE]\n\n"
)
