"""Tools in requests: what may be called, what was called, and who decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.calls.functions import MAX_TOOLS, NAME, NAME_ERROR, NO_ARGUMENTS
from janflask.inference.parts import ToolCallPart
from janflask.inference.requests import Tool
from janflask.schemas.fields import MAX_CALL_ID, Text, optional_flag, wrong_type
from janflask.schemas.sampling import Base
from janflask.schemas.tool_choice import NONE, ToolChoice, function_call_field, tool_choice_field, word_of

_NEEDS = "needs `{}`, and the request has none: leave it out, or set it to none"
_OBJECT: dict[str, Any] = {"type": "must be an object", "required": "is required", "null": "must not be null"}


def _name_field() -> Text:
    return Text(
        required=True,
        validate=validate.Regexp(NAME, error=NAME_ERROR),
        metadata={"example": "get_weather"},
    )


class Arguments(fields.Field[str]):
    """What a model wrote: a string with JSON in it; an object is taken, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
        raise wrong_type("a string with a JSON object in it", value)


class CalledFunctionSchema(Base):
    """The function of a call."""

    name = _name_field()
    arguments = Arguments(
        load_default="{}", metadata={"type": "string", "description": "JSON, as the model wrote it.", "example": "{}"}
    )

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> tuple[str, str]:
        """Name and arguments."""
        return data["name"], data["arguments"]


class ToolCallSchema(Base):
    """A call that an assistant made."""

    id = Text(
        required=True, validate=validate.Length(1, MAX_CALL_ID), metadata={"description": "The tool's result names it."}
    )
    type = Text(load_default="function", validate=validate.OneOf(["function"], error="must be function, not {input!r}"))
    function = fields.Nested(CalledFunctionSchema, required=True, error_messages=_OBJECT)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> ToolCallPart:
        """The dataclass."""
        return ToolCallPart(data["id"], *data["function"])


class FunctionSchema(Base):
    """A function that a model may call."""

    name = _name_field()
    description = Text(allow_none=True, metadata={"description": "What it does: read by the model."})
    parameters = fields.Dict(
        keys=Text(),
        allow_none=True,
        error_messages={"invalid": "must be an object"},
        metadata={"description": "The JSON schema of its arguments. Left out: it has none."},
    )
    strict = optional_flag("Makes no difference: every call is held to its schema.", default=False)

    @ma.validates_schema
    def check_parameters(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Arguments are an object."""
        form = (data.get("parameters") or {}).get("type", "object")
        if form != "object":
            raise ma.ValidationError({"type": [f"must be object, not {form!r}"]}, "parameters")

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> Tool:
        """The dataclass."""
        parameters = data.get("parameters") or NO_ARGUMENTS
        return Tool(data["name"], data.get("description"), parameters, data.get("strict", False))


class ToolSchema(Base):
    """A tool."""

    type = Text(
        required=True,
        validate=validate.OneOf(["function"], error="must be function, no other tools are known here, not {input!r}"),
        metadata={"example": "function"},
    )
    function = fields.Nested(FunctionSchema, required=True, error_messages=_OBJECT)


class ToolsSchema(Base):
    """The fields of a request that are about tools."""

    tools = fields.List(
        fields.Nested(ToolSchema, error_messages={"type": "must be an object with type and function"}),
        allow_none=True,
        validate=validate.Length(max=MAX_TOOLS, error=f"must hold at most {MAX_TOOLS} tools"),
        error_messages={"invalid": "must be a list of tools"},
        metadata={"description": "What the model may call."},
    )
    tool_choice = tool_choice_field()
    parallel_tool_calls = optional_flag("False: no call but the first is told.", default=True)
    functions = fields.List(
        fields.Nested(FunctionSchema, error_messages={"type": "must be an object"}),
        allow_none=True,
        validate=validate.Length(max=MAX_TOOLS, error=f"must hold at most {MAX_TOOLS} functions"),
        error_messages={"invalid": "must be a list of functions"},
        metadata={"description": "The older form of `tools`; the answer has a `function_call`."},
    )
    function_call = function_call_field()

    @ma.validates_schema
    def check_tools(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Each name once, not both forms, and no choice that is not among them."""
        if data.get("tools") and data.get("functions"):
            raise ma.ValidationError("cannot be given together with `tools`: leave them out", "functions")
        seen: dict[str, None] = {}  # in the request's order
        for number, tool in enumerate(chosen_tools(data)):
            if tool.name in seen:
                twice: dict[str, Any] = {"name": [f"comes twice: {tool.name}"]}
                if data.get("functions"):
                    raise ma.ValidationError({number: twice}, "functions")
                raise ma.ValidationError({number: {"function": twice}}, "tools")
            seen[tool.name] = None
        _choice(data).check("function_call" if data.get("functions") else "tool_choice", seen.keys())

    @ma.pre_load
    def choose(self, data: Any, **kwargs: Any) -> Any:
        """Without tools that must not be called: nobody reads them. Of no tools, none can be asked for."""
        if not isinstance(data, dict):
            return data
        for listed, choice in (("tools", "tool_choice"), ("functions", "function_call")):
            chosen = word_of(data.get(choice))
            if chosen == NONE:
                data = {name: value for name, value in data.items() if name != listed}
            elif not data.get(listed) and chosen not in (None, "auto"):
                raise ma.ValidationError(_NEEDS.format(listed), choice)
        return data


def chosen_tools(data: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Those of a loaded request that the model is shown."""
    tools: list[Tool] = data.get("functions") or [tool["function"] for tool in data.get("tools") or ()]
    return tuple(replace(tool, number=number) for number, tool in enumerate(tools))


def of_calls(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``ChatRequest`` about calls out of a loaded request."""
    choice, is_old = _choice(data), bool(data.get("functions"))
    return {
        "call_choice": choice.mode,
        "callable_tools": choice.names,
        "parallel_calls": data.get("parallel_tool_calls", True) and not choice.is_one and not is_old,
        "calls_function": is_old,
    }


def _choice(data: Mapping[str, Any]) -> ToolChoice:
    """That of the form in which the request has its tools."""
    found = data.get("function_call" if data.get("functions") else "tool_choice")
    return found if isinstance(found, ToolChoice) else ToolChoice()
