"""Conversations as the API shows them."""

from __future__ import annotations

from typing import Any

from janflask.files import ids
from janflask.storage.records import Thread


def conversation_object(thread: Thread) -> dict[str, Any]:
    """A thread under its name as a conversation."""
    return {
        "id": ids.conversation_id(thread.id),
        "object": "conversation",
        "created_at": thread.created_ms // 1000,
        "metadata": thread.metadata,
    }
