"""Assistants as JSON on disk, in the shape of Jan's ``assistant.json``, and back; and the one that is built in.

Read as leniently as ``jan`` reads threads: a field of a type that we cannot use counts as not given and is kept.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec

from janflask.storage.jan import OWNER, Raw, given, millis, owner_in, rest, with_rest
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant

ASSISTANT_FILE = "assistant.json"

# What ``jan`` is until somebody changes it. It was there before everything else, hence its time.
BUILT_IN = Assistant(
    id=DEFAULT_ASSISTANT,
    created_ms=1_577_836_800_000,  # the beginning of 2020: before any that somebody made
    name="Jan",
    description="The default assistant. It works with any model.",
)

_OPTIONAL = (
    "models",
    "tool_resources",
    "events",
    "metadata",
    "temperature",
    "top_p",
    "response_format",
    "reasoning_effort",
    OWNER,
)
_KNOWN = {
    *("id", "object", "version", "created_at", "name", "description", "avatar", "model", "instructions", "tools"),
    *("file_ids", *_OPTIONAL),
}


def assistant_from_json(raw: Raw, assistant_id: str, default_ms: int = 0) -> Assistant:
    """``assistant_id`` is the folder's name, which counts; ``default_ms`` is the time of one that tells none."""
    resources = raw.get("tool_resources")
    file_ids = given(raw, "file_ids", list)
    known = Assistant(
        id=assistant_id,
        created_ms=millis(raw, "created_at") or millis(raw, "created") or default_ms,
        name=given(raw, "name", str),
        description=given(raw, "description", str),
        avatar=given(raw, "avatar", str),
        model=given(raw, "model", str) or "*",
        models=_objects(raw, "models"),
        instructions=given(raw, "instructions", str),
        tools=_objects(raw, "tools"),
        tool_resources=resources if isinstance(resources, dict) else None,
        file_ids=tuple(file_ids) if all(isinstance(item, str) for item in file_ids) else (),
        events=given(raw, "events", dict),
        metadata=given(raw, "metadata", dict),
        temperature=_number(raw, "temperature"),
        top_p=_number(raw, "top_p"),
        reasoning_effort=given(raw, "reasoning_effort", str) or None,
        response_format=raw.get("response_format"),
        version=given(raw, "version", str) or "1.0",
        owner=owner_in(raw),
    )
    written = assistant_to_json(known)
    # "0" was understood although nothing seems to have come of it.
    understood: Raw = {name: True for name in ("temperature", "top_p") if name in written}
    return dataclasses.replace(known, extra=rest(raw, _KNOWN, {**written, **understood}))


def assistant_to_json(assistant: Assistant) -> dict[str, Any]:
    """What ``assistant.json`` holds."""
    out: dict[str, Any] = {
        "avatar": assistant.avatar,
        "id": assistant.id,
        "object": "assistant",
        "version": assistant.version,
        "created_at": assistant.created_ms,
        "name": assistant.name,
        "description": assistant.description,
        "model": assistant.model,
        "instructions": assistant.instructions,
        "tools": assistant.tools,
        "file_ids": assistant.file_ids,
    }
    for name in _OPTIONAL:
        value = getattr(assistant, name)
        if value not in (None, (), {}):
            out[name] = value
    return with_rest(out, assistant.extra)


def encode_assistant(assistant: Assistant) -> bytes:
    """``assistant.json``, laid out for people."""
    return msgspec.json.format(msgspec.json.encode(assistant_to_json(assistant)), indent=2) + b"\n"


def _objects(raw: Raw, name: str) -> tuple[dict[str, Any], ...]:
    value = given(raw, name, list)
    return tuple(value) if all(isinstance(item, dict) for item in value) else ()


def _number(raw: Raw, name: str) -> float | None:
    """A number, also one that is written as text; None for what is none."""
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
