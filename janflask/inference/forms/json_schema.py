"""A client's JSON schema, made ready: what the model is held to while it writes, and what its answer is checked by.

llguidance, which holds the model to a schema, does not know every keyword, and passes over some without a word. So
every keyword is decided on here:

1. An annotation (``title``, ``default``, ``x-...``) means nothing for an answer and is left out.
2. What llguidance does is handed on.
3. What it cannot do, but a check of the whole answer can (``uniqueItems``, formats), holds the model as far as
   possible, and the answer is checked: ``held`` is wider than ``checked``.
4. All else is refused, with the keyword and its place.

``held`` is narrower in one way: an object that lists its properties and does not say what of others has no others, as
in OpenAI's strict mode. Every document of such a schema is one of the client's as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.forms.schema_formats import FORMATS, NARROWER, NUMBER_FORMATS, PATTERNS

Schema = dict[str, Any]

MAX_BYTES = 512 * 1024  # of a schema, or a grammar
MAX_DEPTH = 100  # lists and objects within each other, in the schema as JSON
MAX_PROPERTIES = 1000  # of one object: those that may be left out cost the square of their number
MAX_DEFINITIONS = 1000  # a reference to a reference is followed by recursion
MAX_MULTIPLE = 10_000  # a divisor's automaton has that many states
# In a pattern what no automaton can do: looking ahead or back, or at what a group held.
BEYOND = re.compile(r"\(\?(?:[=!]|<[=!])|\\[bB1-9]")
FAR = 2**53  # bounds of numbers beyond it are checked only
FINE = 1e-6  # as are those with more digits behind the point

ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "example", "$schema", "$id", "id", "$comment", "deprecated"),
        *("readOnly", "writeOnly", "discriminator", "xml", "externalDocs", "enumNames", "markdownDescription"),
        *("contentMediaType", "contentEncoding", "contentSchema"),
    )
)
HELD = frozenset(
    (
        *("type", "enum", "const", "required", "$ref", "pattern", "minLength", "maxLength", "minItems", "maxItems"),
        *("minProperties", "maxProperties"),
    )
)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
MAPS = ("properties", "patternProperties", "$defs", "definitions")  # names to schemas
SINGLE = ("items", "additionalProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
CHECKED = ("uniqueItems", "propertyNames", "unevaluatedProperties")
ADVICE = {
    "nullable": 'use a "type" that includes "null"',
    "dependencies": "use anyOf",
    "dependentRequired": "use anyOf",
    "dependentSchemas": "use anyOf",
    "if": "use anyOf",
    "not": "say what may be, with enum, pattern or anyOf",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "$anchor": "use $ref with a path, like #/$defs/name",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """``held`` is what the model is held to, ``checked`` what its answers are checked by: the client's own."""

    held: Schema
    checked: Schema


def prepare(schema: object, place: str) -> Prepared:
    """Raises InvalidRequestError, which names ``place`` and the path below it, for what cannot be done."""
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{place} must be a JSON schema, an object", param=place)
    _check_depth(schema, place)
    walk = _Walk(schema, place)
    checked = walk.checked(schema, ())
    return Prepared(walk.held(checked), checked)


def _check_depth(schema: object, place: str) -> None:
    """Level by level, without recursion: how deep it is is not known yet."""
    level: list[Any] = [schema]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidRequestError(f"{place} is nested too deep: the limit is {MAX_DEPTH} levels", param=place)
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item
        level = [item for item in inner if isinstance(item, dict | list)]


Path = tuple[str | int, ...]


class _Walk:
    def __init__(self, root: Schema, place: str) -> None:
        self._root = root
        self._place = place
        self._merges = False  # schemas are put together by allOf: one part must not forbid another's properties

    def _refuse(self, path: Path, what: str) -> InvalidRequestError:
        param = ".".join([self._place, *map(str, path)])
        return InvalidRequestError(f"{param} {what}", param=param, code="invalid_schema")

    # --- the client's schema, without what says nothing -----------------------------------------------------------

    def checked(self, schema: object, path: Path) -> Any:
        """With tuples as the newest draft writes them. Raises for what cannot be had."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise self._refuse(path, "must be a schema: an object, true or false")
        out: Schema = {}
        for name, value in schema.items():
            if name in ANNOTATIONS or name.startswith("x-") or (name == "nullable" and value is False):
                continue
            out[name] = self._keyword(name, value, (*path, name))
        if isinstance(out.get("items"), list):
            self._modernize_tuple(out, schema, path)
        return out

    def _keyword(self, name: str, value: Any, path: Path) -> Any:
        if name in MAPS:
            return self._map(name, value, path)
        if name in ("propertyNames", "unevaluatedProperties", "additionalItems", *SINGLE):
            if name == "items" and isinstance(value, list):
                return [self.checked(item, (*path, i)) for i, item in enumerate(value)]
            return self.checked(value, path)
        if name in LISTS:
            if not isinstance(value, list) or not value:
                raise self._refuse(path, "must be a list of schemas, and not an empty one")
            self._merges = self._merges or (name == "allOf")
            return [self.checked(item, (*path, i)) for i, item in enumerate(value)]
        if name == "$ref":
            self._check_reference(value, path)
        elif name == "format":
            if not isinstance(value, str):
                raise self._refuse(path, "must be a string")
            if value not in FORMATS and value not in PATTERNS and value not in NUMBER_FORMATS:
                raise self._refuse(path, f"{value!r} is not supported: {', '.join(sorted({*FORMATS, *PATTERNS}))} are")
        elif name == "multipleOf":
            if isinstance(value, int | float) and value > MAX_MULTIPLE:
                raise self._refuse(path, f"is too large: {value}, the limit is {MAX_MULTIPLE}")
        elif name not in HELD and name not in BOUNDS and name not in CHECKED:
            advice = ADVICE.get(name, "leave it out")
            raise self._refuse(path, f"is not supported: answers cannot be held to it, {advice}")
        return value

    def _map(self, name: str, value: Any, path: Path) -> Schema:
        if not isinstance(value, dict):
            raise self._refuse(path, "must be an object, of names and schemas")
        limit = MAX_DEFINITIONS if name in ("$defs", "definitions") else MAX_PROPERTIES
        if len(value) > limit:
            raise self._refuse(path, f"has too many entries: {len(value)}, the limit is {limit}")
        return {key: self.checked(item, (*path, key)) for key, item in value.items()}

    def _check_reference(self, value: object, path: Path) -> None:
        """It leads to a place in this very schema: nothing is fetched."""
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
            raise self._refuse(path, "must lead to a place in this schema, like #/$defs/name")
        found: Any = self._root
        for step in value.split("/")[1:]:
            key = step.replace("%25", "%").replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, dict | bool):
            raise self._refuse(path, f"leads to {value[:100]!r}, which is no schema in it")

    def _modernize_tuple(self, out: Schema, schema: Schema, path: Path) -> None:
        if "prefixItems" in schema:
            raise self._refuse((*path, "items"), "must be one schema beside prefixItems")
        out["prefixItems"] = out.pop("items")
        if "additionalItems" in out:
            out["items"] = out.pop("additionalItems")

    # --- what llguidance is told ----------------------------------------------------------------------------------

    def held(self, schema: Any) -> Any:
        """Of a schema that ``checked`` gave."""
        if isinstance(schema, bool):
            return schema
        out: Schema = {}
        for name, value in schema.items():
            if name in MAPS:
                out[name] = {key: self.held(item) for key, item in value.items()}
            elif name in LISTS:
                out[name] = [self.held(item) for item in value]
            elif name in SINGLE:
                out[name] = self.held(value)
            elif _is_held(name, value):
                out[name] = value
        self._hold_format(schema, out)
        self._hold_names(schema, out)
        if "properties" in out and not self._merges and not {"additionalProperties", "patternProperties"} & out.keys():
            out["additionalProperties"] = False
        return out

    @staticmethod
    def _hold_format(schema: Schema, out: Schema) -> None:
        name: str = schema.get("format", "")
        limits = NUMBER_FORMATS.get(name)
        if FORMATS.get(name):
            out["format"] = name
            if name in NARROWER:
                out.setdefault("pattern", NARROWER[name])
        elif name in PATTERNS:
            out.setdefault("pattern", PATTERNS[name])
        elif limits is not None:
            out.setdefault("minimum", limits[0])
            out.setdefault("maximum", limits[1])

    def _hold_names(self, schema: Schema, out: Schema) -> None:
        """The names that an object's properties may have, where the object lists none."""
        names = schema.get("propertyNames")
        if not isinstance(names, dict) or {"properties", "patternProperties"} & schema.keys():
            return
        value = out.get("additionalProperties", {})
        if isinstance(names.get("enum"), list) and all(isinstance(name, str) for name in names["enum"]):
            out["properties"] = dict.fromkeys(names["enum"][:MAX_PROPERTIES], value)
        elif isinstance(names.get("pattern"), str):
            out["patternProperties"] = {names["pattern"]: value}
        else:
            return
        out["additionalProperties"] = False


def _is_held(name: str, value: object) -> bool:
    if name == "pattern":
        return not (isinstance(value, str) and BEYOND.search(value))
    return name in HELD or (name in BOUNDS and _is_near(value))


def _is_near(value: object) -> bool:
    """Whether llguidance can count so far, or so finely."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True  # wrong, and it will say so
    return value == 0 or FINE <= abs(value) <= FAR
