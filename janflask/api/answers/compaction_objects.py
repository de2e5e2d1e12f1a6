"""A compacted conversation as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janflask.api.answers.item_objects import item_object
from janflask.api.answers.response_objects import usage_object
from janflask.files import ids
from janflask.services.compaction import Compaction
from janflask.storage.items import ItemKind, compaction_id, items_of
from janflask.storage.records import Message


def compaction_object(name: str, compaction: Compaction, messages: Sequence[Message]) -> dict[str, Any]:
    """What the user said in ``messages``, word for word, and the item that stands for all of them."""
    said = [
        item_object(item)
        for message in messages
        if message.role == "user"
        for item in items_of(message)
        if item.kind is ItemKind.MESSAGE
    ]
    item = {
        "id": compaction_id(ids.new_id(ids.MESSAGE)),
        "type": "compaction",
        "encrypted_content": compaction.encrypted_content,
    }
    used = compaction.usage
    return {
        "id": name,
        "object": "response.compaction",
        "created_at": ids.now_ms() // 1000,
        "output": [*said, item],
        "usage": usage_object(used.prompt_tokens, used.cached_tokens, used.completion_tokens, used.reasoning_tokens),
    }
