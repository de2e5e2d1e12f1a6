"""Chat completions that are stored: what a request with ``store`` asks for, and what may be asked of them later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import marshmallow as ma

from janflask.inference.calls.functions import MAX_TOOLS
from janflask.inference.forms.answer_forms import FIELDS as FORM_FIELDS
from janflask.inference.forms.answer_forms import asked_for, constraint_of
from janflask.inference.requests import ChatMessage
from janflask.models.parameters import is_parameter
from janflask.schemas.fields import Text, between, one_of
from janflask.schemas.items import places
from janflask.schemas.objects import PageQuerySchema, QueryWhole, check_kept, check_object, each
from janflask.schemas.pairs import Pairs, check_pairs
from janflask.schemas.sampling import Base
from janflask.schemas.tool_choice import ToolChoice, plan_of, word_of
from janflask.storage.answers import AnswerDraft
from janflask.storage.items import CALL_ID, CALLS, NAME, REASONING, kept_calls
from janflask.storage.records import MessageDraft, RunKind, text_part
from janflask.storage.rounds import Call

INCLUDE_USAGE, CALLS_FUNCTION = "include_usage", "calls_function"  # of what is told back: how it is told

_KEPT_BY_THEMSELVES = frozenset({"max_tokens", "max_completion_tokens"})
_MAX_NUMBER = 1 << 53
# What an answer that is stored cannot have, since a run gives it.
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "n": (1, "must be 1 with `store`: one answer is stored"),
    "continue_final_message": (False, "is not supported with `store`, which gives a new message"),
    "add_generation_prompt": (True, "must be true with `store`, which gives a new message"),
}


def stored_chat(data: Mapping[str, Any], sent: Mapping[str, Any]) -> AnswerDraft:
    """Out of a loaded request and what was sent. Raises ValidationError for what a stored chat cannot have.

    Each message is a line of the new thread, in the role and the form that it has.
    """
    _refuse(data)
    turns: Sequence[ChatMessage] = data["messages"]
    is_old = bool(data.get("functions"))
    choice = data.get("function_call" if is_old else "tool_choice")
    chosen = word_of(sent.get("function_call" if is_old else "tool_choice"))
    constraint_of(data)
    return AnswerDraft(
        kind=RunKind.CHAT,
        model=data["model"],
        input=tuple(_line(turn, message) for turn, message in zip(turns, sent["messages"], strict=True)),
        places=places("messages", len(turns)),
        tools=tuple(_tools(data, sent)),
        tool_choice=chosen,
        calls=plan_of(choice if isinstance(choice, ToolChoice) else ToolChoice()),
        parallel_tool_calls=data.get("parallel_tool_calls", True) and not is_old,
        response_format=data.get("response_format"),
        form=asked_for(data),
        parameters={
            name: value for name, value in data.items() if is_parameter(name) and name not in _KEPT_BY_THEMSELVES
        },
        max_tokens=data.get("max_completion_tokens", data.get("max_tokens")),
        top_logprobs=data.get("top_logprobs", 0) if data.get("logprobs") else None,
        metadata=check_pairs(data.get("metadata", {}), "metadata"),
        asked={
            INCLUDE_USAGE: data.get("stream_options", {}).get("include_usage", False),
            CALLS_FUNCTION: is_old,
        },
        stream=data.get("stream", False),
    )


def _refuse(data: Mapping[str, Any]) -> None:
    for name, (harmless, reason) in _REFUSED.items():
        if data.get(name, harmless) != harmless:
            raise ma.ValidationError(reason, name)
    if data.get("reasoning_format") == "none":
        raise ma.ValidationError("must be auto with `store`: what is thought is stored by itself", "reasoning_format")
    check_kept(data, ("chat_template_kwargs", "response_format", *FORM_FIELDS))


def _tools(data: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """As they were sent, in the newer form."""
    for name in ("tools", "functions"):
        if not data.get(name):
            continue
        try:
            listed = each(sent[name], check_object, f"a list of {name}", MAX_TOOLS)
        except ma.ValidationError as error:
            raise ma.ValidationError(error.messages, name) from error
        yield from listed if name == "tools" else ({"type": "function", "function": item} for item in listed)


# --- messages ---------------------------------------------------------------------------------------------------------


def _line(turn: ChatMessage, sent: Mapping[str, Any]) -> MessageDraft:
    extra: dict[str, Any] = {}
    if turn.name is not None:
        extra[NAME] = turn.name
    if turn.tool_call_id is not None:
        extra[CALL_ID] = turn.tool_call_id
    if turn.reasoning is not None:
        extra[REASONING] = turn.reasoning
    if turn.calls:
        calls = [Call(id=part.id, name=part.name, arguments=part.arguments) for part in turn.calls]
        extra[CALLS] = kept_calls(calls)
    return MessageDraft(role=turn.role, content=tuple(_content(turn, sent)), extra=extra)


def _content(turn: ChatMessage, sent: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts as they were sent; of a turn that says nothing there is an empty one, unless it calls."""
    content = sent.get("content")
    listed = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    parts = [_part(part) for part in listed] if any(part.get(part["type"]) for part in listed) else []
    if sent.get("refusal"):
        parts.append(_part({"type": "refusal", "refusal": sent["refusal"]}))
    return parts or ([] if turn.calls else [_part({"type": "text", "text": ""})])


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    return text_part(part["text"])


# --- later ------------------------------------------------------------------------------------------------------------


class StoredMessageQuerySchema(PageQuerySchema):
    """Which of a chat's messages are wanted."""

    order = Text(
        load_default="asc",
        validate=one_of(("asc", "desc")),
        metadata={"description": "`asc` oldest first, `desc` newest first."},
    )


class StoredChatQuerySchema(StoredMessageQuerySchema):
    """Which of the stored chats are wanted."""

    model = Text(load_default=None, metadata={"description": "Only those that this model answered."})


class StoredChatStreamSchema(Base):
    """How a stored chat is told."""

    stream = Text(
        load_default="false",
        validate=one_of(("true", "false")),
        metadata={"description": "`true`: as chunks, all of them or those behind `starting_after`, and what comes."},
    )
    starting_after = QueryWhole(
        load_default=None,
        validate=between(0, _MAX_NUMBER),
        metadata={"description": "With `stream`: how many chunks were heard; the stream goes on behind them."},
    )

    @ma.validates_schema
    def check_start(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Only a stream has chunks."""
        if data["starting_after"] is not None and data["stream"] != "true":
            raise ma.ValidationError("is only allowed when `stream` is true", "starting_after")


class StoredChatChangesSchema(Base):
    """What may change of a stored chat."""

    metadata = Pairs(required=True, allow_none=True)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields given; no ``metadata`` is an empty one."""
        return {"metadata": data["metadata"] or {}}
