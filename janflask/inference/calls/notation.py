"""Values in other notations than JSON, under a schema: Python's literals, and Gemma's objects without quotes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from janflask.inference.forms.lark import Lark, choice, sequence
from janflask.inference.forms.raw_text import is_free, raw_text
from janflask.inference.forms.schema_forms import Forms, Schema, has_type, keywords, types
from janflask.inference.requests import Tool
from janflask.parsing.foreign import QUOTE, is_bare_key, is_keyword
from janflask.parsing.lark import literal

_NUMBER = r"/-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,16})?(?:[eE][+\-]?[0-9]{1,2})?/"
_INTEGER = r"/-?(?:0|[1-9][0-9]{0,15})/"
MAX_SIZE = 4 << 20  # characters of the schemas of all values, each with what is within it
_MANY = 1000  # properties or items that are counted


class Python:
    """``{"a": True, 'b': [1, None]}``; models write true, too, and quotes of both kinds."""

    def __init__(self, lark: Lark) -> None:
        self._lark = lark
        self.separator = lark.terminal("/, ?/")
        self.colon = lark.terminal("/: ?/")

    def word(self, value: bool | None) -> str:
        """True, false or null."""
        return self._lark.terminal(f"/{value}|{json.dumps(value)}/")

    def text(self, form: Schema) -> str | None:
        """A string under a schema: JSON's are Python's, without a few escapes."""
        quoted = self._lark.json({"type": "string", **keywords(form, "string")})
        return choice([quoted, self._single()]) if is_free(form) else quoted

    def _single(self) -> str:
        return self._lark.terminal(r"""/'(?:[^'\\\x00-\x09\x0b-\x1f\x7f]|\\[nrtbf\\'"])*'/""")

    def holds(self, value: str) -> bool:
        """Whether a text can be written."""
        return True

    def fixed_text(self, value: str) -> str:
        """One string, in quotes of either kind."""
        inner = json.dumps(value, ensure_ascii=False)[1:-1]
        single = inner.replace('\\"', '"').replace("'", "\\'")
        return choice([literal(f'"{inner}"'), literal(f"'{single}'")])

    def key(self, name: str) -> str:
        """Of a property."""
        return sequence(self.fixed_text(name), self.colon)

    def any_key(self) -> str:
        """Of a property that no schema names."""
        return sequence(choice([self._lark.json({"type": "string"}), self._single()]), self.colon)

    def some_key(self, pattern: str) -> str:
        """Of a property whose name has a pattern."""
        return sequence(self._lark.json({"type": "string", "pattern": pattern}), self.colon)


class Gemma:
    """``{a:true,b:<|"|>text<|"|>}``: a text holds neither the mark nor the call's end."""

    def __init__(self, lark: Lark, end: str) -> None:
        self._lark = lark
        self._without = tuple(filter(None, (QUOTE, end)))
        self.separator = lark.terminal("/,/")
        self.colon = lark.terminal("/:/")

    def word(self, value: bool | None) -> str:
        """True, false or null."""
        return literal(json.dumps(value))

    def text(self, form: Schema) -> str | None:
        """A text under a schema, as it is, between marks."""
        expression = raw_text(self._lark, form, self._without)
        return None if expression is None else sequence(self._lark.marker(QUOTE), self._lark.until(expression, QUOTE))

    def holds(self, value: str) -> bool:
        """Whether a text can be written."""
        return not any(map(value.__contains__, self._without))

    def fixed_text(self, value: str) -> str:
        """One text."""
        quote = self._lark.marker(QUOTE)
        return sequence(quote, literal(value) if value else "", quote)

    def key(self, name: str) -> str:
        """Of a property; a name that could be taken for something else is a text."""
        return sequence(literal(name) if is_bare_key(name) else self.fixed_text(name), self.colon)

    def any_key(self) -> str:
        """Of a property that no schema names."""
        return sequence(self._lark.terminal(r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"), self.colon)

    def some_key(self, pattern: str) -> str:
        """Of a property whose name has a pattern."""
        return sequence(self.text({"pattern": pattern}) or self.any_key(), self.colon)


class Values:
    """Rules for the values of one schema.

    They are written one by one: a schema that leads to itself, or far, takes no recursion here.
    """

    def __init__(self, lark: Lark, notation: Python | Gemma, forms: Forms, *, sort: bool = False) -> None:
        self._lark = lark
        self._notation = notation
        self._forms = forms
        self._sort = sort
        self._names: dict[str, str] = {}
        self._size = 0
        self._waiting: list[tuple[str, Any]] = []

    def value(self, schema: Any) -> str:
        """A rule's name; it is there after ``finish``."""
        key = json.dumps(schema)
        if key not in self._names:
            self._size += len(key)
            if self._size > MAX_SIZE:
                raise self._forms.refuse("is too complex: it leads to ever more values")
            self._names[key] = self._lark.reserve()
            self._waiting.append((self._names[key], schema))
        return self._names[key]

    def finish(self) -> None:
        """Writes what is still to be written. Raises InvalidRequestError for what no value can be of."""
        while self._waiting:
            name, schema = self._waiting.pop()
            forms = [self._form(form) for form in self._forms.plain(schema)]
            found = list(filter(None, forms))
            if not found:
                raise self._forms.refuse(f"allows no value at one place: {json.dumps(schema)[:200]}")
            self._lark.define(name, choice(found))

    def members(self, form: Schema, pair: Callable[[str, Any], str]) -> str:
        """The named properties of an object, between its brackets: in their order, without those left out."""
        notation = self._notation
        properties = dict(form.get("properties", {}))
        required = [name for name in form.get("required", ()) if isinstance(name, str)]
        for name in required:
            properties.setdefault(name, form.get("additionalProperties", {}))
        names = sorted(properties, key=lambda name: (name.lower(), name)) if self._sort else list(properties)
        behind, alone = "", ""  # the members from here on, where some stand before them, and where none does
        for name in reversed(names):
            written = pair(name, properties[name])
            more = sequence(notation.separator, written)
            here = sequence(written, behind)
            if name in required:
                alone, behind = here, self._lark.rule(sequence(more, behind))
            else:
                alone = self._lark.rule(f"{here} | {alone or literal('')}")
                behind = self._lark.rule(sequence(f"({more})?", behind))
        return alone

    # --- one form -----------------------------------------------------------------------------------------------

    def _form(self, form: Schema) -> str | None:
        kinds = types(form)
        if "const" in form or "enum" in form:
            values = [form["const"]] if "const" in form else form["enum"]
            fixed = [self._fixed(value) for value in values if has_type(value, kinds) and self._holds(value)]
            return choice(fixed) if fixed else None
        write: Mapping[str, Callable[[Schema], str | None]] = {
            "object": self._object,
            "array": self._array,
            "string": self._notation.text,
            "number": lambda form: self._number(form, "number", _NUMBER),
            "integer": lambda form: self._number(form, "integer", _INTEGER),
            "boolean": lambda form: choice([self._notation.word(True), self._notation.word(False)]),
            "null": lambda form: self._notation.word(None),
        }
        found = [written for kind in kinds if kind in write and (written := write[kind](form)) is not None]
        return choice(found) if found else None

    def _number(self, form: Schema, kind: str, free: str) -> str:
        limits = keywords(form, kind)
        return self._lark.json({"type": kind, **limits}) if limits else self._lark.terminal(free)

    def _object(self, form: Schema) -> str:
        if form.get("properties") or form.get("required"):
            inner = self.members(form, lambda name, schema: sequence(self._notation.key(name), self.value(schema)))
        else:
            inner = self._map(form)
        return sequence(literal("{"), inner, literal("}"))

    def _map(self, form: Schema) -> str:
        """Of an object that names no properties."""
        named = {
            pattern: schema for pattern, schema in form.get("patternProperties", {}).items() if schema is not False
        }
        pairs = [sequence(self._notation.some_key(pattern), self.value(schema)) for pattern, schema in named.items()]
        others = form.get("additionalProperties", True)
        if others is not False:
            pairs.append(sequence(self._notation.any_key(), self.value(others)))
        if not pairs:
            return ""
        return self._counted(self._lark.rule(choice(pairs)), form.get("minProperties", 0), form.get("maxProperties"))

    def _array(self, form: Schema) -> str:
        first = [self.value(schema) for schema in form.get("prefixItems", ())]
        rest = form.get("items", True)
        least, most = form.get("minItems", 0), form.get("maxItems")
        if not first:
            inner = "" if rest is False else self._counted(self.value(rest), least, most)
        else:
            inner = self._tuple(first, rest, least, most)
        return sequence(literal("["), inner, literal("]"))

    def _tuple(self, first: Sequence[str], rest: Any, least: int, most: int | None) -> str:
        separator = self._notation.separator
        count = len(first) if most is None else min(len(first), most)
        left = None if most is None else most - count
        behind = ""
        if rest is not False and left != 0:
            need, room = max(0, least - count), "" if left is None or left > _MANY else left
            behind = f"({separator} {self.value(rest)}){{{min(need, _MANY)},{room}}}"
        for place in range(count - 1, 0, -1):
            written = sequence(separator, first[place], behind)
            behind = f"({written})" if place < least else f"({written})?"
        whole = sequence(first[0], behind) if count else ""
        return whole if least > 0 or not whole else f"({whole})?"

    def _counted(self, part: str, least: int, most: int | None) -> str:
        """So many of them, with something between."""
        if most == 0:
            return ""
        room = "" if most is None or most > _MANY else most - 1
        more = f"({self._notation.separator} {part}){{{max(0, min(least, _MANY) - 1)},{room}}}"
        return f"{part} {more}" if least > 0 else f"({part} {more})?"

    def _holds(self, value: Any) -> bool:
        """Whether a value of an enum or a const can be written."""
        if isinstance(value, dict):
            return all(self._notation.holds(key) and self._holds(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(self._holds, value))
        return not isinstance(value, str) or self._notation.holds(value)

    def _fixed(self, value: Any) -> str:
        """A value of an enum or a const."""
        notation = self._notation
        match value:
            case bool() | None:
                return notation.word(value)
            case str():
                return notation.fixed_text(value)
            case list():
                items = [self._fixed(item) for item in value]
                return sequence(literal("["), f" {notation.separator} ".join(items), literal("]"))
            case dict():
                pairs = [sequence(notation.key(key), self._fixed(item)) for key, item in value.items()]
                return sequence(literal("{"), f" {notation.separator} ".join(pairs), literal("}"))
        return literal(json.dumps(value))


def python(lark: Lark) -> Callable[[Tool, Forms], str]:
    """Writes the call of a tool as Python does."""
    notation = Python(lark)

    def write(tool: Tool, forms: Forms) -> str:
        values = Values(lark, notation, forms)
        arguments = _arguments(values, forms, lambda name: f"{literal(name)} {literal('=')}", is_keyword)
        return sequence(literal(tool.name), literal("("), arguments, literal(")"))

    return write


def gemma(lark: Lark, end: str) -> Callable[[Tool, Forms], str]:
    """Writes the call of a tool as Gemma does; its templates sort the keys."""
    notation = Gemma(lark, end)

    def write(tool: Tool, forms: Forms) -> str:
        values = Values(lark, notation, forms, sort=True)
        arguments = _arguments(values, forms, notation.key, notation.holds)
        return sequence(literal(tool.name), literal("{"), arguments, literal("}"))

    return write


def _arguments(values: Values, forms: Forms, key: Callable[[str], str], can_be: Callable[[str], bool]) -> str:
    """All that a tool takes; what has a name that cannot be written is left out, unless it is needed."""
    found: list[str] = []
    for form in forms.plain(forms.root):
        if "object" not in types(form):
            continue
        names = dict.fromkeys([*form.get("properties", {}), *form.get("required", ())])
        for name in filter(lambda name: not can_be(name), names):
            if name in form.get("required", ()):
                raise forms.refuse("cannot be written in this model's calls", "properties", name)
        properties = {name: schema for name, schema in form.get("properties", {}).items() if can_be(name)}
        found.append(
            values.members({**form, "properties": properties}, lambda n, schema: f"{key(n)} {values.value(schema)}")
        )
    values.finish()
    return choice(found)
