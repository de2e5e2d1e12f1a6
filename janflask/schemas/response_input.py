"""The ``input`` of a response: a string, or items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import fields

from janflask.schemas.fields import wrong_type
from janflask.schemas.items import ITEM_SCHEMA, item_drafts, places
from janflask.schemas.response_tools import flat_name
from janflask.storage.items import ItemDraft

FIELD = "input"


@dataclass(frozen=True, slots=True)
class ResponseInput:
    """``places`` are where in the request each of the drafts came from."""

    drafts: tuple[ItemDraft, ...] = ()
    places: tuple[str, ...] = ()


class ResponseInputField(fields.Field[ResponseInput]):
    """A user's words, or a list of items."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> ResponseInput:
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if not isinstance(value, list):
            raise wrong_type("a string or a list of items", value)
        drafts = item_drafts([as_offered(item) for item in value])
        return ResponseInput(drafts, places(FIELD, len(drafts)))


def as_offered(item: Any) -> Any:
    """A call of a function in a namespace by the name that the model was offered; every other item as it is."""
    name, namespace = (item.get("name"), item.get("namespace")) if isinstance(item, Mapping) else (None, None)
    if isinstance(name, str) and isinstance(namespace, str):
        return {**item, "name": flat_name(name, namespace)}
    return item


def response_input_field() -> ResponseInputField:
    """``input``."""
    return ResponseInputField(
        allow_none=True,
        metadata={
            "description": "What is new: a user's words, or items (`message`, `function_call`, `function_call_output`, "
            "`reasoning`, `item_reference`), oldest first.",
            "oneOf": [{"type": "string"}, {"type": "array", "items": ITEM_SCHEMA}],
            "nullable": True,
            "example": "Why is the sky blue?",
        },
    )
