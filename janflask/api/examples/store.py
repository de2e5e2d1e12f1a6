"""Examples of assistants and files for the OpenAPI document."""

from __future__ import annotations

from typing import Any

CREATED = 1_700_000_000
ASSISTANT_ID = "asst_01hf7yat00c2q4m8v0x3zr5n6e"
FILE_ID = "file-01hf7yat00p6w9d1k7h3t5b8fz"

CREATE_ASSISTANT: dict[str, Any] = {
    "name": "Math tutor",
    "instructions": "You explain every step.",
    "model": "smollm2-135m-instruct",
    "temperature": 0.2,
}
MODIFY_ASSISTANT: dict[str, Any] = {"instructions": "You explain every step, briefly."}
ASSISTANT: dict[str, Any] = {
    "id": ASSISTANT_ID,
    "object": "assistant",
    "version": "1.0",
    "created_at": CREATED,
    "name": "Math tutor",
    "description": "",
    "avatar": "",
    "model": "smollm2-135m-instruct",
    "models": [],
    "instructions": "You explain every step.",
    "tools": [],
    "tool_resources": None,
    "file_ids": [],
    "events": {},
    "metadata": {},
    "temperature": 0.2,
    "top_p": None,
    "response_format": None,
}
ASSISTANT_LIST: dict[str, Any] = {
    "object": "list",
    "data": [ASSISTANT],
    "first_id": ASSISTANT_ID,
    "last_id": ASSISTANT_ID,
    "has_more": False,
}
ASSISTANT_DELETED: dict[str, Any] = {"id": ASSISTANT_ID, "object": "assistant.deleted", "deleted": True}

UPLOAD: dict[str, Any] = {"file": "notes.txt", "purpose": "assistants"}
FILE: dict[str, Any] = {
    "id": FILE_ID,
    "object": "file",
    "bytes": 14,
    "created_at": CREATED,
    "filename": "notes.txt",
    "purpose": "assistants",
    "status": "processed",
}
FILE_LIST: dict[str, Any] = {
    "object": "list",
    "data": [FILE],
    "first_id": FILE_ID,
    "last_id": FILE_ID,
    "has_more": False,
}
FILE_DELETED: dict[str, Any] = {"id": FILE_ID, "object": "file", "deleted": True}
CONTENT = "Buy oat milk.\n"
