"""What of a conversation comes from outside: everything but what the assistant said, thought and wrote as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import ChatMessage, Tool

Change = Callable[[str], str]
_LISTS = (list, tuple)  # as a constant: a union is made anew each time it is evaluated


@dataclass(frozen=True, slots=True)
class Told:
    """What a layout is made of; ``variables`` are a template's further ones."""

    messages: Sequence[ChatMessage]
    tools: Sequence[Tool]
    variables: Mapping[str, Any]

    def changed(self, change: Change) -> Told:
        """With every text from outside changed; the same text becomes the same wherever it stands.

        The names and ids in an assistant's calls are changed, too: a template compares them with those of tools and
        results.
        """
        return Told(
            tuple(_message(message, change) for message in self.messages),
            tuple(_tool(tool, change) for tool in self.tools),
            _value(self.variables, change),
        )

    def outside(self) -> dict[str, bool]:
        """Each text from outside, once, and whether it is a tool's: those come again with each request of an agent."""
        others, tools = Told(self.messages, (), self.variables), Told((), self.tools, {})
        return dict.fromkeys(others._texts(), False) | dict.fromkeys(tools._texts(), True)

    def _texts(self) -> list[str]:
        texts: list[str] = []

        def heard(text: str) -> str:
            texts.append(text)
            return text

        self.changed(heard)
        return texts

    def said(self) -> list[str]:
        """What the assistant said, thought and wrote as arguments."""
        parts = [part for message in self.messages if message.role == "assistant" for part in message.parts]
        return [part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", "") for part in parts]


def _message(message: ChatMessage, change: Change) -> ChatMessage:
    is_own = message.role == "assistant"
    return replace(
        message,
        parts=tuple(_part(part, is_own, change) for part in message.parts),
        name=None if message.name is None else change(message.name),
    )


def _part(part: Part, is_own: bool, change: Change) -> Part:
    if isinstance(part, ToolCallPart):
        return replace(part, id=change(part.id), name=change(part.name))
    if isinstance(part, ToolResultPart):
        return replace(part, text=change(part.text), call_id=None if part.call_id is None else change(part.call_id))
    if isinstance(part, TextPart | ReasoningPart) and not is_own:
        return replace(part, text=change(part.text))
    return part


def _tool(tool: Tool, change: Change) -> Tool:
    return replace(
        tool,
        name=change(tool.name),
        description=None if tool.description is None else change(tool.description),
        parameters=_value(tool.parameters, change),
    )


def _value(value: Any, change: Change) -> Any:
    """An agent's tools have thousands of values with each request: what JSON is made of is asked for first."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_value(key, change): _value(item, change) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_value(item, change) for item in value]
    return _value(dict(value), change) if isinstance(value, Mapping) else value
