"""Arguments between tags: texts as they are, all else as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from janflask.inference.calls.patterns import pattern
from janflask.inference.forms.lark import Lark, choice, sequence
from janflask.inference.forms.raw_text import raw_text
from janflask.inference.forms.schema_forms import Forms, Schema, types
from janflask.inference.requests import Tool
from janflask.parsing.calls import KEY, CallRules
from janflask.parsing.lark import escaped, literal
from janflask.parsing.values import is_text, properties

MAX_ARGUMENTS = 64  # of a tool that names none
_ANY_KEY = r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"


class Tagged:
    """The arguments of one tool, whose schema ``forms`` has."""

    def __init__(self, lark: Lark, rules: CallRules, tool: Tool, forms: Forms) -> None:
        self._lark = lark
        self._rules = rules
        self._forms = forms
        self._told = properties(tool.parameters)  # what the parser goes by

    def arguments(self, form: Schema) -> str:
        """In the order of the schema; those that are not required may be left out."""
        named = dict(form.get("properties", {}))
        required = form.get("required", ())
        for name in required:
            named.setdefault(name, form.get("additionalProperties", True))
        if not named:
            return self._others(form.get("additionalProperties", True))
        written = [(name, self._argument(name, schema)) for name, schema in named.items()]
        for name, argument in written:
            if argument is None and name in required:
                raise self._forms.refuse("cannot be written in this model's calls", "properties", name)
        return sequence(*(arg if name in required else f"({arg})?" for name, arg in written if arg is not None))

    def _argument(self, name: str, schema: Any) -> str | None:
        """None: its name or its value cannot be written."""
        if name != name.strip() or not name or re.search(self._rules.key_end, name):
            return None
        end = self._rules.value_end.replace(KEY, name)
        value = self._text(schema, end) if is_text(self._told.get(name)) else self._json(schema, end)
        return None if value is None else self._between(literal(name), value)

    def _others(self, schema: Any) -> str:
        """Of a tool that names none. Where the name stands behind the value, too, no grammar can have just any name."""
        end = self._rules.value_end
        if schema is False or KEY in end:
            return ""
        return f"({self._between(self._lark.terminal(_ANY_KEY), self._json(schema, end))}){{0,{MAX_ARGUMENTS}}}"

    def _between(self, name: str, value: str) -> str:
        """One argument, with its markers."""
        lark, rules = self._lark, self._rules
        return lark.rule(sequence(lark.blank, lark.marker(rules.key), name, pattern(lark, rules.key_end), value))

    def _json(self, schema: Any, end: str) -> str:
        lark = self._lark
        return sequence(lark.blank, lark.json(self._forms.closed(schema)), lark.blank, lark.marker(end))

    def _text(self, schema: Any, end: str) -> str | None:
        """A text as it is; on lines of its own, whose breaks are no part of it; or in quotes."""
        (quote, unquote), is_framed = self._rules.quotes, self._rules.is_framed
        found: list[str] = []
        text, quoted = self._raw(schema, end), self._raw(schema, unquote + end) if quote else None
        if text is not None:
            other = [escaped(lead) for lead in (quote, "\n" * is_framed) if lead]
            alone = f"{text} & ~/(?:{'|'.join(other)})(?s:.*)/" if other else text
            found += [self._lark.terminal(alone), *([f"/\\n/ {text} /\\n/"] if is_framed else [])]
        if quoted is not None:
            found.append(f"{literal(quote)} {quoted} {literal(unquote)}")
        return self._lark.until(" | ".join(found), end) if found else None

    def _raw(self, schema: Any, without: str) -> str | None:
        """A terminal for a text under a schema."""
        forms = [form for form in self._forms.plain(schema) if "string" in types(form)]
        texts = [text for form in forms if (text := raw_text(self._lark, form, [without])) is not None]
        return self._lark.terminal(" | ".join(map(self._lark.terminal, dict.fromkeys(texts)))) if texts else None


def tagged(lark: Lark, rules: CallRules) -> Callable[[Tool, Forms], str]:
    """Writes the call of a tool, from its name on."""

    def write(tool: Tool, forms: Forms) -> str:
        writer = Tagged(lark, rules, tool, forms)
        arguments = choice([writer.arguments(form) for form in forms.plain(forms.root) if "object" in types(form)])
        return sequence(literal(tool.name), lark.blank, pattern(lark, rules.name_end), arguments)

    return write
