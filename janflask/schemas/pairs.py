"""OpenAI's ``metadata`` of answers: sixteen pairs of short texts at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.fields import kind

MAX_PAIRS = 16
MAX_KEY, MAX_VALUE = 64, 512  # characters


def check_pairs(value: object, field: str | None = None) -> dict[str, str]:
    """``value``. Raises ValidationError, of ``field`` where one is named, unless it is such an object."""
    if not isinstance(value, dict):
        raise _wrong(f"must be an object, not {kind(value)}", field)
    if len(value) > MAX_PAIRS:
        raise _wrong(f"must hold at most {MAX_PAIRS} pairs, not {len(value)}", field)
    for key, text in value.items():
        if len(key) > MAX_KEY:
            raise _wrong(f"must have keys of at most {MAX_KEY} characters, not {len(key)}", field)
        if not isinstance(text, str):
            raise _wrong({key: [f"must be a string, not {kind(text)}"]}, field)
        if len(text) > MAX_VALUE:
            raise _wrong({key: [f"must have at most {MAX_VALUE} characters, not {len(text)}"]}, field)
    return value


def _wrong(message: Any, field: str | None) -> ma.ValidationError:
    return ma.ValidationError(message) if field is None else ma.ValidationError(message, field)


class Pairs(fields.Dict):
    """Such an object."""

    default_error_messages = {"required": "is required", "null": "must not be null"}  # noqa: RUF012 - marshmallow's

    def __init__(self, **kwargs: Any) -> None:
        about = f"Up to {MAX_PAIRS} pairs of a key ({MAX_KEY} characters) and a text ({MAX_VALUE})."
        shape = {"maxProperties": MAX_PAIRS, "additionalProperties": {"type": "string", "maxLength": MAX_VALUE}}
        super().__init__(metadata={"description": about, **shape, "example": {"topic": "demo"}}, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        return check_pairs(value)
