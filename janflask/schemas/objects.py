"""What the bodies and queries of stored objects have in common: JSON objects with limits, and pages of lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.models.parameters import is_storable
from janflask.schemas.fields import Text, between, kind, one_of, wrong_type
from janflask.schemas.fields import each as each_of
from janflask.schemas.sampling import Base

MAX_DEPTH = 32  # of an object in an object
MAX_OBJECT_BYTES = 64 << 10  # as JSON in UTF-8
MAX_PAGE = 100
DEFAULT_PAGE = 20

_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")


def depth(value: object) -> int:
    """How deep objects and lists lie in each other: 0 for a plain value, 1 for ``{}``."""
    deepest, pending = 0, [(value, 1)]
    while pending:
        item, level = pending.pop()
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        if inner is not None:
            deepest = max(deepest, level)
            pending.extend((part, level + 1) for part in inner)
    return deepest


def check_object(value: object, max_bytes: int = MAX_OBJECT_BYTES) -> dict[str, Any]:
    """``value``. Raises ValidationError unless it is a JSON object that is neither too deep nor too large."""
    if not isinstance(value, dict):
        raise wrong_type("an object", value)
    if depth(value) > MAX_DEPTH:
        raise ma.ValidationError(f"must be nested at most {MAX_DEPTH} deep")
    if not is_storable(value):
        raise ma.ValidationError("must hold no whole number beyond 64 bits")
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > max_bytes:
        raise ma.ValidationError(f"must have at most {max_bytes} bytes as JSON, not {size}")
    return value


def check_kept(data: Mapping[str, Any], names: Iterable[str], max_bytes: int = MAX_OBJECT_BYTES) -> None:
    """What of ``data`` is kept as it was sent has limits. Raises ValidationError of the first name that is beyond."""
    for name in names:
        try:
            check_object({name: data.get(name)}, max_bytes)
        except ma.ValidationError as error:
            raise ma.ValidationError(error.messages, name) from error


class JsonObject(fields.Dict):
    """Any JSON object within the limits of ``check_object``."""

    default_error_messages = {"required": "is required", "null": "must not be null"}  # noqa: RUF012 - marshmallow's

    def __init__(self, *, max_bytes: int = MAX_OBJECT_BYTES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._max_bytes = max_bytes

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        return check_object(value, self._max_bytes)


def each(value: object, check: Any, expected: str, max_items: int) -> list[Any]:
    """``check`` of every item of a list; the errors of all of them at once."""
    if not isinstance(value, list):
        raise wrong_type(expected, value)
    if len(value) > max_items:
        raise ma.ValidationError(f"must hold at most {max_items} items, not {len(value)}")
    return each_of(value, lambda _, item: check(item))


def metadata_field() -> JsonObject:
    """An object's ``metadata``."""
    about = f"Anything, as an object: nested at most {MAX_DEPTH} deep, at most {MAX_OBJECT_BYTES >> 10} KiB as JSON."
    return JsonObject(allow_none=True, metadata={"description": about, "additionalProperties": {}})


class QueryWhole(fields.Integer):
    """A whole number in a query, where everything is text."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        text = value.removeprefix("-") if isinstance(value, str) else ""
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            shown = repr(value[:40]) if isinstance(value, str) else kind(value)
            raise ma.ValidationError(f"must be a whole number, not {shown}")
        return int(value)


class QueryNumber(fields.Float):
    """A number in a query, where everything is text, as JSON writes it."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        if not isinstance(value, str) or not _NUMBER.fullmatch(value):
            shown = repr(value[:40]) if isinstance(value, str) else kind(value)
            raise ma.ValidationError(f"must be a number such as 0.05, not {shown}")
        return float(value)


class PageQuerySchema(Base):
    """Which part of a list is wanted; given as the arguments of ``janflask.services.paging.page``."""

    limit = QueryWhole(
        load_default=DEFAULT_PAGE,
        validate=between(1, MAX_PAGE),
        metadata={"description": "How many at most.", "example": 20},
    )
    order = Text(
        load_default="desc",
        validate=one_of(("asc", "desc")),
        metadata={"description": "By creation: `desc` newest first, `asc` oldest first."},
    )
    after = Text(
        load_default=None, metadata={"description": "The id of an item of the list: those that come after it."}
    )
    before = Text(
        load_default=None,
        metadata={
            "description": "The id of an item of the list: those that come before it; without `after` the nearest."
        },
    )


def _tool_resources(value: object) -> dict[str, Any]:
    checked = check_object(value)
    errors = {
        name: [f"must be an object, not {kind(item)}"] for name, item in checked.items() if type(item) is not dict
    }
    if errors:
        raise ma.ValidationError(errors)
    return checked


class ToolResources(fields.Dict):
    """OpenAI's ``tool_resources``: an object for each kind of tool."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        return _tool_resources(value)


def tool_resources_field() -> ToolResources:
    """An object's ``tool_resources``."""
    return ToolResources(
        allow_none=True,
        metadata={
            "description": "What the tools may use, by the kind of tool.",
            "additionalProperties": {"type": "object"},
            "example": {"code_interpreter": {"file_ids": []}},
        },
    )


class ResponseFormat(fields.Field[Any]):
    """``"auto"``, or an object with a ``type``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if value == "auto":
            return value
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise ma.ValidationError('must be "auto" or an object like {"type": "json_object"}')
        return check_object(value)


_RESPONSE_FORMAT = {
    "description": '`"auto"`, or `{"type": "text"}`, `{"type": "json_object"}`, `{"type": "json_schema", ...}`.',
    "anyOf": [
        {"type": "string", "enum": ["auto"]},
        {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
    ],
    "example": "auto",
}


def response_format_field() -> ResponseFormat:
    """What an answer must look like, of a run or an assistant."""
    return ResponseFormat(allow_none=True, metadata=_RESPONSE_FORMAT)
