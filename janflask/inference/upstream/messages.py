"""Conversations as OpenAI's clients write them."""

from __future__ import annotations

from typing import Any

from janflask.inference.requests import ChatMessage
from janflask.inference.upstream.kinds import Traits


def openai_message(message: ChatMessage, traits: Traits) -> dict[str, Any]:
    """One turn.

    What an assistant thought goes with it where the server has a field for it: OpenAI's own has none, and models are
    not to see earlier thoughts unless their template wants to.
    """
    role = message.role
    if role == "developer" and not traits.developer_role:
        role = "system"  # another name of the same
    out: dict[str, Any] = {"role": role, "content": message.text}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.reasoning and traits.reasoning_field:
        out["reasoning_content"] = message.reasoning
    return out


def begun_with(messages: tuple[ChatMessage, ...], begun: str, *, in_last: bool) -> tuple[ChatMessage, ...]:
    """``messages`` with the beginning of an answer behind them, or, with ``in_last``, behind the last one's words."""
    if in_last:
        return (*messages[:-1], messages[-1].saying(messages[-1].text + begun))
    return (*messages, ChatMessage.of("assistant", begun))
