"""Tools of a response: functions, those in namespaces and custom ones as functions; what is left out.

A model is offered functions only, in the form of chat completions. A function in a namespace gets the namespace in
front of its name, a custom tool one argument, ``input``. ``callees`` says what a call by such a name is to the client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.calls.functions import MAX_TOOLS
from janflask.inference.requests import Tool
from janflask.schemas.fields import Text, error_at, kind
from janflask.schemas.objects import check_object
from janflask.schemas.sampling import Base
from janflask.schemas.tool_choice import ToolChoice, ToolChoiceField
from janflask.schemas.tools import FunctionSchema

FUNCTION, CUSTOM, NAMESPACE = "function", "custom", "namespace"
INPUT = "input"  # the one argument of a custom tool
MAX_TOOL_BYTES = 256 << 10  # of one tool as JSON
# And their dated names: clients send them without need. Codex sends the second where it knows a model's name.
_SENT_ALONG = ("web_search", "tool_search", "web_search_preview")
_BUILT_IN = (
    "must be function, custom or namespace: there are no built-in tools here, so {!r} cannot be used; leave it out"
)


@dataclass(frozen=True, slots=True)
class ResponseTools:
    """``functions`` are what a model is offered, in the form of chats.

    ``told`` are the tools as they were sent, without those of the types ``left_out``; ``numbers`` are their places.
    """

    functions: tuple[Mapping[str, Any], ...] = ()
    told: tuple[Mapping[str, Any], ...] = ()
    numbers: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the functions, in order."""
        return tuple(item["function"]["name"] for item in self.functions)


@dataclass(frozen=True, slots=True)
class Callee:
    """What is called, as its client knows it."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


def flat_name(name: str, namespace: str | None) -> str:
    """The name of a function as a model knows it."""
    if not namespace:
        return name
    return namespace + ("" if namespace.endswith("__") else "__") + name


def callees(tools: Sequence[Mapping[str, Any]]) -> dict[str, Callee]:
    """By the names that a model knows, those tools that its client knows by another or as custom ones."""
    flat = _flat(tools, range(len(tools)))
    found = ((tool, namespace) for tool, namespace, _ in flat if namespace or tool.get("type") == CUSTOM)
    return {
        flat_name(tool["name"], namespace): Callee(tool["name"], namespace, tool.get("type") == CUSTOM)
        for tool, namespace in found
    }


def places_of(asked: Mapping[str, Any]) -> list[str]:
    """Where in a request each of the functions stands that a model is offered, out of what is told back of it."""
    sent = asked.get("tool_numbers") or range(len(asked.get("tools", ())))
    return [place for _, _, place in _flat(asked.get("tools", ()), sent)]


def custom_input(arguments: str) -> str:
    """What a custom tool is given, out of the arguments of the function in its place."""
    try:
        given = json.loads(arguments)
    except ValueError:
        return arguments  # a call that was cut off, or is not what it was held to
    text = given.get(INPUT) if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


class NamespaceSchema(Base):
    """Functions under a common name."""

    name = Text(required=True, validate=ma.validate.Length(1, 64, error="must have {min} to {max} characters"))
    description = Text(allow_none=True)
    tools = fields.Raw(required=True, error_messages={"required": "is required", "null": "must not be null"})


class ResponseToolsField(fields.Field[ResponseTools]):
    """A list of tools."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> ResponseTools:
        if not isinstance(value, list):
            raise ma.ValidationError(f"must be a list of tools, not {kind(value)}")
        functions: list[Mapping[str, Any]] = []
        places: list[str] = []
        errors: dict[int, Any] = {}
        told: dict[int, Mapping[str, Any]] = {}
        left_out = []
        for number, tool in enumerate(value):
            try:
                if _is_left_out(tool):
                    left_out.append(str(tool["type"]))
                    continue
                told[number] = check_object(tool, MAX_TOOL_BYTES)
                for place, function in _offered(tool):
                    functions.append({"type": FUNCTION, FUNCTION: function})
                    places.append(f"tools.{number}{place}")
            except ma.ValidationError as error:
                errors[number] = error.messages
        if errors:
            raise ma.ValidationError(errors)
        _check_names(functions, places)
        return ResponseTools(tuple(functions), tuple(told.values()), tuple(told), tuple(left_out))


class ResponseToolChoiceField(ToolChoiceField):
    """As in chats; also a custom tool, and functions in a namespace. What is left out may be among those allowed."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> ToolChoice:
        return super()._deserialize(offered_choice(value), attr, data, **kwargs)


def offered_choice(choice: Any) -> Any:
    """A ``tool_choice`` in terms of the functions that a model is offered; anything unknown as it is.

    Raises ValidationError for a namespace that is none.
    """
    if not isinstance(choice, Mapping):
        return choice
    name, namespace = choice.get("name"), choice.get("namespace")
    if choice.get("type") in (FUNCTION, CUSTOM) and isinstance(name, str):
        if not isinstance(namespace, str | None):
            raise ma.ValidationError({"namespace": [f"must be a string, not {kind(namespace)}"]})
        return {"type": FUNCTION, "name": flat_name(name, namespace)}
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [offered_choice(tool) for tool in choice["tools"] if not _is_left_out(tool)]
        return {**choice, "tools": tools}
    return choice


def _is_left_out(tool: Any) -> bool:
    name = tool.get("type") if isinstance(tool, Mapping) else None
    return isinstance(name, str) and any(name == known or name.startswith(f"{known}_20") for known in _SENT_ALONG)


def _offered(tool: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The functions of one tool, and where in it each stands. Raises ValidationError."""
    if tool.get("type") != NAMESPACE:
        yield "", _function(tool, None)
        return
    space = NamespaceSchema().load(tool)
    if not isinstance(space["tools"], list):
        raise ma.ValidationError({"tools": [f"must be a list of functions, not {kind(space['tools'])}"]})
    for number, inner in enumerate(space["tools"]):
        try:
            yield f".tools.{number}", _function(inner, space["name"])
        except ma.ValidationError as error:
            raise ma.ValidationError({"tools": {number: error.messages}}) from error


def _function(tool: Any, namespace: str | None) -> dict[str, Any]:
    """As chats have it. Raises ValidationError."""
    if not isinstance(tool, Mapping):
        raise ma.ValidationError(f"must be an object with type and name, not {kind(tool)}")
    if tool.get("type") not in (FUNCTION, CUSTOM):
        if "type" not in tool:
            raise ma.ValidationError({"type": ["is required"]})
        raise ma.ValidationError({"type": [_BUILT_IN.format(str(tool["type"])[:40])]})
    nested = tool.get(FUNCTION)
    flat = nested if isinstance(nested, Mapping) else tool  # in a chat's form
    name = flat.get("name")
    named = {**flat, "name": flat_name(name, namespace) if isinstance(name, str) else name}
    loaded: Tool = FunctionSchema().load(_as_function(named) if tool["type"] == CUSTOM else named)
    return {
        "name": loaded.name,
        "description": loaded.description or "",
        "parameters": loaded.parameters,
        "strict": loaded.strict,
    }


def _as_function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A custom tool: free text, whose form it can be told but not be held to."""
    form = tool.get("format")
    about = tool.get("description") or ""
    if isinstance(form, Mapping) and form.get("type") == "grammar":
        about += f"\n\nThe input follows this {form.get('syntax', 'lark')} grammar:\n{form.get('definition', '')}"
    given = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    return {"name": tool.get("name"), "description": about.strip(), "parameters": given}


def _check_names(functions: Sequence[Mapping[str, Any]], places: Sequence[str]) -> None:
    if len(functions) > MAX_TOOLS:
        raise ma.ValidationError(f"must hold at most {MAX_TOOLS} tools")
    seen: set[str] = set()
    for item, place in zip(functions, places, strict=True):
        name = item[FUNCTION]["name"]
        if name in seen:
            raise error_at([*place.split(".")[1:], "name"], f"comes twice: {name}")
        seen.add(name)


def _flat(
    tools: Sequence[Mapping[str, Any]], numbers: Sequence[int]
) -> Iterator[tuple[Mapping[str, Any], str | None, str]]:
    """Each function and custom tool, its namespace, and its place; ``numbers`` are those of ``tools``."""
    for number, tool in zip(numbers, tools, strict=True):
        if tool.get("type") == NAMESPACE:
            for inner_number, inner in enumerate(tool["tools"]):
                yield inner, tool["name"], f"tools.{number}.tools.{inner_number}"
        elif tool.get("type") in (FUNCTION, CUSTOM):
            yield tool, None, f"tools.{number}"
