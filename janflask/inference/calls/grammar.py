"""A grammar for calls of tools: a model's own format, with each tool's arguments under its schema.

What stands from the first marker of calls to the end of the last one. Blanks between the parts, and after a comma or a
colon in JSON, are the model's to write as it was trained to, within limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.apart import remembered_apart
from janflask.inference.calls.notation import gemma, python
from janflask.inference.calls.patterns import pattern
from janflask.inference.calls.tagged import tagged
from janflask.inference.calls.tool_schemas import tool_schemas
from janflask.inference.forms.constrained import Constrained
from janflask.inference.forms.lark import Lark, choice, sequence
from janflask.inference.forms.schema_forms import Forms
from janflask.inference.requests import Tool
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.parsing.calls import ANY, CallRules, Kind
from janflask.parsing.lark import escaped, literal

MAX_CALLS = 128  # in one answer, one behind the other
MAX_TEXT = 4 << 20  # characters of a grammar
_ID = r"/[A-Za-z0-9_.\-]{1,64}/"
_BETWEEN_TAGS = re.compile(r"(?<=>)(?=<)")
_SPACE = r"[ \t\n]{0,16}"  # between the tokens of JSON around a call: models indent it
# Members that models write beside a call's name and arguments.
_MEMBER = rf'"(?:id|call_id|tool_call_id|type)"{_SPACE}:{_SPACE}"[A-Za-z0-9_.\-]{{1,64}}"'


def of_calls(
    rules: CallRules, tools: Sequence[Tool], *, parallel: bool, place: str = "tools", or_bare: bool = False
) -> Constraint:
    """From the first marker of calls to their end; for an answer that is only calls where there are no markers.

    Args:
        rules: how the model writes calls.
        tools: what may be called: at least one.
        parallel: whether there may be more than one call.
        place: the field of the request that the tools came by, for errors.
        or_bare: the markers may be missing, where such calls are read.

    Raises:
        InvalidRequestError: names the tool and the keyword that no call can be held to.
    """
    try:
        described = json.dumps([(tool.name, tool.parameters, tool.number) for tool in tools])
        return _written(rules, described, parallel, place, or_bare)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{place} cannot be made a grammar: {error}", param=place) from error


@remembered_apart(32)  # an agent asks with the same tools again and again
def _written(rules: CallRules, described: str, parallel: bool, place: str, or_bare: bool) -> Constraint:
    tools = [Tool(name, None, parameters, number=number) for name, parameters, number in json.loads(described)]
    lark = Lark()
    schemas = tool_schemas(tools, place)
    forms = [rules, *([rules.bare] if or_bare and rules.bare is not None and rules.triggers else [])]
    text = lark.text(choice(_Writer(lark, form, tools, schemas, parallel=parallel).calls() for form in forms))
    if len(text) > MAX_TEXT:
        raise InvalidRequestError(
            f"{place}: the grammar of all tools is too long: use fewer, or simpler ones", param=place
        )
    return Constraint(kind=ConstraintKind.GRAMMAR, text=text, name=place, markers=tuple(lark.markers))


class _Writer:
    def __init__(
        self, lark: Lark, rules: CallRules, tools: Sequence[Tool], schemas: Sequence[Constrained], *, parallel: bool
    ) -> None:
        self._lark = lark
        self._rules = rules
        self._tools = list(zip(tools, schemas, strict=True))
        self._parallel = parallel

    def calls(self) -> str:
        """All of them: the rule to begin with."""
        rules, blank = self._rules, self._lark.blank
        starts = choice(self._marker(start) for start in (rules.start, *rules.others))
        end = sequence(blank, self._marker(rules.end)) if rules.end else ""
        group = sequence(starts, blank if rules.start else "", self._body(), end)
        groups = self._several(group, blank) if rules.start else group
        section = sequence(self._marker(rules.section), blank) if rules.section else ""
        section_end = sequence(blank, self._marker(rules.section_end)) if rules.section_end else ""
        # Many models write a line break behind the last call, as between two, and only then the answer's end.
        last = blank if self._parallel and not section_end else ""
        return sequence(section, groups, section_end, last)

    def _body(self) -> str:
        match self._rules.kind:
            case Kind.JSON:
                return self._objects()
            case Kind.NAMED:
                return choice(self._each(self._named))
            case Kind.TAGGED | Kind.ELEMENTS:
                return choice(self._forms(tagged(self._lark, self._rules)))
            case Kind.PYTHON:
                calls = self._several(choice(self._forms(python(self._lark))), self._lark.terminal("/, ?/"))
                return sequence(literal("["), calls, literal("]"))
            case Kind.GEMMA:
                return choice(self._forms(gemma(self._lark, self._rules.end)))

    def _each(self, write: Callable[[Tool, Any], str]) -> list[str]:
        return [write(tool, json.loads(schema.constraint.text)) for tool, schema in self._tools]

    def _forms(self, write: Callable[[Tool, Forms], str]) -> list[str]:
        return [
            write(tool, Forms(json.loads(schema.constraint.text), schema.constraint.name))
            for tool, schema in self._tools
        ]

    def _several(self, part: str, between: str) -> str:
        """One, and more behind it where more may come."""
        if not self._parallel:
            return part
        name = self._lark.rule(part)
        return f"{name} ({sequence(between, name)}){{0,{MAX_CALLS - 1}}}"

    def _marker(self, text: str) -> str:
        """A marker in which there may be an id, and blanks between its tags."""
        lark = self._lark
        parts = [
            f" {lark.blank} ".join(lark.marker(tags) for tags in _BETWEEN_TAGS.split(part)) for part in text.split(ANY)
        ]
        return sequence(*f" {lark.terminal(_ID)} ".join(parts).split())

    # --- JSON ---------------------------------------------------------------------------------------------------

    def _objects(self) -> str:
        """One object, some in a list, or some one behind the other; what was begun without markers is no list."""
        lark, rules = self._lark, self._rules
        call = lark.rule(self._object())
        if not rules.start:
            return self._several(call, f"{lark.blank} ({literal(';')} {lark.blank})?")
        listed = sequence(
            lark.terminal(rf"/\[{_SPACE}/"),
            self._several(call, lark.terminal(rf"/{_SPACE},{_SPACE}/")),
            lark.terminal(rf"/{_SPACE}\]/"),
        )
        plain = self._several(call, lark.blank)
        bodies = choice([plain, listed])
        fenced = sequence(lark.terminal(rf"/```json{_SPACE}/"), bodies, lark.terminal(rf"/{_SPACE}```/"))
        return choice([plain, listed, fenced])

    def _object(self) -> str:
        """A name and arguments, with an id where the model writes one, or with both in a member ``function``."""
        rules = self._rules
        if not rules.name_key:
            return choice(self._each(self._keyed))
        before = "" if rules.is_bare else rf"(?:{_MEMBER},{_SPACE}){{0,2}}"
        head = rf'\{{{_SPACE}{before}"{escaped(rules.name_key)}"{_SPACE}:{_SPACE}"'
        wrapped_head = rf'\{{{_SPACE}{before}"function"{_SPACE}:{_SPACE}{head}'
        tail = rf"(?:,{_SPACE}{_MEMBER}){{0,2}}{_SPACE}\}}"
        members = self._lark.rule(choice(self._each(self._members)))
        plain = sequence(self._lark.terminal(f"/{head}/"), members, self._lark.terminal(f"/{tail}/"))
        if rules.is_bare:
            return plain
        ends = self._lark.terminal(rf"/{_SPACE}\}}{tail}/")
        return choice([plain, sequence(self._lark.terminal(f"/{wrapped_head}/"), members, ends)])

    def _members(self, tool: Tool, schema: Any) -> str:
        between = rf'/",{_SPACE}"{escaped(self._rules.arguments_key)}"{_SPACE}:{_SPACE}/'
        return sequence(literal(tool.name), self._lark.terminal(between), self._lark.json(schema))

    def _keyed(self, tool: Tool, schema: Any) -> str:
        head = rf'/\{{{_SPACE}"{escaped(tool.name)}"{_SPACE}:{_SPACE}/'
        return sequence(self._lark.terminal(head), self._lark.json(schema), self._lark.terminal(rf"/{_SPACE}\}}/"))

    # --- a name, and the arguments behind it --------------------------------------------------------------------

    def _named(self, tool: Tool, schema: Any) -> str:
        between = pattern(self._lark, self._rules.name_end)
        blank = self._lark.blank
        return sequence(literal(tool.name), blank, between, blank if between else "", self._lark.json(schema))
