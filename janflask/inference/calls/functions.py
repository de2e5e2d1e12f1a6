"""Tools as requests, assistants and threads name them, read without a schema: runs take them over from files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.requests import Tool

MAX_TOOLS = 1024
NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
NAME = re.compile(r"^[A-Za-z0-9_.\-]{1,128}\Z")
NAME_ERROR = "must have 1 to 128 letters, digits, _, . or -"
_READERS = ("retrieval", "file_search")  # look into files: without files there is nothing to do


def asks_for_nothing(tool: object) -> bool:
    """Jan lists tools, too, that are switched off, and those that look into files where there are none."""
    return isinstance(tool, Mapping) and (tool.get("enabled") is False or tool.get("type") in _READERS)


def is_function(tool: object) -> bool:
    """Whether it is a function that is called by whoever asked; no others are known here."""
    return isinstance(tool, Mapping) and tool.get("type") == "function"


def tools_of(listed: Sequence[Any], place: str) -> tuple[Tool, ...]:
    """The functions in ``listed`` that are not switched off. Raises InvalidRequestError that names what is wrong."""
    used = [number for number, item in enumerate(listed) if is_function(item) and not asks_for_nothing(item)]
    if len(used) > MAX_TOOLS:
        raise InvalidRequestError(f"{place} must hold at most {MAX_TOOLS} tools", param=place)
    tools = tuple(_tool(listed[number].get("function"), place, number) for number in used)
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise _wrong(f"{place}.{tool.number}.function.name", f"comes twice: {tool.name}")
        seen.add(tool.name)
    return tools


def _tool(function: object, listed: str, number: int) -> Tool:
    place = f"{listed}.{number}.function"
    if not isinstance(function, Mapping):
        raise _wrong(place, "must be an object with a name")
    name, told, parameters = function.get("name"), function.get("description"), function.get("parameters")
    if not isinstance(name, str) or not NAME.match(name):
        raise _wrong(f"{place}.name", NAME_ERROR)
    if not isinstance(told, str | None):
        raise _wrong(f"{place}.description", "must be a string")
    if not isinstance(parameters, Mapping | None):
        raise _wrong(f"{place}.parameters", "must be an object")
    if parameters and parameters.get("type", "object") != "object":
        raise _wrong(f"{place}.parameters.type", f"must be object, not {str(parameters['type'])[:40]!r}")
    if not isinstance(function.get("strict"), bool | None):
        raise _wrong(f"{place}.strict", "must be true or false")
    return Tool(name, told, dict(parameters or NO_ARGUMENTS), bool(function.get("strict")), number)


def _wrong(place: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place} {what}", param=place, code="invalid_value")
