"""A schema taken apart, for notations that llguidance knows no schema for: which plain forms a value may have.

What ``prepare`` made ready to be held goes in. A form has no ``$ref``, ``allOf``, ``anyOf`` and ``oneOf`` of its own;
what is below it may. Where schemas cannot be put together exactly a form is wider than they are: answers are checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from janflask.errors import InvalidRequestError

Schema = dict[str, Any]
MAX_FORMS = 1000  # of one value
MAX_STEPS = 20_000  # to find them: references and alternatives within each other
_LEAST = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_MOST = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
_OF_TYPE = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
TYPES = ("object", "array", "string", "number", "boolean", "null")


class Forms:
    """Of one schema, whose references lead to places in ``root``; ``place`` is for errors."""

    def __init__(self, root: Schema, place: str) -> None:
        self.root = root
        self.place = place
        self._steps = 0

    def plain(self, schema: Any) -> list[Schema]:
        """The forms that a value may have; empty: there is none. Raises InvalidRequestError for too many."""
        self._steps = 0
        return list(self._plain(schema, frozenset()))

    def closed(self, schema: Any) -> Any:
        """The same with what it leads to in its own ``$defs``."""
        definitions: dict[str, Any] = {}
        names: dict[str, str] = {}
        waiting: list[str] = []

        def copied(value: Any) -> Any:
            if isinstance(value, list):
                return [copied(item) for item in value]
            if not isinstance(value, dict):
                return value
            out = {key: copied(item) for key, item in value.items() if key not in ("$defs", "definitions")}
            if isinstance(out.get("$ref"), str):
                if out["$ref"] not in names:
                    names[out["$ref"]] = f"d{len(names)}"
                    waiting.append(out["$ref"])
                out["$ref"] = f"#/$defs/{names[out['$ref']]}"
            return out

        body = copied(schema)
        while waiting:
            reference = waiting.pop()
            definitions[names[reference]] = copied(self._target(reference))
        return {**body, "$defs": definitions} if definitions else body

    def refuse(self, what: str, *path: str) -> InvalidRequestError:
        """An error about this schema."""
        param = ".".join((self.place, *path))
        return InvalidRequestError(f"{param} {what}", param=param, code="invalid_schema")

    def _plain(self, schema: Any, seen: frozenset[str]) -> Iterator[Schema]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self.refuse("is too complex: its references and alternatives lead on and on")
        if schema is True:
            yield {}
        if not isinstance(schema, dict):
            return
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}
        parts: list[list[Schema]] = [[rest]]
        if "$ref" in schema:
            if schema["$ref"] in seen:
                return  # it leads to itself: there is no such value
            seen |= {schema["$ref"]}
            parts.append(list(self._plain(self._target(schema["$ref"]), seen)))
        parts += [list(self._plain(part, seen)) for part in schema.get("allOf", ())]
        for name in filter(schema.__contains__, ("anyOf", "oneOf")):
            options: list[Schema] = []
            for option in schema[name]:
                options += self._plain(option, seen)
                self._check_number(len(options))
            parts.append(options)
        yield from self._joined(parts)

    def _joined(self, parts: list[list[Schema]]) -> Iterator[Schema]:
        """Every way to take one of each."""
        forms = parts[0]
        for options in parts[1:]:
            self._check_number(len(forms) * len(options))
            forms = [joined for form in forms for option in options if (joined := merged(form, option)) is not None]
        yield from forms

    def _check_number(self, number: int) -> None:
        if number > MAX_FORMS:
            raise self.refuse(f"leaves too many alternatives at one place: the limit is {MAX_FORMS}")

    def _target(self, reference: str) -> Any:
        found: Any = self.root
        for step in reference.split("/")[1:]:
            found = found[step.replace("%25", "%").replace("~1", "/").replace("~0", "~")]
        return found


def merged(one: Schema, other: Schema) -> Schema | None:
    """A value of both; None: there is none."""
    out = {**one, **other}
    for name in one.keys() & other.keys():
        mine, theirs = one[name], other[name]
        if name == "properties":
            same = {key: {"allOf": [mine[key], theirs[key]]} for key in mine.keys() & theirs.keys()}
            out[name] = {**mine, **theirs, **same}
        elif name == "required":
            out[name] = list(dict.fromkeys((*mine, *theirs)))
        elif name == "type":
            out[name] = [kind for kind in types(one) if kind in types(other)] or None
        elif name == "enum":
            out[name] = [value for value in mine if _text(value) in map(_text, theirs)]
        elif name in _LEAST:
            out[name] = max(mine, theirs)
        elif name in _MOST:
            out[name] = min(mine, theirs)
    return None if out.get("type", "") is None else out


def types(form: Schema) -> list[str]:
    """Those that a form's values may have, as far as it says; an integer is a type of its own only if it is named."""
    named = form.get("type")
    if named is not None:
        return [named] if isinstance(named, str) else list(named)
    if "const" in form or "enum" in form:
        return list(TYPES)
    implied = [kind for kind, names in _OF_TYPE.items() if any(name in form for name in names)]
    return implied or list(TYPES)


def has_type(value: object, kinds: list[str]) -> bool:
    """Whether a value of an enum or a const has one of these types."""
    match value:
        case bool():
            return "boolean" in kinds
        case None:
            return "null" in kinds
        case str():
            return "string" in kinds
        case int():
            return "integer" in kinds or "number" in kinds
        case float():
            return "number" in kinds or ("integer" in kinds and value.is_integer())
        case list():
            return "array" in kinds
    return "object" in kinds


def keywords(form: Schema, kind: str) -> Schema:
    """Those that are about values of one type."""
    return {name: form[name] for name in _OF_TYPE["number" if kind == "integer" else kind] if name in form}


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
