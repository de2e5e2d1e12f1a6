"""The bodies of requests that make or change threads, and the query of their list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.schemas.fields import Text, between, wrong_type
from janflask.schemas.messages import NewMessageSchema, ReplacingMessageSchema
from janflask.schemas.objects import (
    MAX_PAGE,
    JsonObject,
    PageQuerySchema,
    QueryWhole,
    each,
    metadata_field,
    tool_resources_field,
)
from janflask.schemas.parameters import parameters_field
from janflask.schemas.sampling import Base
from janflask.storage.records import ThreadAssistant, ThreadDraft

MAX_NAME = 1024
MAX_SUMMARY = 64 << 10
MAX_INSTRUCTIONS = 256_000  # OpenAI's limit
MAX_ASSISTANTS = 100
MAX_MESSAGES = 10_000
MAX_QUERY = 1000

_ASSISTANT_FIELDS = ("assistant_id", "assistant_name", "instructions", "model")


def text_field(most: int, description: str, **about: Any) -> Text:
    """Text of at most so many characters."""
    return Text(
        allow_none=True,
        validate=validate.Length(max=most, error="must have at most {max} characters"),
        metadata={"description": description, **about},
    )


def _settings_field() -> JsonObject:
    return JsonObject(
        allow_none=True,
        metadata={
            "description": "How the model is started, over its own settings; the names of PUT /models/{id}/start. "
            "Unknown names are refused.",
            "example": {"ctx_len": 4096},
        },
    )


class ThreadModelSchema(Base):
    """The model that an assistant uses in a thread."""

    id = text_field(MAX_NAME, "The model's id.", example="smollm2-135m-instruct")
    settings = _settings_field()
    parameters = parameters_field()
    engine = text_field(MAX_NAME, "Which engine runs it; kept for Jan.")


def _model_field() -> fields.Nested:
    return fields.Nested(ThreadModelSchema, allow_none=True, error_messages={"type": "must be an object"})


class ThreadAssistantChangesSchema(Base):
    """What may change of an assistant in a thread; what is not given stays."""

    assistant_name = text_field(MAX_NAME, "What it is called.", example="Jan")
    instructions = text_field(MAX_INSTRUCTIONS, "What it is told before the conversation.")
    model = _model_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> Any:
        """The fields given."""
        return dict(data)


class NewThreadAssistantSchema(ThreadAssistantChangesSchema):
    """An assistant in a thread. It need not be one of this server's."""

    class Meta:
        """marshmallow's options."""

        unknown = ma.INCLUDE  # other programs' fields are stored with the thread

    assistant_id = Text(required=True, metadata={"description": "Its id.", "example": "jan"})

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> ThreadAssistant:
        """The record."""
        extra = {name: value for name, value in data.items() if name not in _ASSISTANT_FIELDS}
        known = {name: data[name] for name in _ASSISTANT_FIELDS if name in data}
        return ThreadAssistant(**known, extra=JsonObject().deserialize(extra))


class _Items(fields.Field[tuple[Any, ...]]):
    """A list of objects and, where ``ids`` is true, of ids that name one; given as a tuple."""

    def __init__(self, schema: type[ma.Schema], most: int, description: str, *, ids: bool) -> None:
        # ``janflask.api.plumbing.openapi`` makes the schemas of such items components by this name.
        form = {"$ref": f"#/components/schemas/{schema.__name__.removesuffix('Schema')}"}
        items = {"anyOf": [{"type": "string"}, form]} if ids else form
        about = {"description": description, "type": "array", "maxItems": most, "items": items}
        super().__init__(allow_none=True, metadata=about)
        self._schema = schema()
        self._most = most
        self._ids = ids

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Any, ...]:
        expected = "a list of ids and objects" if self._ids else "a list of objects"
        return tuple(each(value, self._item, expected, self._most))

    def _item(self, value: object) -> Any:
        if isinstance(value, str) and self._ids:
            return value
        if not isinstance(value, dict):
            raise wrong_type("an id or an object" if self._ids else "an object", value)
        return self._schema.load(value)


class ThreadChangesSchema(Base):
    """What may change of a thread; what is not given stays."""

    title = text_field(MAX_NAME, "What it is called.", example="A first talk")
    summary = text_field(MAX_SUMMARY, "What it is about.")
    assistants = _Items(
        NewThreadAssistantSchema,
        MAX_ASSISTANTS,
        "Who answers: ids of this server's assistants, or objects. A new thread has `jan` by default.",
        ids=True,
    )
    messages = _Items(
        ReplacingMessageSchema,
        MAX_MESSAGES,
        "Replaces the thread's messages. New ones are objects; those that stay are ids, or objects with their id.",
        ids=True,
    )
    metadata = metadata_field()
    tool_resources = tool_resources_field()
    model_id = text_field(MAX_NAME, "The model that answers here, over the assistant's; empty for none.")
    settings = _settings_field()
    parameters = parameters_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> ThreadDraft:
        """The draft."""
        draft = {name: data.pop(name) for name in ("id", "assistants", "messages") if name in data}
        if data.get("model_id") == "":
            data["model_id"] = None
        return ThreadDraft(**draft, fields=data)


class NewThreadSchema(ThreadChangesSchema):
    """A new thread."""

    id = Text(
        allow_none=True,
        metadata={"description": "Letters, digits, `.`, `_` and `-`, 128 at most. Made by the server by default."},
    )
    messages = _Items(NewMessageSchema, MAX_MESSAGES, "The thread's first messages, in order.", ids=False)


class ThreadListQuerySchema(PageQuerySchema):
    """Which threads are wanted. Without `limit` all of them."""

    limit = QueryWhole(
        load_default=None,
        validate=between(1, MAX_PAGE),
        metadata={"description": "How many at most; all by default.", "example": 20},
    )
    q = Text(
        load_default="",
        validate=validate.Length(max=MAX_QUERY, error="must have at most {max} characters"),
        metadata={"description": "Only threads whose title or messages have every one of these words, case apart."},
    )
    branches_of = Text(
        load_default=None, metadata={"description": "A thread's id: only that one, and those that are its branches."}
    )
    branches = fields.Boolean(
        load_default=True,
        metadata={
            "description": "With `false` a thread stands for its branches: they are left out, and `q` finds it by "
            "their words, too."
        },
    )


class ThreadBranchSchema(Base):
    """Where a branch leaves the thread."""

    before = Text(
        load_default=None,
        allow_none=True,
        metadata={"description": "A message's id: the branch has all before it. By default it has all messages."},
    )


# Bodies that stand inside of others' lists.
COMPONENTS = (NewMessageSchema, ReplacingMessageSchema, NewThreadAssistantSchema)
