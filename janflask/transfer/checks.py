"""What an imported document must be like; every refusal names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from janflask.errors import InvalidRequestError, RequestTooLargeError
from janflask.models.engine_settings import read_settings
from janflask.models.json_bodies import is_deeper
from janflask.models.parameters import read_parameters

MAX_DEPTH = 64  # levels of JSON in a thread or a message
MAX_MS = 1e15

_WORDS: dict[type, str] = {str: "text", dict: "an object", list: "an array"}
_THREAD: dict[str, type] = {
    **dict.fromkeys(("id", "title", "summary", "model_id"), str),
    **dict.fromkeys(("metadata", "settings", "parameters", "tool_resources"), dict),
    "assistants": list,
}
_MESSAGE: dict[str, type] = {
    **dict.fromkeys(("id", "thread_id", "role", "status", "assistant_id", "run_id"), str),
    **dict.fromkeys(("metadata", "incomplete_details"), dict),
    **dict.fromkeys(("file_ids", "attachments"), list),
}
_TIMES = ("created", "created_at", "updated", "updated_at", "completed_at", "incomplete_at")


def refused(place: str, reason: str) -> InvalidRequestError:
    """The error for the field at ``place``."""
    return InvalidRequestError(f"{place} {reason}", param=place)


def mapping(value: object, place: str) -> Mapping[str, Any]:
    """``value``, which must be a JSON object."""
    if not isinstance(value, Mapping):
        raise refused(place, "must be an object")
    return value


def check_texts(raw: Mapping[str, Any], place: str, *names: str) -> None:
    """Each of ``names`` must be text."""
    for name in names:
        if not isinstance(raw.get(name), str):
            raise refused(f"{place}.{name}", "must be text")


def check_fields(raw: Mapping[str, Any], place: str, kinds: Mapping[str, type]) -> None:
    """A field that is given (and not null) must be of its kind, and a time a number of seconds or milliseconds."""
    prefix = f"{place}." if place else ""
    for name, kind in kinds.items():
        if raw.get(name) is not None and not isinstance(raw[name], kind):
            raise refused(prefix + name, f"must be {_WORDS[kind]}")
    for name in _TIMES:
        value = raw.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_MS:
            raise refused(prefix + name, "must be a time in seconds or milliseconds since the epoch")


def check_thread(raw: Mapping[str, Any], place: str, limit: int) -> None:
    """A thread as in ``thread.json``; ``limit`` is in bytes."""
    _check_size(raw, place, limit)
    check_fields(raw, place, _THREAD)
    _check_tables(raw, place)
    for number, item in enumerate(raw.get("assistants") or ()):
        inner = f"{place}.assistants[{number}]"
        if not isinstance(item, str):
            check_texts(mapping(item, inner), inner, "assistant_id")
            check_fields(item, inner, {"assistant_name": str, "instructions": str, "model": dict})
            model = item.get("model") or {}
            check_fields(model, f"{inner}.model", {"settings": dict, "parameters": dict})
            _check_tables(model, f"{inner}.model")


def _check_tables(raw: Mapping[str, Any], place: str) -> None:
    """Parameters and settings that nothing can be answered with. Unknown names are other programs'."""
    for problem in read_parameters(raw.get("parameters")).problems.values():
        prefix = f"{place}.parameters"
        raise InvalidRequestError(problem.told(prefix=prefix), param=f"{prefix}.{problem.field}")
    for name, told in read_settings(raw.get("settings"))[1].items():
        raise refused(f"{place}.settings.{name}", told)


def check_message(raw: Mapping[str, Any], place: str, limit: int) -> None:
    """A message as in ``messages.jsonl``; ``limit`` is in bytes."""
    _check_size(raw, place, limit)
    check_fields(raw, place, _MESSAGE)
    check_texts(raw, place, "role")
    if not 0 < len(raw["role"]) <= 64:
        raise refused(f"{place}.role", "must have 1 to 64 characters")
    for number, item in enumerate(raw.get("file_ids") or ()):
        if not isinstance(item, str):
            raise refused(f"{place}.file_ids[{number}]", "must be text")
    for number, item in enumerate(raw.get("attachments") or ()):
        mapping(item, f"{place}.attachments[{number}]")
    content = raw.get("content")
    if content is not None and not isinstance(content, str | list):
        raise refused(f"{place}.content", "must be an array of parts")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        _check_part(mapping(part, f"{place}.content[{number}]"), f"{place}.content[{number}]")


def _check_part(part: Mapping[str, Any], place: str) -> None:
    check_texts(part, place, "type")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        text = mapping(part.get("text"), f"{place}.text")
        if text.get("value") is not None:  # Jan leaves it out where an error has no words
            check_texts(text, f"{place}.text", "value")


def _check_size(raw: Mapping[str, Any], place: str, limit: int) -> None:
    if is_deeper(raw, MAX_DEPTH):
        raise refused(place, f"must not be nested deeper than {MAX_DEPTH} levels")
    try:
        size = len(msgspec.json.encode(raw))
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise refused(place, f"cannot be stored: {error}") from None
    if size > limit:
        raise RequestTooLargeError(f"{place} is larger than {limit} bytes (JANFLASK_MAX_MESSAGE_MB)", param=place)
