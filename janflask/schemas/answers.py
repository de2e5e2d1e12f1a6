"""What the API answers with, for the OpenAPI document. They are built as plain objects; a test compares."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate


def _text(description: str, **about: Any) -> fields.String:
    return fields.String(metadata={"description": description, **about})


def _whole(description: str, **about: Any) -> fields.Integer:
    return fields.Integer(metadata={"description": description, **about})


def _number(description: str) -> fields.Float:
    return fields.Float(metadata={"description": description})


class ErrorDetailSchema(ma.Schema):
    """What went wrong."""

    message = _text("What was wrong and what would be right.")
    type = _text("The family of the error.", example="invalid_request_error")
    param = _text("The request's field it is about.", nullable=True, example="messages.0.content")
    code = _text("A stable word for programs.", nullable=True, example="invalid_value")


class ErrorSchema(ma.Schema):
    """Every error's body."""

    error = fields.Nested(ErrorDetailSchema)


class PromptTokensDetailsSchema(ma.Schema):
    """Where the prompt's tokens came from."""

    cached_tokens = _whole("Prompt tokens taken from the prefix cache.")


class CompletionTokensDetailsSchema(ma.Schema):
    """What the completion's tokens were."""

    reasoning_tokens = _whole("Tokens of what was thought before the answers, with the markers around it.")
    accepted_prediction_tokens = _whole(
        "Tokens that were guessed ahead, from the prompt or a prediction, and came true."
    )
    rejected_prediction_tokens = _whole(
        "Tokens that were guessed ahead and are in no answer. They are not counted above, but by OpenAI's own servers."
    )


class UsageSchema(ma.Schema):
    """Counted tokens."""

    prompt_tokens = _whole("Tokens of the prompt.")
    completion_tokens = _whole("Tokens of all choices.")
    total_tokens = _whole("Their sum.")
    prompt_tokens_details = fields.Nested(PromptTokensDetailsSchema)
    completion_tokens_details = fields.Nested(CompletionTokensDetailsSchema)


class TimingsSchema(ma.Schema):
    """Where the time went."""

    queue_ms = _number("Milliseconds in the queue.")
    cache_n = _whole("Prompt tokens taken from the prefix cache.")
    prompt_n = _whole("Prompt tokens computed.")
    prompt_ms = _number("Milliseconds for them.")
    prompt_per_second = _number("Prompt tokens a second.")
    predicted_n = _whole("Tokens generated.")
    predicted_ms = _number("Milliseconds for them.")
    predicted_per_second = _number("Generated tokens a second.")


class TopLogprobSchema(ma.Schema):
    """A candidate at one place."""

    token = _text("Its text.")
    logprob = _number("The natural logarithm of its probability before sampling; -9999 stands for none at all.")
    bytes = fields.List(fields.Integer(), metadata={"description": "Its bytes, a half character's too."})


class TokenLogprobSchema(TopLogprobSchema):
    """The chosen token at one place."""

    top_logprobs = fields.List(fields.Nested(TopLogprobSchema))


class ChatLogprobsSchema(ma.Schema):
    """The log-probabilities of one choice."""

    content = fields.List(
        fields.Nested(TokenLogprobSchema),
        metadata={"description": "Of every token that was generated, those of the reasoning and its markers too."},
    )
    refusal = fields.List(fields.Nested(TokenLogprobSchema), metadata={"nullable": True})


class FunctionCallSchema(ma.Schema):
    """What to call, and with what."""

    name = _text("The function's name.", example="get_weather")
    arguments = _text("JSON, as the model wrote it.", example='{"place": "Paris"}')


class MessageToolCallSchema(ma.Schema):
    """One call."""

    id = _text("The tool's result names it as its `tool_call_id`.")
    type = fields.String(validate=validate.OneOf(["function"]))
    function = fields.Nested(FunctionCallSchema)


class AssistantMessageSchema(ma.Schema):
    """What the assistant says."""

    role = fields.String(validate=validate.OneOf(["assistant"]))
    content = _text("The answer; null where it only calls tools.", nullable=True)
    refusal = _text("Why a finished answer is not what `response_format` asked for; null if it is.", nullable=True)
    reasoning_content = _text("What the model thought before it answered; left out if it did not.")
    tool_calls = fields.List(
        fields.Nested(MessageToolCallSchema), metadata={"description": "What is to be called; left out if nothing is."}
    )
    function_call = fields.Nested(
        FunctionCallSchema, metadata={"description": "In place of `tool_calls`, for a request with `functions`."}
    )


def _finish_reason() -> fields.String:
    return fields.String(
        validate=validate.OneOf(["stop", "length", "tool_calls", "function_call"]),
        metadata={
            "description": "`stop`: the model ended or a stop string was met. `length`: no more was allowed. "
            "`tool_calls`, `function_call`: it waits for their results. "
            "A character that was not finished is left out."
        },
    )


class ChatChoiceSchema(ma.Schema):
    """One answer."""

    index = _whole("Its place among the choices.")
    message = fields.Nested(AssistantMessageSchema)
    logprobs = fields.Nested(ChatLogprobsSchema, metadata={"nullable": True})
    finish_reason = _finish_reason()


class AnswerSchema(ma.Schema):
    """What every answer carries."""

    id = _text("Its own id.")
    created = _whole("Seconds since the epoch.")
    model = _text("The model that answered.")
    system_fingerprint = _text("The server's version.")
    usage = fields.Nested(UsageSchema)
    timings = fields.Nested(TimingsSchema)


class ChatCompletionSchema(AnswerSchema):
    """A whole answer to a chat."""

    object = _text("Always `chat.completion`; a stream's chunks are `chat.completion.chunk`.")
    choices = fields.List(fields.Nested(ChatChoiceSchema))


class LegacyLogprobsSchema(ma.Schema):
    """The log-probabilities of one choice, as lists of the same length."""

    tokens = fields.List(
        fields.String(),
        metadata={"description": "Their text; the bytes of a part of a character, as in `bytes:\\xe2`."},
    )
    token_logprobs = fields.List(
        fields.Float(allow_none=True),
        metadata={"description": "As in a chat's answer; null for an echoed prompt's first token, as the next list."},
    )
    top_logprobs = fields.List(
        fields.Dict(keys=fields.String(), values=fields.Float(), allow_none=True),
        metadata={"description": "The likeliest tokens at each place. Two with the same text differ by their bytes."},
    )
    text_offset = fields.List(
        fields.Integer(), metadata={"description": "Each token's place in the text, in characters."}
    )


class CompletionChoiceSchema(ma.Schema):
    """One continuation."""

    index = _whole("Its place: the choices of the first prompt, then those of the second, and so on.")
    text = _text("The continuation; with `echo` the prompt stands before it.")
    logprobs = fields.Nested(LegacyLogprobsSchema, metadata={"nullable": True})
    finish_reason = _finish_reason()


class CompletionSchema(AnswerSchema):
    """A whole answer to a completion request."""

    object = _text("Always `text_completion`.")
    choices = fields.List(fields.Nested(CompletionChoiceSchema))


class LivenessSchema(ma.Schema):
    """This worker answers."""

    status = _text("Always `ok`.")


class MissingSchema(ma.Schema):
    """What has to be up and is not."""

    kind = fields.String(validate=validate.OneOf(["process", "model"]))
    name = _text("The model's id, or `supervisor` or `runner`.")
    reason = _text("How it is, and why where that is known.")


class ReadinessSchema(ma.Schema):
    """Whether the server can take requests."""

    status = fields.String(validate=validate.OneOf(["ready", "not_ready"]))
    draining = fields.Boolean(metadata={"description": "The server was told to end."})
    missing = fields.List(fields.Nested(MissingSchema))


class HealthSchema(ma.Schema):
    """The server's health."""

    status = _text("Always `ok`.")
    version = fields.String()
    models_running = fields.Integer()
