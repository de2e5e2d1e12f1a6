"""Whether tools are called, and which: ``tool_choice`` and the older ``function_call``, in all their forms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.requests import CallChoice
from janflask.schemas.fields import error_at, kind
from janflask.storage.records import CallPlan

NONE = "none"
WORDS: Mapping[str, CallChoice] = {
    NONE: CallChoice.AUTO,  # of no tools
    "auto": CallChoice.AUTO,
    "required": CallChoice.REQUIRED,
    "any": CallChoice.REQUIRED,  # Mistral's word
}
OLD_WORDS: Mapping[str, CallChoice] = {word: WORDS[word] for word in (NONE, "auto")}
_FUNCTION, _ALLOWED = "function", "allowed_tools"
_TYPES = f"must be {_FUNCTION} or {_ALLOWED}, not {{!r}}"
_LISTED = 20  # names of tools in an error

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A tool's name, and its place in the choice."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """``named`` are those that may be called, None: all. ``is_one``: a function that is called once."""

    mode: CallChoice = CallChoice.AUTO
    named: tuple[Named, ...] | None = None
    is_one: bool = False

    @property
    def names(self) -> frozenset[str] | None:
        """Of the tools that may be called; None: all."""
        return None if self.named is None else frozenset(item.name for item in self.named)

    def check(self, field: str, known: Collection[str]) -> None:
        """Raises ValidationError for the first name that is none of the ``known`` ones."""
        for item in self.named or ():
            if item.name not in known:
                raise error_at(item.path, none_of(known), field)


def none_of(known: Collection[str]) -> str:
    """What is wrong with a name that is none of the ``known`` tools'."""
    listed = ", ".join(islice(known, _LISTED)) + ", ..." * (len(known) > _LISTED)
    return f"is none of the request's tools, which are {listed}"


def plan_of(choice: ToolChoice) -> CallPlan:
    """As a run keeps it."""
    names = None if choice.names is None else tuple(sorted(choice.names))
    return CallPlan(required=choice.mode is CallChoice.REQUIRED, names=names, is_one=choice.is_one)


def word_of(choice: object) -> object:
    """``auto`` for ``{"type": "auto"}``, as Cursor writes it; everything else as it is."""
    word = choice.get("type") if isinstance(choice, Mapping) else None
    return word if isinstance(word, str) and word in WORDS else choice


class ToolChoiceField(fields.Field[ToolChoice]):
    """A word, a function, or a list of tools that may be called; nested as in chats, or flat as in responses."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> ToolChoice:
        word = word_of(value)
        if not isinstance(word, Mapping):
            return ToolChoice(_mode(word, WORDS))
        chosen = word.get("type", _FUNCTION)
        if chosen == _ALLOWED:
            return self._allowed(word)
        if chosen != _FUNCTION:
            raise error_at(("type",), _TYPES.format(str(chosen)[:40]))
        return ToolChoice(CallChoice.REQUIRED, (_named(word, ()),), is_one=True)

    def _allowed(self, value: Mapping[str, Any]) -> ToolChoice:
        path: Path = (_ALLOWED,) if _ALLOWED in value else ()
        inner = value[_ALLOWED] if path else value
        if not isinstance(inner, Mapping):
            raise error_at(path, f"must be an object with mode and tools, not {kind(inner)}")
        mode, tools = inner.get("mode"), inner.get("tools")
        if mode not in ("auto", "required"):
            raise error_at(
                (*path, "mode"), f"must be auto or required, not {str(mode)[:40]!r}" if mode else "is required"
            )
        if not isinstance(tools, list) or not tools:
            raise error_at((*path, "tools"), "must be a list with a tool at least")
        return ToolChoice(WORDS[mode], tuple(_listed(tools, (*path, "tools"))))


class FunctionCallField(fields.Field[ToolChoice]):
    """A word, or a function's name."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> ToolChoice:
        if not isinstance(value, Mapping):
            return ToolChoice(_mode(value, OLD_WORDS))
        return ToolChoice(CallChoice.REQUIRED, (_flat(value, ()),), is_one=True)


def tool_choice_field() -> ToolChoiceField:
    """``tool_choice``."""
    function = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    named = {
        "type": "object",
        "required": ["type", "function"],
        "properties": {"type": {"type": "string", "enum": [_FUNCTION]}, "function": function},
    }
    allowed = {
        "type": "object",
        "required": ["mode", "tools"],
        "properties": {
            "mode": {"type": "string", "enum": ["auto", "required"]},
            "tools": {"type": "array", "minItems": 1, "items": named},
        },
    }
    listed = {
        "type": "object",
        "required": ["type", _ALLOWED],
        "properties": {"type": {"type": "string", "enum": [_ALLOWED]}, _ALLOWED: allowed},
    }
    about = (
        "`auto`: the model decides. `none`: it is shown no tools. `required`: it calls one at least, and says nothing "
        "else. A function: it calls this one, once. `allowed_tools`: of the tools that it is shown only these are "
        "called."
    )
    return ToolChoiceField(
        allow_none=True,
        metadata={
            "description": about,
            "oneOf": [{"type": "string", "enum": list(WORDS)}, named, listed],
            "nullable": True,
            "example": "auto",
        },
    )


def function_call_field() -> FunctionCallField:
    """``function_call``."""
    function = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    return FunctionCallField(
        allow_none=True,
        metadata={
            "description": "The older form of `tool_choice`: `auto`, `none`, or a function's name.",
            "oneOf": [{"type": "string", "enum": list(OLD_WORDS)}, function],
            "nullable": True,
            "example": "auto",
        },
    )


def _mode(value: object, words: Mapping[str, CallChoice]) -> CallChoice:
    if not isinstance(value, str):
        raise ma.ValidationError(f"must be a string or an object, not {kind(value)}")
    if value not in words:
        raise ma.ValidationError(f"must be one of {', '.join(words)}, or an object, not {value[:40]!r}")
    return words[value]


def _listed(tools: list[Any], path: Path) -> Iterator[Named]:
    for number, tool in enumerate(tools):
        place = (*path, number)
        if not isinstance(tool, Mapping):
            raise error_at(place, f"must be an object with type and function, not {kind(tool)}")
        if tool.get("type", _FUNCTION) != _FUNCTION:
            raise error_at((*place, "type"), f"must be {_FUNCTION}, not {str(tool['type'])[:40]!r}")
        yield _named(tool, place)


def _named(value: Mapping[str, Any], path: Path) -> Named:
    """In ``function``, or without it, as in responses."""
    function = value.get(_FUNCTION)
    if function is None and "name" in value:
        return _flat(value, path)
    if not isinstance(function, Mapping):
        wrong = "is required" if function is None else f"must be an object with a name, not {kind(function)}"
        raise error_at((*path, _FUNCTION), wrong)
    return _flat(function, (*path, _FUNCTION))


def _flat(value: Mapping[str, Any], path: Path) -> Named:
    name, place = value.get("name"), (*path, "name")
    if not isinstance(name, str):
        raise error_at(place, "is required" if name is None else f"must be a string, not {kind(name)}")
    return Named(name, place)
