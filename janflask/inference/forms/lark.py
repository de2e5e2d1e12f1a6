"""A grammar in llguidance's dialect of Lark, as it is put together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from janflask.parsing.lark import json_options

SEPARATORS = {"item_separator": ", ?", "key_separator": ": ?"}  # as models write JSON in calls: most with a blank
BLANK = r"/[ \t\n]{1,8}/"  # what a layout may put between two parts


class Lark:
    """Rules are named as they come; what is the same has one name.

    ``markers`` are texts that the engine puts in: see ``Constraint``.
    """

    def __init__(self) -> None:
        self.markers: list[str] = []
        self._names: dict[str, str] = {}  # by definition
        self._defined: dict[str, str] = {}
        self._reserved = 0

    @property
    def blank(self) -> str:
        """Blanks, or nothing."""
        return f"{self.terminal(BLANK)}?"

    def terminal(self, expression: str) -> str:
        """A name for what is read as one."""
        return self._named(f": {expression}", "T")

    def rule(self, expression: str) -> str:
        """A name for what is read part by part."""
        return self._named(f": {expression}", "r")

    def json(self, schema: Any, **options: Any) -> str:
        """A name for JSON under a schema that ``json_schema.prepare`` made ready to be held."""
        return self.rule(json_within(schema, json_options(json.dumps(schema)) | SEPARATORS | options))

    def marker(self, text: str) -> str:
        """A word that stands for ``text``, which may be control tokens; nothing for nothing."""
        if not text:
            return ""
        if text not in self.markers:
            self.markers.append(text)
        return f"marker_{self.markers.index(text)}"

    def until(self, expression: str, marker: str) -> str:
        """A name for a text, which ``expression`` is a terminal for, and the marker behind it."""
        return self._named(f" until {self.marker(marker)}: {expression}", "u")

    def reserve(self) -> str:
        """A name for a rule that is still to be defined."""
        self._reserved += 1
        return f"v{self._reserved}"

    def define(self, name: str, expression: str) -> None:
        """What a reserved name stands for."""
        self._defined[name] = expression

    def text(self, start: str) -> str:
        """The whole grammar."""
        rules = "".join(f"{name}{definition}\n" for definition, name in self._names.items())
        defined = "".join(f"{name}: {expression}\n" for name, expression in self._defined.items())
        return f"%llguidance {{}}\nstart: {start}\n{rules}{defined}"

    def _named(self, definition: str, kind: str) -> str:
        return self._names.setdefault(definition, f"{kind}{len(self._names)}")


def sequence(*parts: str) -> str:
    """One behind the other, without those that are nothing."""
    return " ".join(filter(None, parts)) or '""'


def choice(parts: Iterable[str]) -> str:
    """One of them."""
    found = list(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else f"({' | '.join(found)})"


def json_within(schema: Any, options: Mapping[str, Any]) -> str:
    """JSON under a schema as a part of a grammar."""
    body = schema if isinstance(schema, Mapping) else {"allOf": [schema]}
    return f"%json {json.dumps({**body, 'x-guidance': options})}"
