"""Stored chats and their messages as they are answered, for the OpenAPI document. They are built as plain objects."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.answers import ChatCompletionSchema, MessageToolCallSchema, UsageSchema
from janflask.schemas.stored import DeletedSchema, PageSchema, always, told


def _asked(description: str) -> fields.Float:
    return fields.Float(required=True, metadata={"description": description, "nullable": True})


class StoredChatSchema(ChatCompletionSchema):
    """A stored chat with its answer."""

    usage = fields.Nested(
        UsageSchema,
        metadata={"nullable": True, "description": "Null where a crash kept it from being written down."},
    )
    temperature = _asked("As it was asked for.")
    top_p = _asked("As it was asked for.")
    presence_penalty = _asked("As it was asked for.")
    frequency_penalty = _asked("As it was asked for.")
    seed = fields.Integer(required=True, metadata={"description": "As it was asked for.", "nullable": True})
    tools = fields.List(
        fields.Dict(), required=True, metadata={"description": "What the model could call.", "nullable": True}
    )
    tool_choice = fields.Raw(required=True, metadata={"description": "As it was asked for.", "nullable": True})
    response_format = fields.Raw(required=True, metadata={"description": "As it was asked for.", "nullable": True})
    metadata = fields.Dict(required=True, metadata={"description": "What a client stored with it."})


class StoredChatListSchema(PageSchema):
    """A page of stored chats."""

    data = fields.List(fields.Nested(StoredChatSchema), required=True)


class StoredChatDeletedSchema(DeletedSchema):
    """A stored chat that is gone."""

    object = always("chat.completion.deleted")


class TextPartSchema(ma.Schema):
    """A text."""

    type = always("text")
    text = told("The text.")


class StoredMessageSchema(ma.Schema):
    """A message that came with the request."""

    id = told("Its id.")
    role = told("Who speaks.")
    content = told("What is said; null where an assistant only calls tools.", nullable=True)
    content_parts = fields.List(
        fields.Nested(TextPartSchema),
        required=True,
        metadata={"description": "Where it came as several texts: these.", "nullable": True},
    )
    refusal = told("What an assistant said in place of an answer.", nullable=True)
    name = told("As it came.", nullable=True)
    tool_calls = fields.List(
        fields.Nested(MessageToolCallSchema), metadata={"description": "Of an assistant that called tools."}
    )
    tool_call_id = fields.String(metadata={"description": "Of a tool's message: the call that it answers."})
    reasoning_content = fields.String(metadata={"description": "What an assistant thought before it answered."})


class StoredMessageListSchema(PageSchema):
    """A page of the messages of a stored chat."""

    data = fields.List(fields.Nested(StoredMessageSchema), required=True)
