"""The bodies of requests that make or change runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.calls.functions import MAX_TOOLS
from janflask.inference.forms.answer_forms import FIELDS as FORM_FIELDS
from janflask.inference.forms.answer_forms import asked_for
from janflask.inference.leftovers import holds_anything
from janflask.models.known_fields import CONVERSATION
from janflask.models.parameters import is_parameter
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.constraints import ConstraintFields
from janflask.schemas.fields import Text, Whole, between, one_of, optional_flag
from janflask.schemas.messages import NewMessageSchema
from janflask.schemas.objects import (
    JsonObject,
    QueryNumber,
    check_kept,
    check_object,
    each,
    metadata_field,
    response_format_field,
)
from janflask.schemas.sampling import MAX_TOKENS, Base, InferenceSchema, Reason, refusals, unless
from janflask.schemas.thinking import ThinkingFields
from janflask.schemas.threads import MAX_INSTRUCTIONS, NewThreadSchema, text_field
from janflask.schemas.tool_choice import plan_of, tool_choice_field, word_of
from janflask.schemas.tools import ToolSchema
from janflask.storage.records import MessageDraft, RunDraft

MAX_ADDED = 100
MOST_BETWEEN = 2  # seconds between two events of a run

_DRAFT_FIELDS = frozenset(RunDraft.__dataclass_fields__)
_NOT_PARAMETERS = frozenset({"max_tokens", "temperature", "top_p"})  # those that a run keeps by themselves


def _no_resources(value: Any) -> str | None:
    return "are for tools that read files, which are not supported: leave them out" if holds_anything(value) else None


class RunTools(fields.List[Any]):
    """Functions; what Jan lists and has switched off is passed over. Errors name the places in the whole list."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            return super()._deserialize(value, attr, data, **kwargs)
        used = [number for number, tool in enumerate(value) if not _is_off(tool)]
        try:
            tools = each([value[number] for number in used], check_object, "a list of tools", MAX_TOOLS)
            return super()._deserialize(tools, attr, data, **kwargs)
        except ma.ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            placed = {used[number]: messages for number, messages in error.messages.items()}
            raise ma.ValidationError(placed) from error


def _is_off(tool: object) -> bool:
    return isinstance(tool, Mapping) and tool.get("enabled") is False


class TruncationSchema(Base):
    """What of a long thread the model is shown."""

    type = Text(
        required=True,
        validate=one_of(("auto", "last_messages")),
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


class NewRunSchema(ConstraintFields, ThinkingFields, InferenceSchema):
    """How a thread is to be answered. What is not given is the thread's, its assistant's or its model's to say."""

    REFUSED: Mapping[str, Reason] = {
        **ChatRequestSchema.REFUSED,
        **refusals(CONVERSATION),
        "add_generation_prompt": unless((True,), "must be true: a run gives a new message"),
        "continue_final_message": unless((False,), "is not supported in a run: use `continue_last`"),
        "logprobs": unless((False, 0), "is not supported: a run tells no log-probabilities"),
        "top_logprobs": unless((), "is not supported: a run tells no log-probabilities"),
        "n": unless((1,), "must be 1: a run makes one answer"),
        "functions": unless(([],), "are not supported in a run: use `tools`"),
        "function_call": unless(("none", "auto"), "is not supported in a run: use `tool_choice`"),
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
    tools = RunTools(
        fields.Nested(ToolSchema, error_messages={"type": "must be an object with type and function"}),
        allow_none=True,
        validate=validate.Length(max=MAX_TOOLS, error=f"must hold at most {MAX_TOOLS} tools"),
        error_messages={"invalid": "must be a list of tools"},
        metadata={
            "description": "Functions that the model may call, in place of the assistant's; with `[]` there are none."
        },
    )
    tool_choice = tool_choice_field()
    response_format = response_format_field()
    continue_last = optional_flag(
        "Goes on where the thread's last message ends, which must be an assistant's: it gets more words.", default=False
    )
    parallel_tool_calls = optional_flag("False: no more than one call at a time.", default=True)
    cancel_on_disconnect = optional_flag(
        "With `stream`: a client that leaves cancels the run, which otherwise goes on.", default=False
    )
    metadata = metadata_field()

    @ma.validates_schema
    def check_form(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What is kept with the run, as it was sent, has limits."""
        check_kept(data, FORM_FIELDS)

    @ma.validates_schema
    def check_cancel(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only a stream can be left."""
        if data.get("cancel_on_disconnect") and not data.get("stream"):
            raise ma.ValidationError("is only allowed when `stream` is true", "cancel_on_disconnect")

    @ma.validates_schema
    def check_last(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What is added would be the last."""
        if data.get("continue_last") and data.get("additional_messages"):
            raise ma.ValidationError("is not allowed with additional_messages, which come last", "continue_last")

    @ma.post_load(pass_original=True)
    def make(self, data: dict[str, Any], original: Mapping[str, Any], **kwargs: Any) -> RunDraft:
        """The draft, with what is kept as it was sent."""
        choice = data.pop("tool_choice", None)
        if choice is not None:
            data["tool_choice"] = word_of(original["tool_choice"])
            data["calls"] = plan_of(choice)
        added: list[MessageDraft] = data.pop("additional_messages", [])
        truncation = data.pop("truncation_strategy", {})
        most = data.get("max_completion_tokens", data.get("max_tokens"))
        if "tools" in data:
            data["tools"] = tuple(original["tools"])
        known = {name: value for name, value in data.items() if name in _DRAFT_FIELDS}
        parameters = {name: value for name, value in data.items() if is_parameter(name) and name not in _NOT_PARAMETERS}
        return RunDraft(
            **known
            | {
                "additional_messages": tuple(added),
                "max_completion_tokens": most,
                "last_messages": truncation.get("last_messages") if truncation.get("type") != "auto" else None,
                "form": asked_for(data),
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


class RunEventsQuerySchema(Base):
    """How a run's events are told."""

    reasoning = fields.Boolean(
        load_default=False, metadata={"description": "With what the model thinks before it replies."}
    )
    every = QueryNumber(
        load_default=0.0,
        validate=between(0, MOST_BETWEEN),
        metadata={
            "description": "Seconds that are between two events with text: what is said meanwhile comes in one, whose "
            "number is that of its last piece. 0: each piece by itself.",
            "example": 0.05,
        },
    )


class ToolOutputSchema(Base):
    """What a call gave back."""

    tool_call_id = Text(required=True, metadata={"description": "The call.", "example": "call_abc123"})
    output = Text(load_default="", metadata={"description": "What the model is shown of it.", "example": "28 C"})

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> tuple[str, str]:
        """The call's id, and its output."""
        return data["tool_call_id"], data["output"]


class ToolOutputsSchema(Base):
    """What the calls gave back that a run waits for."""

    tool_outputs = fields.List(
        fields.Nested(ToolOutputSchema, error_messages={"type": "must be an object with tool_call_id and output"}),
        required=True,
        error_messages={"required": "is required", "invalid": "must be a list of outputs", "null": "must not be null"},
        metadata={"description": "One for each call in `required_action`."},
    )
    stream = optional_flag("Answer with the events of the run from here on.", default=False)
