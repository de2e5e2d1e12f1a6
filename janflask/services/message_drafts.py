"""A message of Anthropic's form that goes on with a conversation of the store: what is asked of the answer's run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.blocks import ASSISTANT, MessagesRequest
from janflask.inference.parts import ReasoningPart, ToolCallPart
from janflask.inference.requests import CallChoice, ChatMessage, ChatRequest, Tool
from janflask.storage.answers import AnswerDraft
from janflask.storage.items import CallDraft, ItemDraft, OutputDraft, ReasoningDraft
from janflask.storage.records import CallPlan, MessageDraft, text_part


def answer_draft(request: MessagesRequest, chat: ChatRequest) -> AnswerDraft:
    """``chat`` is what a model would be asked, of which the messages are new, and the system's the instructions.

    Raises InvalidRequestError for what an answer that is stored cannot have.
    """
    if chat.continue_final_message:
        raise _cannot("messages", "must not end with the assistant's: with `conversation` the answer is a new message")
    if request.only_reads:
        raise _cannot("max_tokens", "must be from 1 with `conversation`: the answer is stored")
    if request.is_diagnosed:
        raise _cannot("diagnostics", "cannot be had with `conversation`: the prompt begins with what is stored")
    leading = len(request.chat.messages)
    items = [item for message in chat.messages[leading:] for item in _items(message)]
    return AnswerDraft(
        model=chat.model,
        conversation=request.conversation,
        input=tuple(items),
        places=("messages",) * len(items),
        instructions="\n".join(message.text for message in chat.messages[:leading]) or None,
        tools=tuple({**tool.as_told(), "function": _function(tool)} for tool in chat.tools),
        tool_choice=_choice(chat),
        calls=_plan(chat),
        parallel_tool_calls=chat.parallel_calls,
        response_format=_format(request.schema),
        parameters=_parameters(chat),
        max_tokens=chat.max_tokens,
        asked={
            "conversation": request.conversation,
            "max_output_tokens": chat.max_tokens,
            "tools": [{"type": "function", **_function(tool)} for tool in chat.tools],
        },
        stream=chat.stream,
    )


def _items(message: ChatMessage) -> Iterator[ItemDraft]:
    """In the order in which an assistant makes them: thoughts, words, calls."""
    if message.tool_call_id is not None:
        yield OutputDraft(message.tool_call_id, message.text)
        return
    yield from (ReasoningDraft(part.text) for part in message.parts if isinstance(part, ReasoningPart))
    if message.text or message.role != ASSISTANT:
        yield MessageDraft(role=message.role, content=(text_part(message.text),))
    for part in message.parts:
        if isinstance(part, ToolCallPart):
            yield CallDraft(part.id, part.name, part.arguments)


def _function(tool: Tool) -> dict[str, Any]:
    return {**tool.as_told()["function"], "strict": tool.strict}


def _choice(chat: ChatRequest) -> Any:
    """In the words of chat completions."""
    plan = _plan(chat)
    if plan.is_one and plan.names:
        return {"type": "function", "function": {"name": plan.names[0]}}
    return "required" if plan.required else None


def _plan(chat: ChatRequest) -> CallPlan:
    """The one function that is left of several may be called more than once."""
    required = chat.call_choice is CallChoice.REQUIRED
    names = None if chat.callable_tools is None else tuple(sorted(chat.callable_tools))
    is_one = required and names is not None and len(names) == 1 and not chat.parallel_calls
    return CallPlan(required=required, names=names, is_one=is_one)


def _format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return (
        None if schema is None else {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
    )


def _parameters(chat: ChatRequest) -> dict[str, Any]:
    given = {
        **chat.sampling,
        "stop": None if chat.stop is None else list(chat.stop),
        "cache_prompt": chat.cache_prompt,
        "chat_template_kwargs": dict(chat.template_kwargs) or None,
        "reasoning_budget": chat.thought_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}


def _cannot(field: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field} {what}", param=field, code="invalid_value")
