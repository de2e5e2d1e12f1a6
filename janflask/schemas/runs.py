"""The bodies of requests that make or change runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.leftovers import holds_anything
from janflask.models.known_fields import CONSTRAINTS, CONVERSATION
from janflask.models.parameters import is_parameter
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.fields import Text, Whole, between, optional_flag
from janflask.schemas.messages import NewMessageSchema
from janflask.schemas.objects import JsonObject, metadata_field
from janflask.schemas.sampling import MAX_TOKENS, Base, InferenceSchema, Reason, refusals, unless
from janflask.schemas.thinking import ThinkingFields
from janflask.schemas.threads import MAX_INSTRUCTIONS, NewThreadSchema, text_field
from janflask.storage.records import MessageDraft, RunDraft

MAX_ADDED = 100

NO_TOOLS = "needs `tools`, and a run has none (they are not supported yet): leave it out, or set it to none"
_DRAFT_FIELDS = frozenset(RunDraft.__dataclass_fields__)
_NOT_PARAMETERS = frozenset({"max_tokens", "temperature", "top_p"})  # those that a run keeps by themselves
_TEXT_ONLY = 'must be "auto" or {"type": "text"}, nothing else is supported yet'
_TEXT = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "enum": ["text"]}}}


def _no_resources(value: Any) -> str | None:
    return "are for tools, which are not supported yet: leave them out" if holds_anything(value) else None


class TruncationSchema(Base):
    """What of a long thread the model is shown."""

    type = Text(
        required=True,
        validate=validate.OneOf(("auto", "last_messages"), error="must be one of {choices}, not {input!r}"),
        metadata={
            "description": "`auto`: what fits, the oldest turns are left out first. `last_messages`: so many at most."
        },
    )
    last_messages = Whole(
        allow_none=True, validate=between(1, 10_000), metadata={"description": "With `last_messages`: how many."}
    )

    @ma.validates_schema
    def check_number(self, data: dict[str, Any], **kwargs: Any) -> None:
        """The number belongs to its type."""
        if data["type"] == "last_messages" and "last_messages" not in data:
            raise ma.ValidationError("is required with type last_messages", "last_messages")


class NewRunSchema(ThinkingFields, InferenceSchema):
    """How a thread is to be answered. What is not given is the thread's, its assistant's or its model's to say."""

    REFUSED: Mapping[str, Reason] = {
        **ChatRequestSchema.REFUSED,
        **refusals(CONVERSATION),
        **refusals(CONSTRAINTS),
        "add_generation_prompt": unless((True,), "must be true: a run gives a new message"),
        "continue_final_message": unless((False,), "is not supported in a run, which gives a new message"),
        "logprobs": unless((False, 0), "is not supported: a run tells no log-probabilities"),
        "top_logprobs": unless((), "is not supported: a run tells no log-probabilities"),
        "n": unless((1,), "must be 1: a run makes one answer"),
        "tools": unless(([],), "are not supported yet: leave them out"),
        "functions": unless(([],), "are not supported yet: leave them out"),
        "function_call": unless(("none", "auto"), "needs `functions`, which are not supported yet: leave it out"),
        "tool_choice": unless(("none", "auto"), NO_TOOLS),  # behind tools: those are what is missing
        "response_format": unless(("auto", {"type": "text"}), _TEXT_ONLY),
        "tool_resources": _no_resources,
    }

    model = Text(allow_none=True, metadata={"description": "The model's id.", "example": "smollm2-135m-instruct"})
    assistant_id = Text(
        allow_none=True,
        metadata={"description": "Who answers; the thread's first assistant if none is named.", "example": "jan"},
    )
    instructions = text_field(MAX_INSTRUCTIONS, "What the model is told first, in place of the assistant's.")
    additional_instructions = text_field(MAX_INSTRUCTIONS, "What it is told behind that.")
    additional_messages = fields.List(
        fields.Nested(NewMessageSchema, error_messages={"type": "must be an object with role and content"}),
        allow_none=True,
        validate=validate.Length(max=MAX_ADDED, error="must hold at most {max} messages"),
        error_messages={"invalid": "must be a list of messages"},
        metadata={"description": "Messages that are added to the thread before it is answered."},
    )
    max_prompt_tokens = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "The most tokens that the model is shown; older messages are left out."},
    )
    max_completion_tokens = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "The most tokens to generate; then the run is `incomplete`.", "example": 256},
    )
    truncation_strategy = fields.Nested(
        TruncationSchema, allow_none=True, error_messages={"type": "must be an object with a type"}
    )
    chat_template_kwargs = JsonObject(
        allow_none=True,
        metadata={"description": "Further variables for the chat template, e.g. `enable_thinking`."},
    )
    tools = fields.Raw(
        allow_none=True,
        metadata={
            "description": "Only an empty list yet: the assistant answers without its tools.",
            "type": "array",
            "items": {},
            "maxItems": 0,
        },
    )
    tool_choice = fields.Raw(
        allow_none=True,
        metadata={
            "description": "`none`: without the assistant's tools and the files attached, which only tools would read. "
            "Else what a tool would be needed for is refused.",
            "type": "string",
            "enum": ["none", "auto"],
        },
    )
    response_format = fields.Raw(
        allow_none=True,
        metadata={
            "description": "Only text yet, whatever the assistant wants.",
            "oneOf": [{"type": "string", "enum": ["auto"]}, {**_TEXT, "additionalProperties": False}],
        },
    )
    parallel_tool_calls = optional_flag("Kept for OpenAI's clients.", default=True)
    cancel_on_disconnect = optional_flag(
        "With `stream`: a client that leaves cancels the run, which otherwise goes on.", default=False
    )
    metadata = metadata_field()

    @ma.validates_schema
    def check_cancel(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only a stream can be left."""
        if data.get("cancel_on_disconnect") and not data.get("stream"):
            raise ma.ValidationError("is only allowed when `stream` is true", "cancel_on_disconnect")

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> RunDraft:
        """The draft."""
        added: list[MessageDraft] = data.pop("additional_messages", [])
        truncation = data.pop("truncation_strategy", {})
        most = data.get("max_completion_tokens", data.get("max_tokens"))
        if "tools" in data:
            data["tools"] = tuple(data["tools"])
        known = {name: value for name, value in data.items() if name in _DRAFT_FIELDS}
        parameters = {name: value for name, value in data.items() if is_parameter(name) and name not in _NOT_PARAMETERS}
        return RunDraft(
            **known
            | {
                "additional_messages": tuple(added),
                "max_completion_tokens": most,
                "last_messages": truncation.get("last_messages") if truncation.get("type") != "auto" else None,
                "parameters": parameters,
                "ends_with_client": data.get("cancel_on_disconnect", False),
            }
        )


class NewThreadAndRunSchema(NewRunSchema):
    """A thread to be made, and how it is to be answered."""

    thread = fields.Nested(
        NewThreadSchema,
        allow_none=True,
        error_messages={"type": "must be an object"},
        metadata={"description": "The thread with its first messages; an empty one if it is left out."},
    )


class RunChangesSchema(Base):
    """What may change of a run."""

    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields given."""
        return dict(data)


class ToolOutputsSchema(Base):
    """What tools have answered."""

    tool_outputs = fields.List(fields.Dict(), metadata={"description": "Not supported yet."})
    stream = optional_flag("Not supported yet.", default=False)
