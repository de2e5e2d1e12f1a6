"""Items of a conversation as the Responses and Conversations APIs show them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from janflask.schemas.items import ROLES, SEALED, STATUSES
from janflask.services.seals import Seals
from janflask.storage.items import Item, ItemKind, sealed_of
from janflask.storage.records import Message, words_of

_ROLES = (*ROLES, "tool")


def item_object(item: Item, *, include: Collection[str] = (), seals: Seals | None = None) -> dict[str, Any]:
    """An item; with ``seals`` and ``reasoning.encrypted_content`` in ``include``, thoughts sealed, too."""
    status = item.message.status if item.message.status in STATUSES else "completed"
    call = item.call
    told: dict[str, Any]
    match item.kind:
        case ItemKind.CALL if call is not None:
            told = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": status}
        case ItemKind.OUTPUT if call is not None:
            told = {"call_id": call.id, "output": item.text, "status": status}
        case ItemKind.REASONING:
            told = {"summary": [], "content": [{"type": "reasoning_text", "text": item.text}], "status": status}
            if seals is not None and SEALED in include:
                told["encrypted_content"] = seals.sealed(item.kind, item.text)
        case ItemKind.COMPACTION:
            told = {"encrypted_content": sealed_of(item.message)}
        case _:
            role = item.message.role
            told = {
                "role": role if role in _ROLES else "unknown",
                "content": content_parts(item.message),
                "status": status,
            }
    return {"id": item.id, "type": str(item.kind), **told}


def content_parts(message: Message) -> list[dict[str, Any]]:
    """What a message says, and the files that are attached to it. A reply that has no word yet has no part."""
    is_answer = message.role == "assistant"
    if is_answer and message.status == "in_progress" and not message.text:
        return []
    attached = [item.get("file_id") for item in message.attachments]
    files = dict.fromkeys(name for name in (*message.file_ids, *attached) if isinstance(name, str))
    parts = [_part(part, is_answer) for part in message.content]
    return [*parts, *({"type": "input_file", "file_id": name} for name in files)]


def _part(part: Mapping[str, Any], is_answer: bool) -> dict[str, Any]:
    word, text = part.get("type"), words_of([part])
    value = part.get(word) if isinstance(word, str) else None
    about = value if isinstance(value, Mapping) else {}
    match word:
        case "refusal":
            return {"type": "refusal", "refusal": text}
        case "reasoning":  # of Jan 0.7
            words = {**part, "type": "text"}
            return {"type": "reasoning_text", "text": words_of([words])}
        case "image_url" | "image_file":
            source = {"image_url": about.get("url"), "file_id": about.get("file_id")}
            return {"type": "input_image", "detail": about.get("detail") or "auto", **source}
        case "text" if is_answer:
            annotations = about.get("annotations")
            listed = list(annotations) if isinstance(annotations, list | tuple) else []
            return {"type": "output_text", "text": text, "annotations": listed, "logprobs": []}
        case "text":
            return {"type": "input_text", "text": text}
    if text:  # words beside a document of Jan's
        return {"type": "text", "text": text}
    return {"type": "input_file", "filename": str(word)[:64]}
