"""Examples of responses for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CREATED, MESSAGE_ID, MODEL_ID, THREAD_ID

RESPONSE_ID = "resp_01hf7yat00n3x8k2d5v7w9c4bm" + THREAD_ID.removeprefix("thread_")
REQUEST: dict[str, Any] = {"model": MODEL_ID, "input": "Why is the sky blue?", "max_output_tokens": 256}
_MESSAGE: dict[str, Any] = {
    "id": MESSAGE_ID,
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {"type": "output_text", "text": "The air scatters blue light the most.", "annotations": [], "logprobs": []}
    ],
}
RESPONSE: dict[str, Any] = {
    "id": RESPONSE_ID,
    "object": "response",
    "created_at": CREATED,
    "status": "completed",
    "background": False,
    "completed_at": CREATED + 2,
    "conversation": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": 256,
    "max_tool_calls": None,
    "metadata": {},
    "model": MODEL_ID,
    "output": [_MESSAGE],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_options": None,
    "prompt_cache_diagnostics": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 31,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 40,
    },
    "user": None,
    "thread_id": THREAD_ID,
    "left_out_tools": [],
    "left_out_message_ids": [],
}
DELETED: dict[str, Any] = {"id": RESPONSE_ID, "object": "response", "deleted": True}
INPUT_TOKENS: dict[str, Any] = {"object": "response.input_tokens", "input_tokens": 31, "estimated": False}
SAID: dict[str, Any] = {
    "id": "msg_01hf7yat00j6q1r4t8z2y5g7hn",
    "type": "message",
    "status": "completed",
    "role": "user",
    "content": [{"type": "input_text", "text": "Why is the sky blue?"}],
}
INPUT_ITEMS: dict[str, Any] = {
    "object": "list",
    "data": [SAID],
    "first_id": SAID["id"],
    "last_id": SAID["id"],
    "has_more": False,
}
STREAM = (
    'event: response.created\ndata: {"type": "response.created", "sequence_number": 0, "response": {...}}\n\n'
    'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "item_id": "msg_...", '
    '"output_index": 0, "content_index": 0, "sequence_number": 4, "delta": "The air", "logprobs": []}\n\n'
    'event: response.completed\ndata: {"type": "response.completed", "sequence_number": 15, "response": {...}}\n\n'
)
