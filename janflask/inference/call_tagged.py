"""Arguments between tags: texts as they are, all else as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from janflask.inference.call_patterns import pattern
from janflask.inference.lark import Lark, choice, sequence
from janflask.inference.raw_text import raw_text
from janflask.inference.requests import Tool
from janflask.inference.schema_forms import Forms, Schema, types
from janflask.parsing.calls import CallRules
from janflask.parsing.lark import literal
from janflask.parsing.values import is_text

MAX_ARGUMENTS = 64  # of a tool that names none
_ANY_KEY = r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"


class Tagged:
    """The arguments of one tool, whose schema ``forms`` has."""

    def __init__(self, lark: Lark, rules: CallRules, tool: Tool, forms: Forms) -> None:
        self._lark = lark
        self._rules = rules
        self._forms = forms
        properties = tool.parameters.get("properties")
        self._told: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}  # what the parser goes by

    def arguments(self, form: Schema) -> str:
        """In the order of the schema; those that are not required may be left out."""
        properties = dict(form.get("properties", {}))
        required = form.get("required", ())
        for name in required:
            properties.setdefault(name, form.get("additionalProperties", True))
        if not properties and form.get("additionalProperties", True) is not False:
            other = self._other(form.get("additionalProperties", True))
            return f"({other}){{0,{MAX_ARGUMENTS}}}"
        written = [(name, self._argument(name, schema)) for name, schema in properties.items()]
        for name, argument in written:
            if argument is None and name in required:
                raise self._forms.refuse("cannot be written in this model's calls", "properties", name)
        return sequence(*(arg if name in required else f"({arg})?" for name, arg in written if arg is not None))

    def _argument(self, name: str, schema: Any) -> str | None:
        """None: its name or its value cannot be written."""
        if name != name.strip() or not name or re.search(self._rules.key_end, name):
            return None
        value = self._text(schema) if is_text(self._told.get(name)) else self._json(schema)
        return None if value is None else self._between(literal(name), value)

    def _other(self, schema: Any) -> str:
        return self._between(self._lark.terminal(_ANY_KEY), self._json(schema))

    def _between(self, name: str, value: str) -> str:
        """One argument, with its markers."""
        lark, rules = self._lark, self._rules
        return lark.rule(sequence(lark.blank, lark.marker(rules.key), name, pattern(lark, rules.key_end), value))

    def _json(self, schema: Any) -> str:
        lark = self._lark
        value = lark.json(self._forms.closed(schema))
        return sequence(lark.blank, value, lark.blank, lark.marker(self._rules.value_end))

    def _text(self, schema: Any) -> str | None:
        """A text, or one on lines of its own: then their breaks are no part of it."""
        lark, end = self._lark, self._rules.value_end
        found = [form for form in self._forms.plain(schema) if "string" in types(form)]
        texts = [text for form in found if (text := raw_text(lark, form, [end])) is not None]
        if not texts:
            return None
        text = lark.terminal(" | ".join(lark.terminal(expression) for expression in dict.fromkeys(texts)))
        alone = lark.terminal(rf"{text} & ~/\n(?s:.*)/")
        return lark.until(f"{alone} | /\\n/ {text} /\\n/", end)


def tagged(lark: Lark, rules: CallRules) -> Callable[[Tool, Forms], str]:
    """Writes the call of a tool, from its name on."""

    def write(tool: Tool, forms: Forms) -> str:
        writer = Tagged(lark, rules, tool, forms)
        arguments = choice([writer.arguments(form) for form in forms.plain(forms.root) if "object" in types(form)])
        return sequence(literal(tool.name), lark.blank, pattern(lark, rules.name_end), arguments)

    return write
