"""What Anthropic's clients are answered with, for the OpenAPI document."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import fields, validate


def _text(description: str, **about: object) -> fields.String:
    return fields.String(metadata={"description": description, **about})


def _whole(description: str) -> fields.Integer:
    return fields.Integer(metadata={"description": description})


class OutputDetailsSchema(ma.Schema):
    """What the answer's tokens were."""

    thinking_tokens = _whole("Tokens of what was thought, with the markers around it.")


class AnthropicUsageSchema(ma.Schema):
    """Counted tokens: the prompt's are the sum of the first three."""

    input_tokens = _whole("Prompt tokens that were computed.")
    cache_creation_input_tokens = _whole("0: what is computed is kept without being asked to.")
    cache_read_input_tokens = _whole("Prompt tokens taken from the prefix cache.")
    output_tokens = _whole("Tokens of the answer, thoughts included.")
    output_tokens_details = fields.Nested(OutputDetailsSchema)


class StopDetailsSchema(ma.Schema):
    """Why a finished answer is not what was asked for."""

    type = _text("refusal")
    category = _text("null", nullable=True)
    explanation = _text("What is wrong with it.")


class ContextSchema(ma.Schema):
    """What was changed of the conversation: nothing."""

    applied_edits = fields.List(fields.Dict())


class MessageAnswerSchema(ma.Schema):
    """A message of the assistant."""

    id = _text("The message's id.")
    type = _text("message")
    role = _text("assistant")
    model = _text("The model's id.")
    content = fields.List(
        fields.Dict(),
        metadata={"description": "Blocks: `thinking` with its `signature`, `text`, and a `tool_use` for each call."},
    )
    stop_reason = fields.String(
        validate=validate.OneOf(
            ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"]
        ),
        metadata={"description": "Why it ended. `refusal`: it does not meet the schema that was asked for."},
    )
    stop_sequence = _text("Which of `stop_sequences` ended it.", nullable=True)
    stop_details = fields.Nested(StopDetailsSchema, allow_none=True)
    container = _text("null", nullable=True)
    diagnostics = fields.Dict(
        allow_none=True,
        metadata={"description": "Where the request has it: `cache_miss_reason`. null: the prompt goes on from there."},
    )
    context_management = fields.Nested(ContextSchema, metadata={"description": "Where the request has one."})
    usage = fields.Nested(AnthropicUsageSchema)


class TokensCountSchema(ma.Schema):
    """How long a prompt is."""

    input_tokens = _whole("Tokens of the prompt: system, tools, messages and the chat template's own.")


class AnthropicDetailsSchema(ma.Schema):
    """For programs."""

    error_code = _text("A stable word.", nullable=True)
    param = _text("The request's field that it is about.", nullable=True)


class AnthropicErrorDetailSchema(ma.Schema):
    """What went wrong."""

    type = _text("The family of the error.", example="invalid_request_error")
    message = _text("What was wrong and what would be right.")
    details = fields.Nested(AnthropicDetailsSchema)


class AnthropicErrorSchema(ma.Schema):
    """The body of an error of these routes."""

    type = _text("error")
    error = fields.Nested(AnthropicErrorDetailSchema)
    request_id = _text("As in the header `request-id`.")
