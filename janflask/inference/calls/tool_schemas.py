"""What tools' arguments must look like: which schema holds a model, and by which a finished call is checked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from janflask.errors import InvalidRequestError
from janflask.inference.apart import remembered_apart
from janflask.inference.forms.constrained import Constrained, json_text, of_schema
from janflask.inference.forms.json_schema import MAX_BYTES
from janflask.inference.requests import Tool


def tool_schemas(tools: Sequence[Tool], place: str = "tools") -> list[Constrained]:
    """One for each. Raises InvalidRequestError, which names ``place``, the tool and the keyword."""
    found = [
        _of_tool(tool, _place(place, number if tool.number is None else tool.number))
        for number, tool in enumerate(tools)
    ]
    size = sum(len(schema.constraint.text) for schema in found)
    if size > MAX_BYTES:
        raise InvalidRequestError(
            f"{place}: the schemas of all tools are too long: {size} bytes, the limit is {MAX_BYTES}", param=place
        )
    return found


def _place(place: str, number: int) -> str:
    """Where a tool's schema is in the request; the older ``functions`` are not wrapped."""
    return f"{place}.{number}.parameters" if place == "functions" else f"{place}.{number}.function.parameters"


def _of_tool(tool: Tool, place: str) -> Constrained:
    text = json_text({"type": "object", **tool.parameters}, place)
    try:
        return _of_text(text, place)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{error.message} (the tool {tool.name})", param=error.param, code=error.code
        ) from error


@remembered_apart(512)
def _of_text(text: str, place: str) -> Constrained:
    return of_schema(json.loads(text), place)
