"""Examples of conversations for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CREATED

CONVERSATION_ID, ITEM_ID = "conv_abc123", "msg_abc123"

_QUESTION: dict[str, Any] = {"role": "user", "content": "How warm is it in Paris?"}
CONVERSATION_REQUEST: dict[str, Any] = {"items": [_QUESTION], "metadata": {"topic": "weather"}}
CHANGES: dict[str, Any] = {"metadata": {"topic": "travel"}}
ITEMS_REQUEST: dict[str, Any] = {
    "items": [
        _QUESTION,
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "21 degrees"},
    ]
}
CONVERSATION: dict[str, Any] = {
    "id": CONVERSATION_ID,
    "object": "conversation",
    "created_at": CREATED,
    "metadata": {"topic": "weather"},
}
CONVERSATION_LIST: dict[str, Any] = {
    "object": "list",
    "data": [CONVERSATION],
    "first_id": CONVERSATION_ID,
    "last_id": CONVERSATION_ID,
    "has_more": False,
}
DELETED: dict[str, Any] = {"id": CONVERSATION_ID, "object": "conversation.deleted", "deleted": True}
ITEM: dict[str, Any] = {
    "id": ITEM_ID,
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "How warm is it in Paris?"}],
    "status": "completed",
}
ITEM_LIST: dict[str, Any] = {
    "object": "list",
    "data": [
        ITEM,
        {
            "id": "fc_def456_0",
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city": "Paris"}',
            "status": "completed",
        },
        {
            "id": "fco_ghi789",
            "type": "function_call_output",
            "call_id": "call_1",
            "output": "21 degrees",
            "status": "completed",
        },
    ],
    "first_id": ITEM_ID,
    "last_id": "fco_ghi789",
    "has_more": False,
}
