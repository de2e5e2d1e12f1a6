"""What the API answers with, for the OpenAPI document. They are built as plain objects; a test compares."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.types import ModelStatus


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


class UsageSchema(ma.Schema):
    """Counted tokens."""

    prompt_tokens = _whole("Tokens of the prompt.")
    completion_tokens = _whole("Tokens of all choices.")
    total_tokens = _whole("Their sum.")
    prompt_tokens_details = fields.Nested(PromptTokensDetailsSchema)


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

    content = fields.List(fields.Nested(TokenLogprobSchema))
    refusal = fields.List(fields.Nested(TokenLogprobSchema), metadata={"nullable": True})


class AssistantMessageSchema(ma.Schema):
    """What the assistant says."""

    role = fields.String(validate=validate.OneOf(["assistant"]))
    content = _text("The answer.")
    refusal = _text("Always null.", nullable=True)


def _finish_reason() -> fields.String:
    return fields.String(
        validate=validate.OneOf(["stop", "length"]),
        metadata={"description": "`stop`: the model ended or a stop string was met. `length`: no more was allowed."},
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

    tokens = fields.List(fields.String())
    token_logprobs = fields.List(fields.Float())
    top_logprobs = fields.List(fields.Dict(keys=fields.String(), values=fields.Float()))
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


class KnobsSchema(ma.Schema):
    """The settings that decide speed, as the engine runs with them."""

    flash_attn = fields.Boolean()
    kv_unified = fields.Boolean()
    slice_size = _whole("Prompt tokens of a step that also generates.")
    cpu_threads = fields.Integer()
    source = _text("`measured` at this start, `remembered` from an earlier one, or `pinned` by settings.")
    measurements = fields.Dict(
        keys=fields.String(), values=fields.Float(), metadata={"description": "What decided, in milliseconds."}
    )


class RuntimeSchema(ma.Schema):
    """How a running model runs."""

    ctx_len = _whole("Tokens of one conversation.")
    n_parallel = _whole("Sequences generated at once.")
    kv_cells = _whole("Tokens the KV cache holds over all sequences.")
    prefix_sharing = fields.Boolean(metadata={"description": "Computed prompt prefixes can be used again."})
    use_extra_bufts = fields.Boolean(metadata={"description": "llama.cpp's repacked CPU weights are in use."})
    knobs = fields.Nested(KnobsSchema)
    load_seconds = fields.Float()
    pid = _whole("The engine's process.", nullable=True)
    started_at = _whole("Seconds since the epoch.", nullable=True)
    restarts = _whole("Restarts after crashes since it was last started on request.")
    llama_version = fields.String()


class StatsSchema(ma.Schema):
    """A running model's load."""

    slots = _whole("Sequences that can be generated at once.")
    busy = _whole("Sequences being generated.")
    waiting = _whole("Requests in the queue.")
    kv_cells = _whole("Tokens the KV cache holds.")
    kv_used = _whole("Tokens in it.")
    requests = _whole("Requests since the start.")
    prompt_tokens = _whole("Prompt tokens computed since the start.")
    cached_tokens = _whole("Prompt tokens taken from the prefix cache since the start.")
    generated_tokens = _whole("Tokens generated since the start.")
    preempted = _whole("Sequences put back because the KV cache ran short, since the start.")
    cancelled = _whole("Sequences cancelled since the start.")
    steps = _whole("Decode steps since the start.")


class ModelObjectSchema(ma.Schema):
    """A model on this server."""

    id = fields.String()
    object = _text("Always `model`.")
    type = _text("Always `model`.")
    name = fields.String()
    version = fields.String()
    description = fields.String()
    created = _whole("Seconds since the epoch.")
    owned_by = fields.String()
    source_url = _text("Where it came from.", nullable=True)
    format = _text("Always `gguf`.")
    state = _text(
        "In the list null (not downloaded, or failed), downloading, ready, starting or stopping; of one model "
        "not_downloaded, downloading, downloaded, starting, running, stopping or stopped.",
        nullable=True,
    )
    status = fields.String(
        validate=validate.OneOf([str(status) for status in ModelStatus]),
        metadata={"description": "The whole state machine, in the list and of one model."},
    )
    error = _text("Why it failed or can't be used.", nullable=True)
    notes = fields.List(
        fields.String(), metadata={"description": "What its user should know of how it runs, or of how it failed."}
    )
    settings = fields.Dict(metadata={"description": "How it is started; model.json's."})
    parameters = fields.Dict(metadata={"description": "Defaults of requests; model.json's."})
    metadata = fields.Dict(metadata={"description": "model.json's, and what the running model says of itself."})
    assets = fields.List(fields.Dict())
    engine = fields.String()
    runtime = fields.Nested(
        RuntimeSchema, metadata={"nullable": True, "description": "Only of one model; null unless it runs."}
    )
    stats = fields.Nested(
        StatsSchema, metadata={"nullable": True, "description": "Only of one model; null unless it runs."}
    )


class ModelListSchema(ma.Schema):
    """All models."""

    object = _text("Always `list`.")
    data = fields.List(fields.Nested(ModelObjectSchema))


class ModelStateSchema(ma.Schema):
    """The outcome of a start or stop."""

    id = fields.String()
    object = _text("Always `model`.")
    state = fields.String(validate=validate.OneOf(["running", "stopped"]))


class HealthSchema(ma.Schema):
    """The server's health."""

    status = _text("Always `ok`.")
    version = fields.String()
    models_running = fields.Integer()
