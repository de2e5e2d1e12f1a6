"""Examples of Anthropic's Messages for the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from janflask.api.examples.inference import MODEL_ID

MESSAGES_REQUEST: dict[str, Any] = {
    "model": MODEL_ID,
    "max_tokens": 64,
    "system": "You are a helpful assistant.",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
COUNT_REQUEST: dict[str, Any] = {name: value for name, value in MESSAGES_REQUEST.items() if name != "max_tokens"}
COUNT_ANSWER: dict[str, Any] = {"input_tokens": 31}
_ENDED: dict[str, Any] = {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
_USAGE = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 20,
    "output_tokens": 8,
    "output_tokens_details": {"thinking_tokens": 0},
}
_NEW: dict[str, Any] = {
    "id": "msg_5f2b9c41d8e07a63b1c2d3e4",
    "type": "message",
    "role": "assistant",
    "model": MODEL_ID,
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
}
MESSAGE: dict[str, Any] = {
    **_NEW,
    **_ENDED,
    "content": [{"type": "text", "text": "The capital of France is Paris.", "citations": None}],
    "usage": _USAGE,
}
_START = {"input_tokens": 31, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**_NEW, "usage": _START}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The capital"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {**_ENDED, "container": None}, "usage": _USAGE},
    {"type": "message_stop"},
]
STREAM = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _EVENTS)
