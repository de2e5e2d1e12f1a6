"""Threads and messages as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from janflask.services.threads import ThreadView
from janflask.storage.items import CALL_ID, CALLS, REASONING
from janflask.storage.records import Message, Thread, ThreadAssistant
from janflask.storage.rounds import FIELD, read_kept


def thread_object(thread: Thread) -> dict[str, Any]:
    """A thread as an entry of the list: without its messages."""
    created = thread.created_ms // 1000
    return {
        "id": thread.id,
        "object": "thread",
        "title": thread.title,
        "summary": thread.summary,
        "assistants": [_assistant(item) for item in thread.assistants],
        "created": created,
        "created_at": created,
        "updated": thread.updated_ms // 1000,
        "metadata": thread.metadata,
        "model_id": thread.model_id,
        "settings": thread.settings,
        "parameters": thread.parameters,
        "tool_resources": thread.tool_resources or {},
    }


def single_thread(view: ThreadView) -> dict[str, Any]:
    """A thread with the ids of its messages."""
    content = thread_object(view.thread)
    content["messages"] = view.message_ids
    return content


def _assistant(item: ThreadAssistant) -> dict[str, Any]:
    return {
        "assistant_id": item.assistant_id,
        "assistant_name": item.assistant_name,
        "instructions": item.instructions,
        "model": item.model,
    }


def message_object(message: Message) -> dict[str, Any]:
    """A message."""
    return {
        "id": message.id,
        "object": "thread.message",
        "created_at": message.created_ms // 1000,
        "thread_id": message.thread_id,
        "role": message.role,
        "content": message.content,
        "file_ids": message.file_ids,
        "attachments": message.attachments,
        "assistant_id": message.assistant_id,
        "run_id": message.run_id,
        "status": message.status,
        "incomplete_details": message.incomplete_details,
        "completed_at": _seconds(message.completed_ms),
        "incomplete_at": _seconds(message.incomplete_ms),
        "metadata": message.metadata,
        **_beside_words(message),
    }


def _beside_words(message: Message) -> dict[str, Any]:
    """What was thought and called before it, what it wants called, which call it answers, where there is any."""
    thought, calls, answered = (message.extra.get(name) for name in (REASONING, CALLS, CALL_ID))
    told: dict[str, Any] = {REASONING: thought} if isinstance(thought, str) and thought else {}
    if rounds := _rounds(message):
        told[FIELD] = rounds
    if isinstance(calls, list | tuple) and calls:
        told[CALLS] = calls
    return {**told, CALL_ID: answered} if isinstance(answered, str) else told


def _rounds(message: Message) -> list[dict[str, Any]]:
    """The calls before it with their outputs; of those that nobody can read none."""
    try:
        return [msgspec.to_builtins(item) for item in read_kept(message.extra)]
    except ValueError:
        return []


def message_file_object(message: Message, file_id: str) -> dict[str, Any]:
    """A file as a message's; it belongs to it for as long as there is the message."""
    return {
        "id": file_id,
        "object": "thread.message.file",
        "created_at": message.created_ms // 1000,
        "message_id": message.id,
    }


def list_object(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """OpenAI's page of a list."""
    return {"object": "list", "data": data, **pagination(data, has_more)}


def pagination(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """What tells how to go on."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"has_more": has_more, "first_id": first, "last_id": last}


def deleted_object(object_id: str, kind: str) -> dict[str, Any]:
    """What is answered to a delete."""
    return {"id": object_id, "object": f"{kind}.deleted", "deleted": True}


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
