"""A conversation whose older part a summary stands for: what of it a model is shown, and what stays as it is.

Of each conversation the newest summary counts (``storage/items.py`` says how it lies in a thread). What is before it is
not shown, but for the messages that it keeps: instructions, what the user said last, and the last steps of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from janflask.inference.requests import ChatMessage
from janflask.storage.items import (
    COMPACTION,
    KEPT,
    TOOL,
    CallDraft,
    Item,
    ItemDraft,
    ItemKind,
    OutputDraft,
    ReasoningDraft,
    SummaryDraft,
    is_summary,
    items_of,
)
from janflask.storage.records import Message, MessageDraft

LEADING = ("system", "developer")  # roles of messages that are instructions

_ASK = "Sum up our conversation so far, so that we can go on from there."


@dataclass(frozen=True, slots=True)
class Parts:
    """A conversation in two: ``older`` is to be summed up, ``kept`` stays as it is, both in order."""

    older: tuple[Message, ...]
    kept: tuple[Message, ...]


def shown(messages: Sequence[Message]) -> list[Message]:
    """What a model is shown of a conversation: from the newest summary on, with what that keeps."""
    place = next((number for number in reversed(range(len(messages))) if is_summary(messages[number])), None)
    if place is None:
        return list(messages)
    named = messages[place].extra[COMPACTION].get(KEPT)
    ids = {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()
    kept = [message for message in messages[:place] if message.id in ids and not is_summary(message)]
    return [
        *(message for message in kept if message.role in LEADING),
        messages[place],
        *(message for message in kept if message.role not in LEADING),
        *messages[place + 1 :],
    ]


def summary_turns(message: Message) -> tuple[ChatMessage, ChatMessage]:
    """What a model is shown in a summary's place: it was asked for it, so that turns still alternate."""
    return ChatMessage.of("user", _ASK), ChatMessage.of("assistant", message.text)


# --- in two parts -----------------------------------------------------------------------------------------------------


def all_but_instructions(messages: Sequence[Message]) -> Parts:
    """Everything is to be summed up."""
    return Parts(
        older=tuple(message for message in messages if message.role not in LEADING),
        kept=tuple(message for message in messages if message.role in LEADING),
    )


def in_two(messages: Sequence[Message], tokens: Callable[[Sequence[Message]], int], room: int) -> Parts:
    """The newest steps stay as long as they have ``room``, and what the user said last; ``older`` may be empty.

    A step is what a user says, or an answer up to its calls with what they gave back: these stay together, and the
    newest stays however long it is. Up to what the user said last they begin with what a user says, so that turns
    alternate behind a summary. ``tokens`` is asked for the length of one step after another, back from the newest.
    """
    starts = _steps(messages)
    last = next((start for start in reversed(starts) if messages[start].role == "user"), -1)
    place = end = len(messages)
    for start in reversed(starts):
        room -= tokens(messages[start:end])
        if room < 0 and place < len(messages):
            break
        end = start
        if start > last or messages[start].role == "user" or is_summary(messages[start]):
            place = start
    behind = next((start for start in starts if start > last), len(messages))
    said = range(last, behind) if last >= 0 else range(0)
    kept = {number for number, message in enumerate(messages) if number >= place or message.role in LEADING}
    kept |= set(said)
    return Parts(
        older=tuple(message for number, message in enumerate(messages) if number not in kept),
        kept=tuple(message for number, message in enumerate(messages) if number in kept),
    )


def _steps(messages: Sequence[Message]) -> list[int]:
    """Where each step begins. What a user says in several messages is one."""
    starts: list[int] = []
    before = ""
    for number, message in enumerate(messages):
        if message.role != TOOL and (message.role != before or not starts or is_summary(message)):
            starts.append(number)
        before = message.role
    return starts


# --- as text ----------------------------------------------------------------------------------------------------------


def told(message: Message) -> str:
    """A message as whoever sums up is told of it, without what was thought; empty if there is nothing to tell."""
    return "\n\n".join(text for item in items_of(message) if (text := _told(item)))


def _told(item: Item) -> str:
    call = item.call
    match item.kind:
        case ItemKind.MESSAGE:
            return f"{item.message.role.capitalize()}:\n{item.text}" if item.text else ""
        case ItemKind.COMPACTION:
            return f"Summary of what was before:\n{item.text}"
        case ItemKind.CALL:
            return f"Call of {call.name}:\n{call.arguments}" if call else ""
        case ItemKind.OUTPUT:
            return f"Result of the call{f' of {call.name}' if call and call.name else ''}:\n{item.text}"
        case ItemKind.REASONING:
            return ""


# --- as a client carries it -------------------------------------------------------------------------------------------


def carried(summary: str, kept: Sequence[Message]) -> str:
    """A summary and what it keeps, to be sealed: a client may send nothing else of what was before."""
    return json.dumps(
        {"summary": summary, "kept": [as_json(item) for message in kept for item in items_of(message)]},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def drafts_of(text: str, encrypted_content: str) -> list[ItemDraft]:
    """What ``carried`` made ``text`` of, to be put in the place of the item."""
    data = json.loads(text)
    kept = [_draft(item) for item in data["kept"]]
    leading = [draft for draft in kept if isinstance(draft, MessageDraft) and draft.role in LEADING]
    return [
        *leading,
        SummaryDraft(data["summary"], encrypted_content, len(leading)),
        *(draft for draft in kept if draft not in leading),
    ]


def as_json(item: Item) -> dict[str, Any]:
    """What an item says, without its id."""
    call = item.call
    match item.kind:
        case ItemKind.CALL if call is not None:
            return {"type": item.kind, "call_id": call.id, "name": call.name, "arguments": call.arguments}
        case ItemKind.OUTPUT if call is not None:
            return {"type": item.kind, "call_id": call.id, "output": item.text}
        case ItemKind.MESSAGE:
            return {"type": item.kind, "role": item.message.role, "content": list(item.message.content)}
    return {"type": item.kind, "text": item.text}


def _draft(item: Mapping[str, Any]) -> ItemDraft:
    match item["type"]:
        case ItemKind.CALL:
            return CallDraft(item["call_id"], item["name"], item["arguments"])
        case ItemKind.OUTPUT:
            return OutputDraft(item["call_id"], item["output"])
        case ItemKind.REASONING:
            return ReasoningDraft(item["text"])
    return MessageDraft(role=item["role"], content=tuple(item["content"]))


def texts(messages: Sequence[Message]) -> Iterator[str]:
    """What there is to tell of each message."""
    return (text for message in messages if (text := told(message)))
