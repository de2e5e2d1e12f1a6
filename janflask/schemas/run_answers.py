"""Runs and their steps as they are answered, for the OpenAPI document. They are built as plain objects."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.stored import PageSchema, always, time, told
from janflask.storage.records import RunStatus

_STATUSES = [str(status) for status in RunStatus]


def _moment(description: str) -> fields.Integer:
    return time(f"{description}, in seconds since the epoch; null until then.", nullable=True)


def _object(description: str, **about: Any) -> fields.Dict:
    return fields.Dict(required=True, metadata={"description": description, **about})


def _number(description: str) -> fields.Float:
    return fields.Float(required=True, metadata={"description": description, "nullable": True})


def _milliseconds(description: str) -> fields.Float:
    return fields.Float(required=True, metadata={"description": f"{description}, in milliseconds."})


class _OutcomeSchema(ma.Schema):
    """What became of a run or a step."""

    last_error = _object("`code` and `message` of what made it fail.", nullable=True)
    cancelled_at = _moment("When it was cancelled")
    failed_at = _moment("When it failed")
    completed_at = _moment("When it ended with an answer")
    metadata = _object("What a client stored with it.")
    usage = _object("The tokens it took; null until it has ended.", nullable=True)


class RunTimingsSchema(ma.Schema):
    """Where the time of a run went, all of its rounds together; of the last piece of an answer that broke off."""

    queue_ms = _milliseconds("Waiting for a place in the engine")
    prompt_ms = _milliseconds("Computing the prompt, without what was cached of it")
    prompt_per_second = fields.Float(required=True)
    predicted_ms = _milliseconds("Making the answer")
    predicted_per_second = fields.Float(required=True)
    time_to_first_token_ms = fields.Integer(
        required=True,
        metadata={
            "description": "From the run's making to its first word, thought or call, with all that it waited for.",
            "nullable": True,
        },
    )
    cached_tokens = fields.Integer(
        required=True, metadata={"description": "Of the prompt, those that were not computed again."}
    )
    context_tokens = fields.Integer(
        required=True,
        metadata={
            "description": "That the model has for prompt and answer; null if it does not say.",
            "nullable": True,
        },
    )


class RunObjectSchema(_OutcomeSchema):
    """A run: a thread that is made to answer."""

    id = told("Its id.")
    object = always("thread.run")
    created_at = time()
    thread_id = told("The thread that is answered.")
    assistant_id = told("Who answers.")
    status = told("How far it is.", enum=_STATUSES)
    required_action = _object(
        "Of a run in `requires_action`: the calls (`submit_tool_outputs.tool_calls`) whose outputs it waits for.",
        nullable=True,
    )
    expires_at = time("When it is given up; null once it has ended.", nullable=True)
    started_at = _moment("When it began")
    incomplete_details = _object("The `reason` why an answer is not whole.", nullable=True)
    model = told("The model's id.")
    instructions = told("What the model is told before the thread.")
    tools = fields.List(
        fields.Dict(), required=True, metadata={"description": "The functions that the model may call."}
    )
    temperature = _number("As it was asked for.")
    top_p = _number("As it was asked for.")
    max_prompt_tokens = fields.Integer(required=True, metadata={"nullable": True})
    max_completion_tokens = fields.Integer(required=True, metadata={"nullable": True})
    truncation_strategy = _object("What of a long thread the model is shown.")
    response_format = fields.Raw(required=True)
    form = _object(
        "What the answer must look like where another field than `response_format` said so: that field.", nullable=True
    )
    tool_choice = fields.Raw(required=True)
    parallel_tool_calls = fields.Boolean(required=True)
    timings = fields.Nested(
        RunTimingsSchema,
        required=True,
        allow_none=True,
        metadata={"description": "Null until a round has ended, and where nobody knows."},
    )
    left_out_message_ids = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "The messages that the model was not shown: the oldest if not all fit, and errors."},
    )


class RunListSchema(PageSchema):
    """A page of runs."""

    data = fields.List(fields.Nested(RunObjectSchema), required=True)


class StepObjectSchema(_OutcomeSchema):
    """A step of a run: the making of a message, or calls."""

    id = told("Its id.")
    object = always("thread.run.step")
    created_at = time()
    run_id = told("The run that it is a step of.")
    assistant_id = told("Who answers.")
    thread_id = told("The thread that is answered.")
    type = told("What it is.", enum=["message_creation", "tool_calls"])
    status = told("`in_progress`, `completed`, `failed`, `cancelled` or `expired`.")
    expired_at = _moment("When it was given up")
    step_details = _object("The `message_creation` with its `message_id`, or the `tool_calls` with their outputs.")


class StepListSchema(PageSchema):
    """A page of steps."""

    data = fields.List(fields.Nested(StepObjectSchema), required=True)
