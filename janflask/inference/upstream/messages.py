"""Conversations as OpenAI's clients write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from janflask.inference.parts import ToolCallPart, ToolResultPart
from janflask.inference.requests import ChatMessage
from janflask.inference.upstream.kinds import Traits


def openai_messages(messages: Iterable[ChatMessage], traits: Traits) -> list[dict[str, Any]]:
    """A conversation. A tool's result that names no call (of the time before there were tools) answers the next one."""
    entries = []
    waiting: list[str] = []  # calls that have no result yet
    for message in messages:
        if message.calls:
            waiting = [call.id for call in message.calls]
        elif message.role == "tool":
            message = _answering(message, waiting)
        entries.append(_entry(message, traits))
    return entries


def _answering(message: ChatMessage, waiting: list[str]) -> ChatMessage:
    call_id = message.tool_call_id
    if call_id in waiting:
        waiting.remove(call_id)
    if call_id is not None or not waiting:
        return message
    return replace(message, parts=(ToolResultPart(message.text, waiting.pop(0)),))


def _entry(message: ChatMessage, traits: Traits) -> dict[str, Any]:
    """One turn.

    What an assistant thought goes with it where the server has a field for it: OpenAI's own has none, and models are
    not to see earlier thoughts unless their template wants to.
    """
    role = message.role
    if role == "developer" and not traits.developer_role:
        role = "system"  # another name of the same
    only_calls = message.calls and not message.text and traits.null_content
    out: dict[str, Any] = {"role": role, "content": None if only_calls else message.text}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.reasoning and traits.reasoning_field:
        out["reasoning_content"] = message.reasoning
    if message.calls:
        out["tool_calls"] = [_call(call) for call in message.calls]
    return out


def _call(call: ToolCallPart) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def begun_with(
    messages: tuple[ChatMessage, ...], begun: str, reasoning: str, *, in_last: bool
) -> tuple[ChatMessage, ...]:
    """``messages`` with the beginning of an answer behind them, or, with ``in_last``, behind the last one's words."""
    if in_last:
        return (*messages[:-1], messages[-1].saying(messages[-1].text + begun))
    return (*messages, ChatMessage.of("assistant", begun, reasoning=reasoning or None))
