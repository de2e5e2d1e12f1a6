"""Responses as they are answered, for the OpenAPI document. They are built as plain objects."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.stored import DeletedSchema, PageSchema, always, time, told

STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")


def _object(description: str = "", *, nullable: bool = False) -> fields.Dict:
    return fields.Dict(required=True, metadata={"description": description, "nullable": nullable})


def _text(description: str = "As it was asked for.") -> fields.String:
    return fields.String(required=True, metadata={"description": description, "nullable": True})


def _whole(description: str = "As it was asked for.") -> fields.Integer:
    return fields.Integer(required=True, metadata={"description": description, "nullable": True})


def _number() -> fields.Float:
    return fields.Float(required=True, metadata={"description": "As it was asked for.", "nullable": True})


def _flag(description: str = "As it was asked for.") -> fields.Boolean:
    return fields.Boolean(required=True, metadata={"description": description})


def _objects(description: str) -> fields.List[Any]:
    return fields.List(fields.Dict(), required=True, metadata={"description": description})


def _names(description: str) -> fields.List[str]:
    return fields.List(fields.String(), required=True, metadata={"description": description})


class ResponseObjectSchema(ma.Schema):
    """An answer, and what was asked for."""

    id = told("Its id.")
    object = always("response")
    created_at = time()
    status = told("How far it is.", enum=list(STATUSES))
    background = _flag()
    completed_at = time("When it was completed; null until then.", nullable=True)
    conversation = _object("The conversation that was named for it.", nullable=True)
    error = _object("`code` and `message` of what made it fail.", nullable=True)
    incomplete_details = _object("The `reason` why it is not whole.", nullable=True)
    instructions = _text("What the model was told first.")
    max_output_tokens = _whole()
    max_tool_calls = _whole()
    metadata = _object("What a client stored with it.")
    model = told("The model's id.")
    output = _objects("What came of it: `reasoning`, `message` and `function_call` items, in this order.")
    parallel_tool_calls = _flag()
    previous_response_id = _text("The response that it follows.")
    prompt_cache_key = _text()
    prompt_cache_options = _object("As it was asked for.", nullable=True)
    prompt_cache_diagnostics = _object("Why the prompt was not found computed, if that was asked for.", nullable=True)
    prompt_cache_retention = _text()
    reasoning = _object("`effort` and `summary` as they were asked for.")
    safety_identifier = _text()
    service_tier = told("Always `default`.")
    store = _flag()
    temperature = _number()
    text = _object("What its words are like: `format` and `verbosity`.")
    tool_choice: Any = fields.Raw(required=True)
    tools = _objects("What the model may call.")
    top_logprobs = _whole()
    top_p = _number()
    truncation = told("Whether the oldest turns may be left out: `auto` or `disabled`.")
    usage = _object("The tokens it took; null until it has ended.", nullable=True)
    user = _text()
    thread_id = _text("The thread that it is stored in; null of one that is not stored.")
    left_out_tools = _names("The types of the tools that the model was not offered: there are none such here.")
    left_out_message_ids = _names("With `truncation` `auto`: the messages that the model was not shown.")


class CompactionObjectSchema(ma.Schema):
    """A conversation that was summed up."""

    id = told("An id; nothing is stored under it.")
    object = always("response.compaction")
    created_at = time()
    output = _objects("What the user said, and one `compaction` item, which stands for everything before it.")
    usage = _object("The tokens it took.")


class ResponseDeletedSchema(DeletedSchema):
    """A response that is gone."""

    object = always("response")


class InputItemListSchema(PageSchema):
    """A page of items."""

    data = _objects("The items.")


class ResponseTokensSchema(ma.Schema):
    """How long a prompt is."""

    object = always("response.input_tokens")
    input_tokens = fields.Integer(required=True, metadata={"description": "Tokens of the whole prompt."})
    estimated = fields.Boolean(required=True, metadata={"description": "Whether nobody could count them exactly."})
