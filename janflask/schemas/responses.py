"""The body of POST /responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.files import ids
from janflask.inference.forms.answer_forms import FIELDS as FORM_FIELDS
from janflask.inference.forms.answer_forms import asked_for
from janflask.models.known_fields import CONVERSATION
from janflask.models.parameters import is_parameter
from janflask.models.sampling import SAMPLING_RANGES
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.constraints import ConstraintFields
from janflask.schemas.fields import Text, Whole, between, one_of, optional_flag, wrong_type
from janflask.schemas.items import INCLUDABLE, LOGPROBS, SEALED
from janflask.schemas.objects import JsonObject, check_kept, metadata_field
from janflask.schemas.response_context import ContextManagementSchema, PromptCacheOptionsSchema, threshold_of
from janflask.schemas.response_input import ResponseInput, response_input_field
from janflask.schemas.response_text import MAX_FORMAT_BYTES, TextSchema
from janflask.schemas.response_tools import ResponseToolChoiceField, ResponseTools, ResponseToolsField
from janflask.schemas.sampling import MAX_TOKENS, Base, InferenceSchema, Reason, refusals, unless
from janflask.schemas.thinking import ThinkingFields
from janflask.schemas.threads import MAX_INSTRUCTIONS, text_field
from janflask.schemas.tool_choice import ToolChoice, plan_of, word_of
from janflask.storage.answers import AnswerDraft

_SUMMARIES = ("auto", "concise", "detailed")
_OF_REASONING = ("summary", "generate_summary", "context", "mode")  # change nothing here: thoughts are told as they are
# What is told back as it was sent.
_ECHOED = (
    "background",
    "max_output_tokens",
    "max_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "text",
    "top_logprobs",
    "truncation",
    "user",
)
_RUN_FIELDS = frozenset({"max_tokens"})  # parameters that a draft has a field of its own for


class ConversationName(fields.Field[str]):
    """An id, or an object with one; given as the thread's."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        named = value.get("id") if isinstance(value, dict) else value
        if not isinstance(named, str):
            raise wrong_type('a conversation\'s id or an object like {"id": "conv_..."}', value)
        return ids.thread_id(named)


class _Conversation(ThinkingFields, Base):
    """What a prompt is made of."""

    REFUSED: Mapping[str, Reason] = {
        "prompt": unless((), "is not supported, there are no prompt templates here: send their text as `instructions`"),
        "moderation": unless((), "is not supported: nothing is moderated here, leave it out"),
        "messages": unless((), "are not a field of responses: send them as `input`"),
        "functions": unless(([],), "are not supported in a response: use `tools`"),
        "function_call": unless(("none", "auto"), "is not supported in a response: use `tool_choice`"),
        "response_format": unless((), "is not supported in a response: use `text.format`"),
    }

    model = Text(
        allow_none=True,
        metadata={
            "description": "The model's id. Left out: that of the conversation, or the only one there is.",
            "example": "smollm2-135m-instruct",
        },
    )
    input = response_input_field()
    instructions = text_field(
        MAX_INSTRUCTIONS, "What the model is told first, for this answer only: the next one does not inherit it."
    )
    previous_response_id = Text(
        allow_none=True,
        metadata={
            "description": "The stored response that this one follows. Several may follow one: each has its own branch."
        },
    )
    conversation = ConversationName(
        allow_none=True,
        metadata={
            "description": "The conversation (or thread) that is gone on with, by its id. Input and answer are added.",
            "oneOf": [
                {"type": "string"},
                {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
            ],
            "nullable": True,
        },
    )
    tools = ResponseToolsField(
        allow_none=True,
        metadata={
            "description": "What the model may call: `function`, `custom` (free text) and `namespace` (functions under "
            "a common name). `web_search` and `tool_search` are left out, and `left_out_tools` says so; other built-in "
            "tools are refused.",
            "type": "array",
            "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
        },
    )
    tool_choice = ResponseToolChoiceField(
        allow_none=True,
        metadata={
            "description": "`auto`: the model decides. `none`: it is shown no tools. `required`: it calls one at "
            "least, and says nothing else. A function or a custom tool: it calls this one, once. `allowed_tools`: "
            "of the tools that it is shown only these are called.",
            "oneOf": [
                {"type": "string", "enum": ["auto", "none", "required"]},
                {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
            ],
            "nullable": True,
            "example": "auto",
        },
    )
    parallel_tool_calls = optional_flag("False: no call but the first is told.", default=True)
    text = fields.Nested(TextSchema, allow_none=True, metadata={"description": "What its words are like."})
    truncation = Text(
        allow_none=True,
        validate=one_of(("auto", "disabled")),
        metadata={
            "description": "`auto`: what is too long for the model loses its oldest turns, and `left_out_message_ids` "
            "names them. `disabled`: it is refused.",
            "default": "disabled",
        },
    )
    chat_template_kwargs = JsonObject(
        allow_none=True, metadata={"description": "Further variables for the chat template, e.g. `enable_thinking`."}
    )

    @ma.pre_load
    def spread(self, data: Any, **kwargs: Any) -> Any:
        """As elsewhere, but that a summary of the thoughts may be asked for."""
        if isinstance(data, dict) and isinstance(data.get("reasoning"), dict):
            given = data["reasoning"]
            for name in ("summary", "generate_summary"):
                if given.get(name) not in (None, *_SUMMARIES):
                    raise ma.ValidationError({name: [f"must be one of {', '.join(_SUMMARIES)}"]}, "reasoning")
            data = {**data, "reasoning": {key: given[key] for key in given if key not in _OF_REASONING}}
        return super().spread(data, **kwargs)

    @ma.validates_schema
    def check_place(self, data: dict[str, Any], **kwargs: Any) -> None:
        """An answer has one place."""
        if data.get("conversation") and data.get("previous_response_id"):
            raise ma.ValidationError(
                "cannot be given together with `conversation`: send one of them", "previous_response_id"
            )

    @ma.validates_schema
    def check_choice(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What is chosen is among the tools."""
        choice, tools = data.get("tool_choice"), data.get("tools") or ResponseTools()
        if not isinstance(choice, ToolChoice):
            return
        choice.check("tool_choice", tools.names)
        if not tools.functions and plan_of(choice).required:
            left = f" but {tools.left_out[0]}, which is not had here" if tools.left_out else ""
            raise ma.ValidationError(f"needs `tools`, and the request has none{left}: set it to auto", "tool_choice")


class ResponseRequestSchema(_Conversation, ConstraintFields, InferenceSchema):
    """What is to be answered, and how."""

    REFUSED: Mapping[str, Reason] = {
        **ChatRequestSchema.REFUSED,
        **refusals(CONVERSATION),
        **_Conversation.REFUSED,
        "n": unless((1,), "must be 1: a response is one answer"),
        "logprobs": unless((False, 0), f"is not a field of responses: use `include` with {LOGPROBS}"),
        "add_generation_prompt": unless((True,), "must be true: a response gives a new answer"),
        "continue_final_message": unless((False,), "is not supported in a response, which gives a new answer"),
    }

    class Meta:
        """marshmallow's options."""

        unknown = ma.EXCLUDE
        exclude = ("response_format", "n")

    store = optional_flag(
        "Keep the response, so that it can be asked for and gone on with. False: nothing is left on the disk.", True
    )
    background = optional_flag(
        "Answer at once, when the request is on the disk; it is carried out whatever becomes of its client. Ask for "
        "the response again, or join its stream, with getResponse.",
        False,
    )
    include = fields.List(
        Text(validate=one_of(INCLUDABLE)),
        allow_none=True,
        error_messages={"invalid": "must be a list of strings"},
        metadata={
            "description": f"`{LOGPROBS}`: tell log-probabilities. `{SEALED}`: thoughts come sealed, too, for "
            "who sends them back. The others ask for nothing here."
        },
    )
    max_output_tokens = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "The most tokens to generate; then the response is `incomplete`.", "example": 256},
    )
    max_tool_calls = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "Of built-in tools, of which there are none: it is only told back."},
    )
    top_logprobs = Whole(
        allow_none=True,
        validate=between(*SAMPLING_RANGES["top_logprobs"]),
        metadata={"description": "So many of the likeliest tokens at each place; log-probabilities are told then."},
    )
    prompt_cache_key = Text(
        allow_none=True,
        validate=validate.Length(max=512, error="must have at most {max} characters"),
        metadata={
            "description": "What the client names the beginning of its prompts. A response that is not stored keeps "
            "its KV state on the disk only with it."
        },
    )
    prompt_cache_options = fields.Nested(
        PromptCacheOptionsSchema, allow_none=True, metadata={"description": "About the cached beginning of the prompt."}
    )
    prompt_cache_retention = Text(
        allow_none=True,
        validate=one_of(("in_memory", "in-memory", "24h")),
        metadata={"description": "Makes no difference: a state is kept as long as there is room for it."},
    )
    context_management = fields.List(
        fields.Nested(ContextManagementSchema),
        allow_none=True,
        validate=validate.Length(max=8, error="must have at most {max} entries"),
        error_messages={"invalid": "must be a list of objects"},
        metadata={"description": "What becomes of a conversation that grows too long for the model."},
    )
    metadata = metadata_field()
    user = Text(allow_none=True, metadata={"description": "Only told back."})
    safety_identifier = Text(allow_none=True, metadata={"description": "Only told back."})
    service_tier = Text(allow_none=True, metadata={"description": "Makes no difference."})

    @ma.validates_schema
    def check_background(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What goes on without its client has to be kept for it."""
        if data.get("background") and data.get("store") is False:
            raise ma.ValidationError("needs `store`: leave that out, or set it to true", "background")

    @ma.validates_schema
    def check_form(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What is kept with the response, as it was sent, has limits; and there is one form at most."""
        check_kept(data, FORM_FIELDS, MAX_FORMAT_BYTES)

    @ma.post_load(pass_original=True)
    def make(self, data: dict[str, Any], original: Mapping[str, Any], **kwargs: Any) -> AnswerDraft:
        """The draft, with what is told back as it was sent."""
        tools: ResponseTools = data.get("tools") or ResponseTools()
        given: ResponseInput = data.get("input") or ResponseInput()
        include = data.get("include") or []
        top = data.get("top_logprobs", 0)
        parameters = {name: value for name, value in data.items() if is_parameter(name) and name not in _RUN_FIELDS}
        return AnswerDraft(
            model=data.get("model"),
            input=given.drafts,
            places=given.places,
            instructions=data.get("instructions"),
            previous=data.get("previous_response_id"),
            conversation=data.get("conversation"),
            tools=tools.functions,
            **of_choice(data, original),
            parallel_tool_calls=data.get("parallel_tool_calls", True),
            response_format=(data.get("text") or {}).get("format"),
            form=asked_for(data),
            parameters=parameters,
            max_tokens=data.get("max_output_tokens", data.get("max_tokens")),
            top_logprobs=top if LOGPROBS in include or top else None,
            truncates=data.get("truncation") == "auto",
            compact_threshold=threshold_of(data.get("context_management")),
            keep_state=data.get("store", True) or data.get("prompt_cache_key") is not None,
            metadata=data.get("metadata") or {},
            asked=_asked(original, tools, include),
            store=data.get("store", True),
            background=data.get("background", False),
            stream=data.get("stream", False),
        )


def of_choice(data: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    """What a draft has of ``tool_choice``."""
    choice = data.get("tool_choice")
    if choice is None:
        return {}
    return {"tool_choice": _told_choice(original["tool_choice"]), "calls": plan_of(choice)}


def _told_choice(choice: Any) -> Any:
    word = word_of(choice)
    return "required" if word == "any" else word


def _asked(original: Mapping[str, Any], tools: ResponseTools, include: list[str]) -> dict[str, Any]:
    """What is told back of a request, as it was sent, without what says nothing."""
    asked = {name: original[name] for name in _ECHOED if original.get(name) is not None}
    asked["store"] = original.get("store") is not False
    named = original.get("conversation")
    if named is not None:
        asked["conversation"] = named["id"] if isinstance(named, Mapping) else named
    if original.get("previous_response_id") is not None:
        asked["previous_response_id"] = original["previous_response_id"]
    numbers = tools.numbers if tools.left_out else ()
    lists = {"tools": tools.told, "left_out_tools": tools.left_out, "tool_numbers": numbers, "include": include}
    return {**asked, **{name: list(value) for name, value in lists.items() if value}}
