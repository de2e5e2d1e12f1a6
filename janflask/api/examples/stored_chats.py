"""Examples of stored chats for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CHAT_ANSWER, CHAT_STREAM, MESSAGE_ID

CHAT_ID = "chatcmpl-01hf7yat00q4m2w8r5c9e3x6tz01hf7yat00n3x8k2d5v7w9c4bm"

CHAT: dict[str, Any] = CHAT_ANSWER | {
    "id": CHAT_ID,
    "temperature": 0.8,
    "top_p": None,
    "presence_penalty": None,
    "frequency_penalty": None,
    "seed": None,
    "tools": None,
    "tool_choice": None,
    "response_format": None,
    "metadata": {"topic": "demo"},
}
CHANGES: dict[str, Any] = {"metadata": {"topic": "geography"}}
CHAT_DELETED = {"id": CHAT_ID, "object": "chat.completion.deleted", "deleted": True}
MESSAGE: dict[str, Any] = {
    "id": MESSAGE_ID,
    "role": "user",
    "content": "What is the capital of France?",
    "content_parts": None,
    "refusal": None,
    "name": None,
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [item], "has_more": False, "first_id": item["id"], "last_id": item["id"]}


CHAT_LIST = _page(CHAT)
MESSAGE_LIST = _page(MESSAGE)
_CHUNKS = CHAT_STREAM.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
STREAM = "".join(f"id: {number}\n{chunk}\n\n" for number, chunk in enumerate(_CHUNKS, 1)) + "data: [DONE]\n\n"
