"""The bodies of POST /messages and /messages/count_tokens, as Anthropic's clients send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.errors import InvalidRequestError
from janflask.inference.blocks import SYSTEM, MessagesRequest
from janflask.inference.forms.answer_forms import maker
from janflask.inference.requests import ChatMessage, ChatRequest
from janflask.models.known_fields import CONVERSATION
from janflask.models.parameters import EFFORTS, MAX_TOKENS, template_kwargs
from janflask.schemas.anthropic_blocks import ROLES, SystemText, Turns
from janflask.schemas.anthropic_tools import CHOICES, Choice, Listed, ToolChoice, Tools
from janflask.schemas.constraints import Object
from janflask.schemas.fields import StopStrings, Text, Whole, between, optional_flag
from janflask.schemas.sampling import Base, InferenceSchema, Reason, common_arguments, refusals, unless
from janflask.schemas.tool_choice import NONE

THINKING: Mapping[str, bool | None] = {"enabled": True, "disabled": False, "adaptive": None, "between_tools": None}
DISPLAYS = ("summarized", "omitted")
JSON_SCHEMA = "json_schema"
CLEAR_THINKING = "clear_thinking_20251015"
EDITS = (CLEAR_THINKING, "clear_tool_uses_20250919", "compact_20260112")
_NO_THREADS = (
    "thread is not supported: send all of the conversation without it, or the id of one that is stored here in "
    "`conversation`"
)
_OBJECT = {"type": "must be an object"}
_ONE_OF = "must be one of {choices}, not {input!r}"


class ThinkingConfigSchema(Base):
    """Whether to think before the answer, and how much."""

    error_messages = _OBJECT

    type = Text(required=True, validate=validate.OneOf(tuple(THINKING), error=_ONE_OF))
    budget_tokens = Whole(allow_none=True, validate=between(0, MAX_TOKENS))
    display = Text(allow_none=True, validate=validate.OneOf(DISPLAYS, error=_ONE_OF))


class FormatSchema(Base):
    """What an answer must look like."""

    error_messages = _OBJECT

    type = Text(required=True, validate=validate.OneOf([JSON_SCHEMA], error=_ONE_OF))
    schema = Object(required=True, error_messages={"required": "is required"}, metadata={"type": "object"})


class OutputSchema(Base):
    """How much effort an answer is worth, and what it must look like."""

    error_messages = _OBJECT

    effort = Text(allow_none=True, validate=validate.OneOf(EFFORTS, error=_ONE_OF))
    format = fields.Nested(FormatSchema, allow_none=True)


class EditSchema(Base):
    """A change of the conversation before the model reads it."""

    error_messages = _OBJECT

    type = Text(required=True, validate=validate.OneOf(EDITS, error=_ONE_OF))
    keep = fields.Raw(allow_none=True)


class EditsSchema(Base):
    """``context_management``."""

    error_messages = _OBJECT

    edits = fields.List(fields.Nested(EditSchema), allow_none=True, error_messages={"invalid": "must be a list"})

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> int | None:
        """Of how many answers the thoughts are kept; None: of all."""
        for number, edit in enumerate(data.get("edits") or ()):
            if edit["type"] == CLEAR_THINKING:
                return self._kept(edit.get("keep"), number)
        return 1

    @staticmethod
    def _kept(keep: object, number: int) -> int | None:
        if keep == "all" or (isinstance(keep, Mapping) and keep.get("type") == "all"):
            return None
        value = keep.get("value") if isinstance(keep, Mapping) and keep.get("type") == "thinking_turns" else None
        if keep is None:
            return 1
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            wrong = 'must be "all", or {"type": "thinking_turns", "value": from 1}'
            raise ma.ValidationError({"edits": {number: {"keep": [wrong]}}})
        return value


class DiagnosticsSchema(Base):
    """``diagnostics``."""

    error_messages = _OBJECT

    previous_message_id = Text(
        allow_none=True,
        metadata={"description": "The id of a message whose request had `diagnostics`, too; null for the first one."},
    )


class TurnsSchema(Base):
    """What a prompt is laid out from, in Anthropic's form."""

    REFUSED: Mapping[str, Reason] = {
        **refusals(CONVERSATION, but=("system",)),
        "mcp_servers": unless(([],), "is not supported: no server is asked from here, have the client do it"),
        "container": unless((), "is not supported: there are no containers here, leave it out"),
    }

    system = SystemText(
        allow_none=True,
        metadata={
            "description": "What the model is instructed to do: text, or text blocks (joined by newlines). A line that "
            "begins with `x-anthropic-billing-header:` is left out: it differs in each of Claude Code's requests.",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
            "nullable": True,
            "example": "You are a helpful assistant.",
        },
    )
    messages = Turns(
        required=True,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "The conversation so far, oldest first. `content` is text, or blocks: `text`; an "
            "assistant's `tool_use`, `thinking` and `redacted_thinking`; a user's `tool_result`. Turns of one side in "
            "a row are one. Where the last one is the assistant's, the answer goes on behind its text.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"type": "string", "enum": list(ROLES)},
                    "content": {
                        "oneOf": [
                            {"type": "string"},
                            {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["type"],
                                    "properties": {"type": {"type": "string"}, "text": {"type": "string"}},
                                },
                            },
                        ]
                    },
                },
            },
            "example": [{"role": "user", "content": "Why is the sky blue?"}],
        },
    )
    tools = Tools(
        allow_none=True,
        metadata={
            "description": "What the model may call: tools of the client's own, each with an `input_schema`. One with "
            "`defer_loading` is told where a `tool_reference` in a `tool_result` names it, and may be called from "
            "there on.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "input_schema"],
                "properties": {
                    "name": {"type": "string"},
                    "description": {"type": "string"},
                    "input_schema": {"type": "object"},
                },
            },
        },
    )
    tool_choice = ToolChoice(
        allow_none=True,
        metadata={
            "description": "`auto`: the model decides. `any`: it calls one at least, and says nothing else. `tool`: it "
            "calls the one with this `name`, once. `none`: it is shown no tools.",
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"type": "string", "enum": list(CHOICES)},
                "name": {"type": "string"},
                "disable_parallel_tool_use": {"type": "boolean"},
            },
        },
    )
    thinking = fields.Nested(
        ThinkingConfigSchema,
        allow_none=True,
        metadata={
            "description": "`enabled` and `disabled` are the chat template's `enable_thinking`; the others leave it to "
            "the model. `budget_tokens` ends the thoughts. With `display` `omitted` the answer has them sealed only.",
        },
    )
    output_config = fields.Nested(
        OutputSchema,
        allow_none=True,
        metadata={
            "description": "`effort` is the chat template's `reasoning_effort`; `format` holds the answer to a JSON "
            "schema while it is generated.",
        },
    )
    output_format = fields.Nested(
        FormatSchema, allow_none=True, metadata={"description": "The older name of `output_config.format`."}
    )
    context_management = fields.Nested(
        EditsSchema,
        allow_none=True,
        metadata={
            "description": f"`{CLEAR_THINKING}` says of how many answers the thoughts are shown again (else: of the "
            "one under way). The other edits are not made here, and the answer's `applied_edits` has none.",
        },
    )

    @ma.pre_load
    def choose(self, data: Any, **kwargs: Any) -> Any:
        """Without tools that must not be called: nobody reads them."""
        choice = data.get("tool_choice") if isinstance(data, dict) else None
        if isinstance(choice, Mapping) and choice.get("type") == NONE:
            return {name: value for name, value in data.items() if name != "tools"}
        return data

    @ma.validates_schema
    def check_choice(self, data: dict[str, Any], **kwargs: Any) -> None:
        """There is something to choose from."""
        data.get("tool_choice", Choice()).check(data.get("tools", Listed()))

    @staticmethod
    def asked(data: dict[str, Any], **common: Any) -> MessagesRequest:
        """The dataclass; ``common`` are the arguments of its ``ChatRequest`` that say how to answer."""
        choice, listed = data.get("tool_choice", Choice()), data.get("tools", Listed())
        thinking, output = data.get("thinking", {}), data.get("output_config", {})
        told = {"enable_thinking": THINKING.get(thinking.get("type")), "reasoning_effort": output.get("effort")}
        system = data.get("system")
        chat = ChatRequest(
            **common,
            messages=(ChatMessage(role=SYSTEM, parts=system),) if system else (),
            template_kwargs=template_kwargs(told),
            tools=listed.tools,
            thought_tokens=thinking.get("budget_tokens"),
            **choice.arguments(),
        )
        return MessagesRequest(
            chat=chat,
            turns=data["messages"],
            deferred=listed.deferred,
            kept_thoughts=data.get("context_management", 1),
            shows_thoughts=thinking.get("display") != "omitted",
            edits_context="context_management" in data,
            is_diagnosed="diagnostics" in data,
            previous=data.get("diagnostics", {}).get("previous_message_id"),
        )


class CountTokensSchema(TurnsSchema):
    """A conversation whose tokens are to be counted."""

    REFUSED: Mapping[str, Reason] = {
        **TurnsSchema.REFUSED,
        "conversation": unless((None,), "is not counted: send all of the messages without it"),
    }

    model = Text(required=True, metadata={"description": "The model's id.", "example": "smollm2-135m-instruct"})

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> MessagesRequest:
        """The dataclass."""
        return self.asked(data, model=data["model"])


class MessagesSchema(TurnsSchema, InferenceSchema):
    """A conversation to go on with, and how, in Anthropic's form."""

    class Meta(Base.Meta):
        """Not in the form of Anthropic: one answer, other names, and usage is always told."""

        exclude = ("n", "stop", "stream_options")

    REFUSED: Mapping[str, Reason] = {**InferenceSchema.REFUSED, **TurnsSchema.REFUSED}

    max_tokens = Whole(
        required=True,
        validate=between(0, MAX_TOKENS),
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "The most tokens to generate. 0 computes the prompt, so that the next request finds it "
            "cached, and says nothing.",
            "example": 256,
        },
    )
    stop_sequences = StopStrings(
        allow_none=True,
        metadata={
            "description": f"Up to {StopStrings.MAX_STRINGS} strings that end the answer; they are not part of it.",
            "type": "array",
            "items": {"type": "string"},
            "maxItems": StopStrings.MAX_STRINGS,
        },
    )
    diagnostics = fields.Nested(
        DiagnosticsSchema,
        allow_none=True,
        metadata={"description": "Have the message say why its prompt does not begin like an earlier one's."},
    )
    thread = fields.Raw(
        allow_none=True,
        metadata={
            "description": "Refused, by an error that tells Anthropic's clients to go on by sending all of the "
            "conversation each time, as its tool runner does then.",
            "enum": [False],
            "nullable": True,
        },
    )
    conversation = Text(
        allow_none=True,
        validate=validate.Length(1, 512),
        metadata={
            "description": "Ours: the id of a conversation (or thread) that is stored here. `messages` are what is new "
            "in it, and the answer is stored, too, also if its client leaves.",
        },
    )
    stream = optional_flag("Send the answer as Anthropic's events while it is generated.", default=False)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> MessagesRequest:
        """The dataclass. Raises InvalidRequestError for a format that cannot be had."""
        common = common_arguments(data)
        most = data["max_tokens"]
        common |= {"max_tokens": max(1, most), "stop": data.get("stop_sequences")}
        if data.get("thread", False) is not False:
            raise InvalidRequestError(_NO_THREADS, param="thread", code="thread_unsupported_request")
        schema, place = _schema(data)
        if schema is not None:
            common["constraint"] = maker("json", schema, place)()
        return replace(
            self.asked(data, **common), only_reads=not most, schema=schema, conversation=data.get("conversation")
        )


def _schema(data: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """That of the answer, and where it stands."""
    newer, older = data.get("output_config", {}).get("format"), data.get("output_format")
    if newer is not None and older is not None and newer != older:
        raise ma.ValidationError("must be the same as `output_config.format`, or left out", "output_format")
    place = "output_format.schema" if newer is None else "output_config.format.schema"
    found = older if newer is None else newer
    return None if found is None else found["schema"], place
