"""The bodies of requests that make or change assistants, and the assistant as it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.models.known_fields import ALIASES, CONSTRAINTS, CONVERSATION, GENERATION, THINKING
from janflask.models.parameters import NAMES
from janflask.schemas.fields import Number, Text, between, kind, wrong_type
from janflask.schemas.objects import (
    JsonObject,
    check_object,
    each,
    metadata_field,
    response_format_field,
    tool_resources_field,
)
from janflask.schemas.sampling import Base, Reason, refusals, unless
from janflask.schemas.stored import DeletedSchema, PageSchema, always, time, told
from janflask.schemas.thinking import effort_field
from janflask.storage.records import Assistant

# OpenAI's limits, where it has one.
MAX_NAME = 256
MAX_DESCRIPTION = 512
MAX_INSTRUCTIONS = 256_000
MAX_TOOLS = 128
MAX_FILES = 100
MAX_MODELS = 100
MAX_AVATAR = 65_536  # it may be a small picture as a data URL

_DEFAULTS = Assistant(id="", created_ms=0)


def _text(most: int, description: str, *, least: int = 0, **about: Any) -> Text:
    error = f"must have {least} to {most} characters" if least else f"must have at most {most} characters"
    return Text(
        allow_none=True,
        validate=validate.Length(min=least or None, max=most, error=error),
        metadata={"description": description, **about},
    )


class _Objects(fields.Field[tuple[Any, ...]]):
    """A list of objects that have a string by the name of ``key``; given as a tuple."""

    def __init__(self, key: str, most: int, description: str, **about: Any) -> None:
        item = {"type": "object", "required": [key], "properties": {key: {"type": "string"}}}
        metadata = {"type": "array", "items": item, "maxItems": most, "description": description, **about}
        super().__init__(allow_none=True, metadata=metadata)
        self._key = key
        self._most = most

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Any, ...]:
        return tuple(each(value, self._item, "a list of objects", self._most))

    def _item(self, value: object) -> dict[str, Any]:
        item = check_object(value)
        if not isinstance(item.get(self._key), str):
            raise ma.ValidationError({self._key: [f"must be a string, not {kind(item.get(self._key))}"]})
        return item


class _FileIds(fields.Field[tuple[str, ...]]):
    """A list of ids, each once; given as a tuple."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each(value, self._item, "a list of ids", MAX_FILES)))

    def _item(self, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type("a string", value)
        return value


_KEPT = ("temperature", "top_p", "reasoning_effort")
_NOT_KEPT = (
    "is not kept with an assistant, which has `temperature` and `top_p`: set it for the run, or in `parameters` of the "
    "thread or the model"
)


class ModifyAssistantSchema(Base):
    """What changes of an assistant. What is not given stays; null brings the default back."""

    REFUSED: Mapping[str, Reason] = {
        **{name: unless((), _NOT_KEPT) for name in (*NAMES, *ALIASES, "parameters") if name not in _KEPT},
        **refusals(GENERATION, CONVERSATION, THINKING, CONSTRAINTS),
    }

    name = _text(MAX_NAME, "What it is called.", example="Math tutor")
    description = _text(MAX_DESCRIPTION, "What it is for.")
    avatar = _text(MAX_AVATAR, "Its picture: a URL, a data URL or an emoji.")
    model = _text(MAX_NAME, "The id of the model that answers; `*` is any.", least=1, example="*")
    models = _Objects("model_id", MAX_MODELS, "The models that Jan offers with it.")
    instructions = _text(MAX_INSTRUCTIONS, "What the model is told before the conversation.")
    tools = _Objects("type", MAX_TOOLS, "What it may use.", example=[])
    tool_resources = tool_resources_field()
    file_ids = _FileIds(
        allow_none=True,
        metadata={
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_FILES,
            "description": "Uploaded files that it uses; they cannot be deleted meanwhile.",
            "example": [],
        },
    )
    events = JsonObject(
        allow_none=True, metadata={"description": "Jan's events, `in` and `out`.", "additionalProperties": {}}
    )
    metadata = metadata_field()
    temperature = Number(
        allow_none=True, validate=between(0, 2), metadata={"description": "The sampling temperature.", "example": 0.7}
    )
    top_p = Number(allow_none=True, validate=between(0, 1), metadata={"description": "Nucleus sampling."})
    reasoning_effort = effort_field()  # kept, but as with OpenAI not part of the answer
    response_format = response_format_field()

    @ma.pre_load
    def drop_nulls(self, data: Any, **kwargs: Any) -> Any:
        """Nothing: here null says something else than a field that is not given."""
        return data

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields of ``Assistant`` that are given."""
        return {name: getattr(_DEFAULTS, name) if value is None else value for name, value in data.items()}


class CreateAssistantSchema(ModifyAssistantSchema):
    """A new assistant. No field is required."""

    id = _text(128, "Its id, if you want to choose one.", least=1, pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


def _any_object(description: str, **about: Any) -> fields.Dict:
    return fields.Dict(required=True, metadata={"description": description, "additionalProperties": {}, **about})


class AssistantSchema(ma.Schema):
    """An assistant: who answers in a thread."""

    id = told("Its id.")
    object = always("assistant")
    version = told("The version of its description.")
    created_at = time()
    name = told("What it is called.")
    description = told("What it is for.")
    avatar = told("Its picture.")
    model = told("The id of the model that answers; `*` is any.")
    models = fields.List(fields.Dict(), required=True, metadata={"description": "The models that Jan offers with it."})
    instructions = told("What the model is told before the conversation.")
    tools = fields.List(fields.Dict(), required=True, metadata={"description": "What it may use."})
    tool_resources = _any_object("What its tools work with.", nullable=True)
    file_ids = fields.List(fields.String(), required=True, metadata={"description": "Uploaded files that it uses."})
    events = _any_object("Jan's events.")
    metadata = _any_object("Whatever was stored with it.")
    temperature = fields.Float(
        required=True, metadata={"description": "The sampling temperature; null: the model's.", "nullable": True}
    )
    top_p = fields.Float(
        required=True, metadata={"description": "Nucleus sampling; null: the model's.", "nullable": True}
    )
    response_format = fields.Raw(
        required=True, metadata={"description": '`"auto"` or an object; null: not set.', "nullable": True}
    )


class AssistantListSchema(PageSchema):
    """A page of assistants."""

    data = fields.List(fields.Nested(AssistantSchema), required=True)


class AssistantDeletedSchema(DeletedSchema):
    """An assistant that is gone."""

    object = always("assistant.deleted")
