"""How a model writes its calls of tools."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

ANY = "\x00"  # in a marker: an id, whatever it is
KEY = "\x01"  # in the marker behind a value: the value's key
_ANY_OR_KEY = re.compile(f"[{ANY}{KEY}]")
_FIRST = re.compile(rf"[^\s<\[{ANY}]*(?:<[^<>\s]*>|\[[A-Z_]+\])|[^\s<\[{ANY}]+|\S+")


class Kind(Enum):
    """What a call's name and arguments are."""

    JSON = "json"  # one object: {"name": "f", "arguments": {"a": 1}}; several stand in a list, or one behind another
    NAMED = "named"  # a name, and the arguments as an object behind it: <function=f>{"a": 1}</function>
    PYTHON = "python"  # a list of calls as Python has them: [f(a=1), g()]
    GEMMA = "gemma"  # a name, and an object without quotes: f{a:1,b:<|"|>x<|"|>}
    TAGGED = "tagged"  # a name, and each argument between markers: <parameter=a>1</parameter>
    ELEMENTS = "elements"  # a name, and each argument as an element that may hold others: <a><item>1</item></a>


@dataclass(frozen=True, slots=True)
class CallRules:
    """The markers around calls; any of them may be empty, and blanks around them are of no account.

    ``section`` and ``section_end`` stand around all calls, ``start`` (or one of ``others``) and ``end`` around each.
    JSON has ``name_key`` and ``arguments_key`` (empty: the name is the arguments' key). Otherwise ``name_end``, a
    regular expression, is what stands between name and arguments. TAGGED and ELEMENTS have ``key``, ``key_end`` (a
    regular expression) and ``value_end``. ``quotes`` may stand around a text between tags; where it ``is_framed`` it
    stands on lines of its own. ``is_bare``: there are no markers, so that only a tool's name, which comes first, tells
    that it is a call.
    """

    kind: Kind
    section: str = ""
    section_end: str = ""
    start: str = ""
    others: tuple[str, ...] = ()
    end: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    name_end: str = ""
    key: str = ""
    key_end: str = ""
    value_end: str = ""
    quotes: tuple[str, str] = ("", "")
    is_framed: bool = False
    is_bare: bool = False

    @property
    def bare(self) -> CallRules | None:
        """The same without markers, as small models often write their calls; None for kinds that need them."""
        if self.kind is not Kind.JSON or not self.name_key:
            return None
        return replace(self, section="", section_end="", start="", others=(), end="", is_bare=True)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The first words of what calls begin with; none: a JSON object that an answer begins with."""
        starts = (self.section,) if self.section else (self.start, *self.others)
        return tuple(found.group() for start in starts if (found := _FIRST.match(start)))

    @property
    def markers(self) -> tuple[str, ...]:
        """Everything that is looked for as it is."""
        found = (self.section, self.section_end, self.start, *self.others, self.end, self.key, self.value_end)
        return tuple(dict.fromkeys(filter(None, (part for marker in found for part in _ANY_OR_KEY.split(marker)))))


# For templates that show no tools: what the model is told to write (see ``template_layouts``), as most are trained to.
GENERIC = CallRules(Kind.JSON, start="<tool_call>", end="</tool_call>")
