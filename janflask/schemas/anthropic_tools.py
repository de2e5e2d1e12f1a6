"""Tools in Anthropic's requests: those that a client carries out, and whether they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.calls.functions import MAX_TOOLS, NAME, NAME_ERROR
from janflask.inference.requests import CallChoice, Tool
from janflask.schemas.fields import each, flag_in, kind, text_in, wrong_type
from janflask.schemas.tool_choice import NONE, none_of

AUTO, ANY, ONE = "auto", "any", "tool"
CHOICES = (AUTO, ANY, ONE, NONE)
_CUSTOM = "custom"
_SEARCH = "tool_search_tool_"  # Anthropic's own search among deferred tools
_WITHOUT_SCHEMA = ("bash_", "text_editor_", "memory_", "computer_", "browser_")  # a client's, whose form Claude knows
_NEEDS = "needs `tools` that the model may call, and the request has none: leave it out, or set its type to none"


@dataclass(frozen=True, slots=True)
class Listed:
    """The request's tools: those told in front, and those that a reference has to name first."""

    tools: tuple[Tool, ...] = ()
    deferred: tuple[Tool, ...] = ()

    @property
    def names(self) -> Sequence[str]:
        """Of all of them."""
        return [tool.name for tool in (*self.tools, *self.deferred)]


@dataclass(frozen=True, slots=True)
class Choice:
    """``tool_choice``; ``name`` is the one tool that is to be called."""

    type: str = AUTO
    name: str | None = None
    parallel: bool = True

    def arguments(self) -> dict[str, Any]:
        """Those of ``ChatRequest``."""
        return {
            "call_choice": CallChoice.REQUIRED if self.type in (ANY, ONE) else CallChoice.AUTO,
            "callable_tools": None if self.name is None else frozenset({self.name}),
            "parallel_calls": self.parallel and self.name is None,
        }

    def check(self, tools: Listed) -> None:
        """Raises ValidationError where it cannot be had of these tools."""
        if self.type in (ANY, ONE) and not tools.tools and not tools.deferred:
            raise ma.ValidationError({"type": [_NEEDS]}, "tool_choice")
        if self.name is not None and self.name not in tools.names:
            raise ma.ValidationError({"name": [none_of(tools.names)]}, "tool_choice")


class Tools(fields.Field[Listed]):
    """``tools``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Listed:
        if not isinstance(value, list):
            raise wrong_type("a list of tools", value)
        if len(value) > MAX_TOOLS:
            raise ma.ValidationError(f"must hold at most {MAX_TOOLS} tools")
        made = each(value, _tool)
        tools = [tool for tool in made if tool is not None]
        _check_names(tools)
        # Nobody here searches: with Anthropic's search every tool is found at once.
        searches = len(tools) < len(made)
        deferred = [] if searches else [tool for tool in tools if value[tool.number or 0].get("defer_loading")]
        if deferred and len(deferred) == len(tools):
            raise ma.ValidationError("must hold a tool without `defer_loading`: nothing could load the others")
        return Listed(tuple(tool for tool in tools if tool not in deferred), tuple(deferred))


class ToolChoice(fields.Field[Choice]):
    """``tool_choice``."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Choice:
        if not isinstance(value, Mapping):
            raise wrong_type("an object with a type", value)
        chosen = value.get("type")
        if not isinstance(chosen, str) or chosen not in CHOICES:
            wrong = (
                "is required" if chosen is None else f"must be one of {', '.join(CHOICES)}, not {str(chosen)[:40]!r}"
            )
            raise ma.ValidationError({"type": [wrong]})
        single = flag_in(value, "disable_parallel_tool_use")
        return Choice(chosen, text_in(value, "name") if chosen == ONE else None, parallel=not single)


def _check_names(tools: Sequence[Tool]) -> None:
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise ma.ValidationError({tool.number: {"name": [f"comes twice: {tool.name}"]}})
        seen.add(tool.name)


def _tool(number: int, value: object) -> Tool | None:
    """None: a search of Anthropic's own, which is not needed here."""
    if not isinstance(value, Mapping):
        raise wrong_type("an object with name and input_schema", value)
    told = value.get("type")
    if isinstance(told, str) and told.startswith(_SEARCH):
        return None
    if told not in (None, _CUSTOM):
        raise ma.ValidationError({"type": [_why_not(str(told)[:64])]})
    name, schema = value.get("name"), value.get("input_schema")
    if not isinstance(name, str) or not NAME.match(name):
        raise ma.ValidationError({"name": ["is required" if name is None else NAME_ERROR]})
    if not isinstance(schema, dict):
        wrong = "is required" if schema is None else f"must be an object, not {kind(schema)}"
        raise ma.ValidationError({"input_schema": [wrong]})
    if schema.get("type", "object") != "object":
        raise ma.ValidationError({"input_schema": {"type": [f"must be object, not {str(schema['type'])[:40]!r}"]}})
    tool = Tool(name, _text(value, "description"), schema, flag_in(value, "strict"), number)
    flag_in(value, "defer_loading")
    return _with_examples(tool, value.get("input_examples"))


def _with_examples(tool: Tool, examples: object) -> Tool:
    """Told in its description: chat templates have no other place for them."""
    if examples in (None, []):
        return tool
    if not isinstance(examples, list) or not all(isinstance(item, dict) for item in examples):
        raise ma.ValidationError({"input_examples": ["must be a list of objects"]})
    lines = ["Examples of its input:", *(json.dumps(item, ensure_ascii=False) for item in examples)]
    return replace(tool, description="\n".join(filter(None, (tool.description, *lines))))


def _why_not(name: str) -> str:
    if name.startswith(_WITHOUT_SCHEMA):
        return f"{name} is a tool whose form only Claude knows: send it as a custom tool, with an input_schema"
    return f"{name} is a tool of Anthropic's servers, which are not asked from here: leave it out"


def _text(value: Mapping[str, Any], name: str) -> str | None:
    text = value.get(name)
    if not isinstance(text, str | None):
        raise ma.ValidationError({name: [f"must be a string, not {kind(text)}"]})
    return text
