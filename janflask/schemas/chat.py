"""The body of POST /chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.leftovers import ROLES, of_part
from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import ChatMessage, ChatRequest
from janflask.models.known_fields import CONVERSATION, MESSAGE, NOTHING
from janflask.models.parameters import template_kwargs, thought_tokens
from janflask.schemas.constraints import ConstraintFields
from janflask.schemas.fields import Text, Whole, between, each, kind, one_of, optional_flag, sampling_whole, wrong_type
from janflask.schemas.sampling import MAX_TOKENS, Base, InferenceSchema, Reason, common_arguments, refusals, unless
from janflask.schemas.stored_chats import stored_chat
from janflask.schemas.thinking import ThinkingFields
from janflask.schemas.tools import CalledFunctionSchema, ToolCallSchema, ToolsSchema, chosen_tools, of_calls
from janflask.storage.answers import AnswerDraft

MAX_MESSAGES = 10_000
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # names of one field; the first that is given wins
IN_CONTENT = "none"
FORMATS = (IN_CONTENT, "auto", "deepseek")  # llama-server's words
FUNCTION = "function"  # the role of a tool's result before there were tools
OLD_CALL = "call00000"  # the id of a call that has none


CONTENT_FORMS = [
    {"type": "string"},
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "text"],
            "properties": {"type": {"type": "string", "enum": ["text"]}, "text": {"type": "string"}},
        },
    },
]


class MessageContent(fields.Field[str]):
    """A string, or a list of text parts, which are joined by newlines."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise wrong_type("a string or a list of text parts", value)
        return "\n".join(each(value, lambda _, part: self._part(part)))

    def _part(self, part: object) -> str:
        if not isinstance(part, dict):
            raise wrong_type('an object like {"type": "text", "text": "..."}', part)
        if part.get("type") not in ("text", "refusal"):
            found = of_part(part) or repr(str(part.get("type"))[:40])
            raise ma.ValidationError({"type": [f"must be text, the models here read nothing else, not {found}"]})
        text = part.get(part["type"])
        if not isinstance(text, str):
            raise ma.ValidationError({part["type"]: [f"must be a string, not {kind(text)}"]})
        return text


class MessageSchema(Base):
    """One message of a conversation."""

    REFUSED: Mapping[str, Reason] = {
        **refusals(MESSAGE),
        "audio": unless(NOTHING, "is not supported yet in a message: leave it out"),
    }

    role = Text(
        required=True,
        validate=one_of((*ROLES, FUNCTION)),
        metadata={
            "description": "Who speaks. `developer` is the same as `system`, `function` the older name of `tool`.",
            "example": "user",
        },
    )
    content = MessageContent(
        allow_none=True,
        metadata={
            "description": "What is said: text, or text parts (joined by newlines). An assistant's may be null.",
            "oneOf": CONTENT_FORMS,
            "nullable": True,
            "example": "Why is the sky blue?",
        },
    )
    name = Text(allow_none=True, metadata={"description": "Handed to the chat template."})
    refusal = Text(allow_none=True, metadata={"description": "What an assistant said in place of an answer."})
    tool_calls = fields.List(
        fields.Nested(ToolCallSchema, error_messages={"type": "must be an object"}),
        allow_none=True,
        error_messages={"invalid": "must be a list of calls"},
        metadata={"description": "What an assistant wanted to be called."},
    )
    function_call = fields.Nested(
        CalledFunctionSchema,
        allow_none=True,
        error_messages={"type": "must be an object"},
        metadata={"description": "The older form of `tool_calls`."},
    )
    tool_call_id = Text(allow_none=True, metadata={"description": "Of a tool's message: the call that it answers."})
    reasoning_content = Text(
        allow_none=True,
        metadata={
            "description": "What an assistant thought before this answer: handed to the model's chat template, which "
            "decides what of it is shown again (most show the newest only)."
        },
    )
    reasoning = Text(
        allow_none=True,
        metadata={"description": "Another name of `reasoning_content`, which wins when both are given."},
    )
    thinking = Text(allow_none=True, metadata={"description": "Ollama's name of `reasoning_content`."})

    @ma.validates_schema
    def check_content(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only an assistant may have said nothing."""
        if "content" not in data and data["role"] != "assistant":
            raise ma.ValidationError(f"is required in a {data['role']} message", "content")

    @ma.validates_schema
    def check_speaker(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only an assistant calls tools, and thinks aloud."""
        if data["role"] == "assistant":
            return
        wrong = f"belongs to an assistant's message, not to a {data['role']} message"
        errors = {name: [wrong] for name in ("tool_calls", "function_call", *THOUGHTS) if data.get(name)}
        if errors:
            raise ma.ValidationError(errors)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> ChatMessage:
        """The dataclass."""
        text = "\n".join(data[name] for name in ("content", "refusal") if data.get(name))
        role = "tool" if data["role"] == FUNCTION else data["role"]
        call_id = data.get("tool_call_id")
        if role == "tool" or call_id is not None:
            return ChatMessage(role=role, parts=(ToolResultPart(text, call_id),), name=data.get("name"))
        calls: list[ToolCallPart] = list(data.get("tool_calls") or ())
        if not calls and data.get("function_call"):
            calls = [ToolCallPart(OLD_CALL, *data["function_call"])]
        thought = next((data[name] for name in THOUGHTS if data.get(name)), None)
        parts: list[Part] = [] if thought is None else [ReasoningPart(thought)]
        if text or not calls:
            parts.append(TextPart(text))
        return ChatMessage(role=role, parts=(*parts, *calls), name=data.get("name"))


class ConversationSchema(ThinkingFields, ToolsSchema):
    """What a prompt is laid out from."""

    REFUSED: Mapping[str, Reason] = refusals(CONVERSATION)

    messages = fields.List(
        fields.Nested(MessageSchema, error_messages={"type": "must be an object with role and content"}),
        required=True,
        validate=validate.Length(
            1, MAX_MESSAGES, error=f"must hold from 1 to {MAX_MESSAGES} messages: send at least the user's"
        ),
        error_messages={"required": "is required", "invalid": "must be a list of messages", "null": "must not be null"},
        metadata={"description": "The conversation so far, oldest first."},
    )
    chat_template_kwargs = fields.Dict(
        keys=Text(),
        allow_none=True,
        error_messages={"invalid": "must be an object"},
        metadata={"description": "Further variables for the chat template, e.g. `enable_thinking`."},
    )
    add_generation_prompt = optional_flag(
        "End the prompt with what asks for the assistant's answer. Without it the model goes on behind the end of the "
        "last message; always off with `continue_final_message`.",
        default=True,
    )
    continue_final_message = optional_flag(
        "The last message is the beginning of the answer: the model goes on in the middle of it. The answer holds what "
        "is new.",
        default=False,
    )

    @ma.validates_schema
    def check_continuation(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only an assistant's message can be gone on with, and it is not to be answered at the same time."""
        if not data.get("continue_final_message"):
            return
        if data.get("add_generation_prompt"):
            raise ma.ValidationError(
                "cannot be true together with `add_generation_prompt`: set that to false", "continue_final_message"
            )
        if data["messages"][-1].role != "assistant":
            raise ma.ValidationError("needs an assistant's message as the last one", "continue_final_message")

    @staticmethod
    def conversation(data: dict[str, Any]) -> dict[str, Any]:
        """What the dataclasses of requests call these fields; they are taken out of ``data``."""
        return {
            "messages": tuple(data.pop("messages")),
            "template_kwargs": template_kwargs(data),
            "add_generation_prompt": data.pop("add_generation_prompt", True),
            "continue_final_message": data.pop("continue_final_message", False),
            "tools": chosen_tools(data),
        }


class PredictionSchema(Base):
    """What an answer is expected to say."""

    type = Text(required=True, validate=one_of(("content",)), metadata={"example": "content"})
    content = MessageContent(
        required=True,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "A text, or text parts (joined by newlines).",
            "oneOf": CONTENT_FORMS,
            "example": "The whole file, of which the answer changes a line.",
        },
    )


class ChatRequestSchema(ConstraintFields, ConversationSchema, InferenceSchema):
    """A conversation to go on with, and how."""

    REFUSED: Mapping[str, Reason] = {
        **InferenceSchema.REFUSED,
        **refusals(CONVERSATION, but=("reasoning_format",)),
        "modalities": unless(([], ["text"]), 'must be ["text"], nothing else is supported'),
        "audio": unless((), "is not supported: leave it out"),
        "web_search_options": unless((), "can't be used, there is no web search here: leave them out"),
    }

    max_completion_tokens = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "The newer name of `max_tokens`; wins when both are given."},
    )
    reasoning_format = Text(
        allow_none=True,
        validate=one_of(FORMATS),
        metadata={
            "description": "Where to tell what the model thinks before it answers: `auto` (or `deepseek`) in "
            "`reasoning_content`, `none` in the content, as the model writes it.",
            "default": "auto",
        },
    )
    logprobs = optional_flag("Answer with the log-probability of each token.", default=False)
    top_logprobs = sampling_whole("top_logprobs", "With `logprobs`: so many of the likeliest tokens at each place.")
    prediction = fields.Nested(
        PredictionSchema,
        allow_none=True,
        metadata={
            "description": "What the answer will say, or much of it. It comes sooner where it says that, and is the "
            "same without. It goes with every other field; a stored answer does without it."
        },
    )
    store = optional_flag(
        "Keep the conversation and its answer: it goes on when its client leaves, and can be had again by its id.",
        default=False,
    )
    metadata = fields.Raw(
        allow_none=True,
        metadata={
            "description": "With `store`: up to 16 pairs of texts that are kept with the answer; else it is ignored.",
            "example": {"topic": "demo"},
        },
    )

    @ma.validates_schema
    def check_logprobs(self, data: dict[str, Any], **kwargs: Any) -> None:
        """The list of likeliest tokens is part of the log-probabilities."""
        if data.get("top_logprobs") and not data.get("logprobs"):
            raise ma.ValidationError("is only allowed when `logprobs` is true", "top_logprobs")

    @ma.post_load(pass_original=True)
    def make(self, data: dict[str, Any], sent: Mapping[str, Any], **kwargs: Any) -> ChatRequest | AnswerDraft:
        """A request for a backend, or with ``store`` for the store."""
        if data.get("store"):
            return stored_chat(data, sent)
        top_logprobs = data.pop("top_logprobs", 0)
        if data.get("logprobs"):
            data["top_logprobs"] = top_logprobs
        splits = data.get("reasoning_format") != IN_CONTENT
        common = common_arguments(data)
        common["max_tokens"] = data.get("max_completion_tokens", common["max_tokens"])
        limit = thought_tokens(data)
        return ChatRequest(
            **self.conversation(data),
            **of_calls(data),
            splits_reasoning=splits,
            thought_tokens=limit,
            prediction=data["prediction"]["content"] if "prediction" in data else "",
            **common,
        )
