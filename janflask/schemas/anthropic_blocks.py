"""The messages of Anthropic's requests: turns of blocks, each checked at its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.blocks import ASSISTANT, SYSTEM, USER, Block, Result, Thought, ToolReference, ToolRemoval, Turn
from janflask.inference.parts import TextPart, ToolCallPart
from janflask.schemas.chat import MAX_MESSAGES
from janflask.schemas.fields import call_id_in, each, flag_in, kind, text_in, within, wrong_type

ROLES = (USER, ASSISTANT, SYSTEM)
BILLING = "x-anthropic-billing-header:"  # leads a line of Claude Code's that is another one in each request

_PICTURE = "is a picture, which no model here can see yet: leave it out"
_DOCUMENT = "is a document, which no model here is shown: send its text in a text block"
_ELSEWHERE = "is what a tool of Anthropic's servers did, and there are none of these here: leave it out"
_REFUSED: Mapping[str, str] = {
    "image": _PICTURE,
    "document": _DOCUMENT,
    "search_result": "is a result of a search, which no model here is shown: send its text in a text block",
    "container_upload": _DOCUMENT,
    "browser_state": "is the state of a browser, which no model here is shown: send its text in a text block",
}

# Until when a system's message inside a conversation is shown.
_CLEARS: Mapping[Any, bool] = {None: False, "never": False, "next_user_message": True}

_Read = Callable[[Mapping[str, Any], str], Block]


class Turns(fields.Field[tuple[Turn, ...]]):
    """``messages``."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Turn, ...]:
        if not isinstance(value, list):
            raise wrong_type("a list of messages", value)
        if not 1 <= len(value) <= MAX_MESSAGES:
            raise ma.ValidationError(f"must hold from 1 to {MAX_MESSAGES} messages: send at least the user's")
        return tuple(each(value, lambda number, item: _turn(item, f"{attr}.{number}")))


class SystemText(fields.Field[tuple[TextPart, ...]]):
    """``system``: a string or text blocks, without the line that differs in each request."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[TextPart, ...]:
        if isinstance(value, str):
            parts = [TextPart(value)]
        elif isinstance(value, list):
            parts = each(value, lambda _, block: self._part(block))
        else:
            raise wrong_type("a string or a list of text blocks", value)
        return tuple(part for part in map(_without_billing, parts) if part.text)

    def _part(self, value: object) -> TextPart:
        block = _typed(value)
        if block["type"] != "text":
            raise _wrong("type", f"must be text, not {block['type'][:40]!r}")
        return TextPart(text_in(block, "text"))


def _without_billing(part: TextPart) -> TextPart:
    """It says who pays for what at Anthropic, instructs nobody, and would cost every request its cached prefix."""
    if not part.text.startswith(BILLING):
        return part
    return TextPart(part.text.partition("\n")[2].lstrip("\n"))


def _turn(value: object, place: str) -> Turn:
    if not isinstance(value, Mapping):
        raise wrong_type("an object with role and content", value)
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        wrong = "is required" if role is None else f"must be one of {', '.join(ROLES)}, not {str(role)[:40]!r}"
        raise ma.ValidationError({"role": [wrong]})
    if value.get("content") is None:
        raise ma.ValidationError({"content": ["is required"]})
    blocks = within("content", lambda: _blocks(value["content"], role, f"{place}.content"))
    clears = value.get("clear_at")
    if not isinstance(clears, str | None) or clears not in _CLEARS:
        raise _wrong("clear_at", f"must be next_user_message or never, not {str(clears)[:40]!r}")
    return Turn(role, blocks, place, passes=_CLEARS[clears] and role == SYSTEM)


def _blocks(content: object, role: str, place: str) -> tuple[Block, ...]:
    """What a turn says."""
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise wrong_type("a string or a list of blocks", content)
    blocks = each(content, lambda number, block: _block(block, role, f"{place}.{number}"))
    return tuple(blocks)


def _block(value: object, role: str, place: str) -> Block:
    block = _typed(value)
    name = block["type"]
    read, owner = _READERS.get(name, (None, None))
    if read is None:
        raise _wrong("type", _why_not(name))
    if owner not in (None, role):
        raise _wrong("type", f"{name} belongs to {_A[owner]} message, not to {_A[role]} message")
    return read(block, place)


def _typed(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong_type('an object like {"type": "text", "text": "..."}', value)
    if not isinstance(value.get("type"), str):
        raise _wrong("type", "is required" if value.get("type") is None else "must be a string")
    return value


def _why_not(name: str) -> str:
    if name in _REFUSED:
        return f"{name} {_REFUSED[name]}"
    if name == "server_tool_use" or name.endswith("_tool_result"):
        return f"{name[:64]} {_ELSEWHERE}"
    return f"must be one of {', '.join(_READERS)}, not {name[:40]!r}"


# --- blocks -----------------------------------------------------------------------------------------------------------


def _text(block: Mapping[str, Any], place: str) -> TextPart:
    return TextPart(text_in(block, "text"))


def _tool_use(block: Mapping[str, Any], place: str) -> ToolCallPart:
    arguments = block.get("input")
    if not isinstance(arguments, Mapping):
        raise _wrong("input", "is required" if arguments is None else f"must be an object, not {kind(arguments)}")
    return ToolCallPart(call_id_in(block, "id"), text_in(block, "name"), json.dumps(arguments, ensure_ascii=False))


def _tool_result(block: Mapping[str, Any], place: str) -> Result:
    content = block.get("content")
    items: list[str | ToolReference] = []
    if isinstance(content, str):
        items = [content]
    elif isinstance(content, list):
        items = within("content", lambda: each(content, lambda _, item: _result_item(item)))
    elif content is not None:
        raise _wrong("content", f"must be a string or a list of blocks, not {kind(content)}")
    return Result(call_id_in(block, "tool_use_id"), tuple(items), flag_in(block, "is_error"))


def _result_item(value: object) -> str | ToolReference:
    block = _typed(value)
    if block["type"] == "text":
        return text_in(block, "text")
    if block["type"] == "tool_reference":
        return ToolReference(text_in(block, "tool_name"))
    name = block["type"]
    reason = f"{name} {_REFUSED[name]}" if name in _REFUSED else f"must be text or tool_reference, not {name[:40]!r}"
    raise _wrong("type", reason)


def _thinking(block: Mapping[str, Any], place: str) -> Thought:
    return Thought(text_in(block, "thinking"), text_in(block, "signature"), f"{place}.signature")


def _redacted(block: Mapping[str, Any], place: str) -> Thought:
    return Thought("", text_in(block, "data"), f"{place}.data")


def _tool_addition(block: Mapping[str, Any], place: str) -> ToolReference:
    return ToolReference(_changed_tool(block))


def _tool_removal(block: Mapping[str, Any], place: str) -> ToolRemoval:
    return ToolRemoval(_changed_tool(block))


def _changed_tool(block: Mapping[str, Any]) -> str:
    """The name of one of the request's tools."""
    return within("tool", lambda: _referenced(block.get("tool")))


def _referenced(value: object) -> str:
    tool = _typed(value)
    if tool["type"] != "tool_reference":
        raise _wrong("type", f"must be tool_reference, not {tool['type'][:40]!r}: list the tool in `tools`")
    return text_in(tool, "name")


# Each type, and the role that it belongs to (None: any).
_READERS: Mapping[str, tuple[_Read, str | None]] = {
    "text": (_text, None),
    "tool_use": (_tool_use, ASSISTANT),
    "tool_result": (_tool_result, USER),
    "thinking": (_thinking, ASSISTANT),
    "redacted_thinking": (_redacted, ASSISTANT),
    "tool_addition": (_tool_addition, SYSTEM),
    "tool_removal": (_tool_removal, SYSTEM),
}
_A: Mapping[str | None, str] = {USER: "a user's", ASSISTANT: "an assistant's", SYSTEM: "a system"}


def _wrong(name: str, message: str) -> ma.ValidationError:
    return ma.ValidationError({name: [message]})
