"""Threads and messages as JSON on disk, in Jan's own shape, and back.

Reading is lenient: Jan's versions, its users and its extensions have written many things. A field of a type that we
cannot use counts as not given, and stays in ``extra`` so that the next writing keeps it. Writing gives Jan what it
reads: milliseconds, ``created`` and ``updated``, its own words for a message's status.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from janflask.errors import StoreDamagedError, why_not_json
from janflask.storage.records import Message, Thread, ThreadAssistant, text_part

Raw = Mapping[str, Any]
K = TypeVar("K", str, int, dict[str, Any], list[Any])

OWNER = "owner"  # a field of ours in every object's file, which Jan has none of
THREAD_FILE, MESSAGES_FILE, FILES_FOLDER = "thread.json", "messages.jsonl", "files"
SECONDS_BELOW = 100_000_000_000  # a time below it is in seconds: as such it is the year 5138, as milliseconds 1973
_EARLIEST = SECONDS_BELOW // 1000  # so that a time read in seconds is never taken for one when it is read again

_STATUS = {"ready": "completed", "pending": "in_progress", "stopped": "incomplete", "error": "incomplete"}
_JAN_STATUS = {"completed": "ready", "in_progress": "pending", "incomplete": "stopped"}
_THREAD = {
    *("id", "object", "title", "summary", "assistants", "created", "updated", "metadata", "model_id"),
    *("settings", "parameters", "tool_resources", OWNER),
}
_ASSISTANT = {"assistant_id", "assistant_name", "instructions", "model"}
_MESSAGE = {
    *("id", "object", "thread_id", "role", "content", "created", "updated", "status", "file_ids", "attachments"),
    *("assistant_id", "run_id", "incomplete_details", "completed_at", "incomplete_at", "metadata"),
}

_KEY_ID = re.compile("[a-z2-7]{12}")  # as ``access.keys`` makes them
_HALF = re.compile("[\ud800-\udfff]")  # half of a character beyond U+FFFF, alone

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def decode_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``data``. Raises StoreDamagedError."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        value = _decode(data)
    except msgspec.DecodeError as error:
        value = _with_half_characters(data, what, error)
    except (UnicodeDecodeError, RecursionError) as error:
        raise _not_json(data, what, error) from None
    if not isinstance(value, dict):
        raise StoreDamagedError(f"{what} holds no JSON object; `janflask doctor` tells more")
    return value


def _with_half_characters(data: bytes, what: str, problem: msgspec.DecodeError) -> Any:
    """JSON with half of a character in it, as programs write it that cut text between the two: a sign in its place."""
    if b"\\ud" in data.lower():
        with suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(data), ensure_ascii=False, allow_nan=False)
            return json.loads(_HALF.sub("\ufffd", text))
    raise _not_json(data, what, problem) from None


def _not_json(data: bytes, what: str, error: Exception) -> StoreDamagedError:
    return StoreDamagedError(f"{what} is not JSON: {why_not_json(data, error)}; `janflask doctor` tells more")


# --- threads ----------------------------------------------------------------------------------------------------------


def thread_from_json(raw: Raw, thread_id: str, default_ms: int = 0) -> Thread:
    """``thread_id`` is the folder's name, which counts; ``default_ms`` is the time of one that tells none."""
    created = millis(raw, "created") or millis(raw, "created_at") or default_ms
    listed = raw.get("assistants")
    assistants = [thread_assistant(item) for item in listed] if isinstance(listed, list) else []
    understood = [item for item in assistants if item is not None]
    resources = raw.get("tool_resources")
    known = Thread(
        id=thread_id,
        created_ms=created,
        updated_ms=max(created, millis(raw, "updated") or millis(raw, "updated_at")),
        title=given(raw, "title", str),
        summary=given(raw, "summary", str),
        assistants=tuple(understood) if len(understood) == len(assistants) else (),
        metadata=given(raw, "metadata", dict),
        model_id=given(raw, "model_id", str) or None,
        settings=given(raw, "settings", dict),
        parameters=given(raw, "parameters", dict),
        tool_resources=resources if isinstance(resources, dict) else None,
        owner=owner_in(raw),
    )
    return dataclasses.replace(known, extra=rest(raw, _THREAD, thread_to_json(known)))


def thread_to_json(thread: Thread) -> dict[str, Any]:
    """What ``thread.json`` holds."""
    out: dict[str, Any] = {
        "id": thread.id,
        "object": "thread",
        "title": thread.title,
        "summary": thread.summary,
        "assistants": [_assistant_to_json(item) for item in thread.assistants],
        "created": thread.created_ms,
        "updated": thread.updated_ms,
        "metadata": thread.metadata,
    }
    for name in ("model_id", "settings", "parameters", "tool_resources", OWNER):
        if value := getattr(thread, name):
            out[name] = value
    return with_rest(out, thread.extra)


def encode_thread(thread: Thread) -> bytes:
    """``thread.json``, laid out for people."""
    return msgspec.json.format(_encode(thread_to_json(thread)), indent=2) + b"\n"


def thread_assistant(raw: object) -> ThreadAssistant | None:
    """An entry of ``assistants``: an object, or in some versions just the id. None for anything else."""
    if isinstance(raw, str) and raw:
        return ThreadAssistant(assistant_id=raw)
    if not isinstance(raw, Mapping):
        return None
    name = raw.get("assistant_id") or raw.get("id")
    if not isinstance(name, str):
        return None
    known = ThreadAssistant(
        assistant_id=name,
        assistant_name=given(raw, "assistant_name", str),
        instructions=given(raw, "instructions", str),
        model=given(raw, "model", dict),
    )
    return dataclasses.replace(known, extra=rest(raw, _ASSISTANT, _assistant_to_json(known)))


def _assistant_to_json(item: ThreadAssistant) -> dict[str, Any]:
    out: dict[str, Any] = {"assistant_id": item.assistant_id, "assistant_name": item.assistant_name}
    if item.instructions:
        out["instructions"] = item.instructions
    out["model"] = item.model
    return with_rest(out, item.extra)


# --- messages ---------------------------------------------------------------------------------------------------------


def message_from_json(raw: Raw, thread_id: str, default_id: str = "") -> Message:
    """``default_id`` is for a message that tells none."""
    created = millis(raw, "created") or millis(raw, "created_at")
    status = given(raw, "status", str)
    known = Message(
        id=given(raw, "id", str) or default_id,
        thread_id=thread_id,
        created_ms=created,
        role=given(raw, "role", str) or "user",
        content=_content(raw.get("content")),
        file_ids=tuple(item for item in given(raw, "file_ids", list) if isinstance(item, str)),
        attachments=tuple(item for item in given(raw, "attachments", list) if isinstance(item, dict)),
        assistant_id=given(raw, "assistant_id", str) or None,
        run_id=given(raw, "run_id", str) or None,
        status=_STATUS.get(status, status if status in _JAN_STATUS else "completed"),
        incomplete_details=_details(raw.get("incomplete_details"), status),
        completed_ms=millis(raw, "completed_at") or None,
        incomplete_ms=millis(raw, "incomplete_at") or None,
        metadata=given(raw, "metadata", dict),
    )
    return dataclasses.replace(known, extra=rest(raw, _MESSAGE, message_to_json(known)))


def message_to_json(message: Message) -> dict[str, Any]:
    """What a line of ``messages.jsonl`` holds."""
    status = _JAN_STATUS.get(message.status, message.status)
    if status == "stopped" and (message.incomplete_details or {}).get("reason") == "error":
        status = "error"
    out: dict[str, Any] = {
        "id": message.id,
        "object": "thread.message",
        "thread_id": message.thread_id,
        "role": message.role,
        "status": status,
        "created": message.created_ms,
        "updated": message.completed_ms or message.incomplete_ms or message.created_ms,
        "content": message.content,
    }
    for name in ("file_ids", "attachments", "assistant_id", "run_id", "incomplete_details", "metadata"):
        if value := getattr(message, name):
            out[name] = value
    if message.completed_ms is not None:
        out["completed_at"] = message.completed_ms
    if message.incomplete_ms is not None:
        out["incomplete_at"] = message.incomplete_ms
    return with_rest(out, message.extra)


def encode_message(message: Message) -> bytes:
    """One line, with its end."""
    return _encode(message_to_json(message)) + b"\n"


def raw_message(message: Message) -> dict[str, Any]:
    """As it is read again from its line."""
    raw: dict[str, Any] = _decode(encode_message(message))
    return raw


def _details(raw: object, status: str) -> dict[str, Any] | None:
    """``incomplete_details``; Jan's own word for an error is in the status alone."""
    details = raw if isinstance(raw, dict) else None
    if status == "error":  # it counts over a reason that somebody else gave
        return {**(details or {}), "reason": "error"}
    return details


def _content(raw: object) -> tuple[dict[str, Any], ...]:
    if isinstance(raw, str):
        return (text_part(raw),)
    if not isinstance(raw, list) or not all(isinstance(part, dict | str) for part in raw):
        return ()
    return tuple(_part(part) for part in raw)


def _part(raw: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(raw, str):
        return text_part(raw)
    text = raw.get("text")
    if raw.get("type") == "text" and isinstance(text, str):
        return {**raw, "text": {"value": text, "annotations": []}}
    return raw


# --- fields -----------------------------------------------------------------------------------------------------------


def given(raw: Raw, name: str, kind: type[K]) -> K:
    """The field if it is of that type (exactly: true is no number), else the type's empty value."""
    value = raw.get(name)
    return value if type(value) is kind else kind()


def owner_in(raw: Raw) -> str | None:
    """Whose an object is, as its file says; what cannot be the id of a key says nothing, and is kept."""
    owner = raw.get(OWNER)
    return owner if isinstance(owner, str) and _KEY_ID.fullmatch(owner) else None


def millis(raw: Raw, name: str) -> int:
    """A time in milliseconds, whether it was told in those or in seconds, as a number or as text; 0 if it was not."""
    value = raw.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _EARLIEST <= value < 1e15:
        return 0
    return int(value * 1000 if value < SECONDS_BELOW else value)


def rest(raw: Raw, known: set[str], written: Raw) -> dict[str, Any]:
    """The fields to keep in ``extra``: unknown ones, and known ones of which nothing was understood."""
    return {name: raw[name] for name in raw if name not in known or (raw[name] and not written.get(name))}


def with_rest(out: dict[str, Any], extra: Raw) -> dict[str, Any]:
    """``extra`` behind what we write, and in place of what would say nothing."""
    for name, value in extra.items():
        if not out.get(name):
            out[name] = value
    return out
