"""Tools, and which of them are to be called, as each kind of server is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janflask.inference.requests import CallChoice, ChatRequest, Tool
from janflask.inference.upstream.kinds import Calling, Traits


class NotKnownError(Exception):
    """What a kind of server does not know: ``what``, which the request asks for by ``param``."""

    def __init__(self, param: str, what: str) -> None:
        super().__init__(what)
        self.param = param
        self.what = what


def told_tools(tools: Sequence[Tool]) -> dict[str, Any]:
    """The field that has them all."""
    return {"tools": [_told(tool) for tool in tools]} if tools else {}


def tool_fields(request: ChatRequest, traits: Traits) -> dict[str, Any]:
    """What a chat says of which tools are called; ``tools`` anew where fewer are told. Raises NotKnownError."""
    if not request.tools:
        return {}
    allowed = request.callables
    required = request.call_choice is CallChoice.REQUIRED
    if traits.calling is Calling.NAMED:
        if not required or len(allowed) != 1:
            raise NotKnownError("tools", "tools but one that has to be called: name it in `tool_choice`")
        return _named(allowed[0])  # it makes one call
    fields: dict[str, Any] = {} if request.parallel_calls else {"parallel_tool_calls": False}
    if request.callable_tools is None:
        return {**_choice(required), **fields}
    is_one = required and len(allowed) == 1 and not request.parallel_calls
    if is_one and traits.calling is not Calling.REQUIRED:
        return {**_named(allowed[0]), **fields}
    if traits.calling is Calling.ALLOWED:
        return {**_allowed(allowed, required), **fields}
    return {**told_tools(allowed), **_choice(required), **fields}


def _told(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(required: bool) -> dict[str, Any]:
    return {"tool_choice": "required"} if required else {}


def _named(tool: Tool) -> dict[str, Any]:
    return {"tool_choice": _reference(tool)}


def _allowed(tools: Sequence[Tool], required: bool) -> dict[str, Any]:
    mode = "required" if required else "auto"
    allowed = {"mode": mode, "tools": [_reference(tool) for tool in tools]}
    return {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}


def _reference(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.name}}
