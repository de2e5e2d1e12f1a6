"""One draft of an item as a line of a thread, and one item as a draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from janflask.errors import RequestTooLargeError
from janflask.files import ids
from janflask.storage.items import (
    CALL_ID,
    CALLS,
    REASONING,
    TOOL,
    CallDraft,
    Item,
    ItemDraft,
    ItemKind,
    OutputDraft,
    ReasoningDraft,
    SealedDraft,
    SummaryDraft,
    kept_calls,
    sealed_of,
)
from janflask.storage.records import Message, MessageDraft, text_part
from janflask.storage.rounds import Call


def draft_of(item: Item) -> ItemDraft:
    """A draft of the same."""
    if item.call is not None and item.kind is ItemKind.CALL:
        return CallDraft(item.call.id, item.call.name, item.call.arguments)
    if item.call is not None and item.kind is ItemKind.OUTPUT:
        return OutputDraft(item.call.id, item.text)
    if item.kind is ItemKind.REASONING:
        return ReasoningDraft(item.text)
    said = item.message
    if item.kind is ItemKind.COMPACTION:
        return SealedDraft(item.kind, sealed_of(said))
    return MessageDraft(
        role=said.role,
        content=said.content,
        file_ids=said.file_ids,
        attachments=said.attachments,
        metadata=said.metadata,
    )


def line_of(thread_id: str, draft: ItemDraft, thought: str = "") -> Message:
    """A draft as a line, an assistant's with what it thought. Raises TypeError for what has to be opened or found."""
    match draft:
        case CallDraft():
            call = Call(id=draft.id, name=draft.name, arguments=draft.arguments)
            return _line(thread_id, "assistant", thought=thought, extra={CALLS: kept_calls([call])})
        case OutputDraft():
            return _line(thread_id, TOOL, content=(text_part(draft.output),), extra={CALL_ID: draft.call_id})
        case SummaryDraft():
            return _line(thread_id, "assistant", content=(text_part(draft.text),))
        case MessageDraft():
            line = _line(thread_id, draft.role, content=draft.content, thought=thought, extra=draft.extra)
            return replace(line, file_ids=draft.file_ids, attachments=draft.attachments, metadata=draft.metadata)
    raise TypeError(f"{type(draft).__name__} makes no line")


def is_assistants(draft: ItemDraft) -> bool:
    """Whether it is part of what an assistant says, and so may stand in a line with its thoughts."""
    return isinstance(draft, CallDraft) or (isinstance(draft, MessageDraft) and draft.role == "assistant")


def thoughts_line(thread_id: str, thought: str) -> Message:
    """Thoughts with nothing behind them."""
    return _line(thread_id, "assistant", thought=thought)


def _line(
    thread_id: str,
    role: str,
    *,
    content: tuple[Mapping[str, Any], ...] = (),
    thought: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Message:
    thoughts = {REASONING: thought} if thought and role == "assistant" else {}
    return Message(
        id=ids.new_id(ids.MESSAGE),
        thread_id=thread_id,
        created_ms=ids.now_ms(),
        role=role,
        content=content,
        extra={**thoughts, **(extra or {})},
    )


def check_size(line: Message, max_bytes: int, place: str) -> None:
    """Raises RequestTooLargeError for a line of more than ``max_bytes`` as JSON."""
    size = len(msgspec.json.encode((line.content, line.extra, line.attachments, line.file_ids, line.metadata)))
    if size > max_bytes:
        raise RequestTooLargeError(f"the item has {size} bytes as JSON; {max_bytes >> 20} MiB is the most", param=place)
