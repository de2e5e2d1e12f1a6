"""Calls of tools as they grow: the model's own text in, deltas out."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from janflask.parsing.calls import CallRules, Kind
from janflask.parsing.deltas import ToolCallDelta
from janflask.parsing.foreign import gemma_calls, is_open, python_calls
from janflask.parsing.reader import Reader, Step
from janflask.parsing.tagged import TaggedArguments
from janflask.parsing.values import object_text, text_of

Schemas = Mapping[str, Mapping[str, Any]]  # a tool's name and the schema of its arguments

_NAME = re.compile(r"[\w.\-]{1,128}")
_AT_ONCE = {Kind.PYTHON: python_calls, Kind.GEMMA: gemma_calls}
MAX_AT_ONCE = 50_000  # characters of calls that are read at once
_ALPHABET = string.ascii_letters + string.digits
_IDS = ("id", "call_id", "tool_call_id")


def new_call_id() -> str:
    """Nine letters and digits: Mistral's templates take no other."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class CallParser:
    """The calls that stand together in one answer, from their first marker on.

    Names that are no tool's are no calls. ``kept`` is how much of the text was used; the rest is for somebody else.
    ``ids`` are those of the answer's calls before: a model that writes one of them again gets another in its place.
    """

    def __init__(self, rules: CallRules, tools: Schemas, index: int, first: int, ids: set[str]) -> None:
        self._rules = rules
        self._tools = tools
        self._index = index
        self._ids = ids
        self._reader = Reader()
        self._steps = self._run()
        self._out: list[ToolCallDelta] = []
        self.is_under_way = False  # of the last call its name has been told, and not its end
        self.count = first
        self.kept = 0

    @property
    def text(self) -> str:
        """All that it was fed."""
        return self._reader.text

    def feed(self, text: str, *, closed: bool = False) -> tuple[list[ToolCallDelta], str | None]:
        """What is certain by now; and, at the end of the calls, the text that is none of them."""
        self._reader.text += text
        self._reader.closed = closed
        try:
            next(self._steps)
            rest = None
        except StopIteration:
            kept = self._reader.at if self.is_under_way else self.kept
            rest = "" if self.is_under_way and closed else self._reader.text[kept:]
        out, self._out = self._out, []
        return out, rest

    def _run(self) -> Step[None]:
        rules, reader = self._rules, self._reader
        if rules.section and (yield from reader.take(rules.section)) is None:
            return
        while True:
            if rules.section_end and (yield from reader.end(rules.section_end)):
                self.kept = reader.at
                return
            if rules.start and (yield from reader.take(rules.start, *rules.others)) is None:
                return
            match rules.kind:
                case Kind.JSON:
                    whole = yield from self._objects()
                case Kind.NAMED:
                    whole = yield from self._named()
                case Kind.PYTHON | Kind.GEMMA:
                    whole = yield from self._at_once()
                case _:
                    whole = yield from self._tagged()
            if not whole:
                return
            if rules.end and rules.kind not in _AT_ONCE:
                yield from reader.end(rules.end)
            self.is_under_way = False
            self.kept = reader.at
            if not rules.start:
                return

    # --- one call -----------------------------------------------------------------------------------------------

    def _begin(self, name: str, call_id: str | None = None) -> bool:
        if name not in self._tools:
            return False
        call_id = call_id if call_id and call_id not in self._ids else new_call_id()
        self._ids.add(call_id)
        self._out.append(ToolCallDelta(self._index, self.count, call_id, name))
        self.count += 1
        self.is_under_way = True
        return True

    def _argue(self, text: str) -> None:
        if text:
            self._out.append(ToolCallDelta(self._index, self.count - 1, arguments=text))

    def _whole(self, name: str, call_id: str | None, written: str | None) -> bool:
        """A call whose arguments are there already; it is none if they are no object, nor one in a string."""
        arguments = object_text(written)
        if arguments is None or not self._begin(name, call_id):
            return False
        self._argue(arguments)
        return True

    def _objects(self) -> Step[bool]:
        reader = self._reader
        yield from reader.take("```json")
        listed = (yield from reader.take("[")) is not None
        while True:
            self.is_under_way = False
            if not (yield from self._call_object()):
                return False
            self.kept = reader.at
            more = yield from reader.take(",", ";") if listed else reader.take(";")
            if more is None and (yield from reader.peek()) != "{":
                break
        if listed:
            yield from reader.take("]")
        yield from reader.take("```")
        return True

    def _call_object(self) -> Step[bool]:
        """One object with a name and arguments, whichever comes first."""
        found: dict[str, str] = {}
        if not (yield from self._members(found)):
            return False
        if self.is_under_way:
            return True
        return self._whole(found.get("name", ""), found.get("id"), found.get("arguments", "{}"))

    def _members(self, found: dict[str, str]) -> Step[bool]:
        reader, rules = self._reader, self._rules
        if (yield from reader.take("{")) is None:
            return False
        while (yield from reader.take("}")) is None:
            key = text_of((yield from reader.value()))
            if key is None or (yield from reader.take(":")) is None:
                return False
            if rules.is_bare and not found and key != rules.name_key:
                return False
            if not rules.name_key:
                found["name"] = key
            if not rules.name_key or key == rules.arguments_key:
                whole = yield from self._arguments(found)
            elif key == "function" and (yield from reader.peek()) == "{":
                whole = yield from self._members(found)
            else:
                value = yield from reader.value()
                whole = value is not None
                text = text_of(value)
                if key == rules.name_key and text not in self._tools:
                    return False
                if text is not None and (key == rules.name_key or key in _IDS):
                    found["name" if key == rules.name_key else "id"] = text
            if not whole:
                return False
            yield from reader.take(",")
        return True

    def _arguments(self, found: dict[str, str]) -> Step[bool]:
        if "name" in found and (yield from self._reader.peek()) == "{":
            return self._begin(found["name"], found.get("id")) and (yield from self._reader.pieces(self._argue))
        written = yield from self._reader.value()
        found["arguments"] = written or ""
        return written is not None

    def _named(self) -> Step[bool]:
        head = yield from self._head()
        if head is None:
            return False
        match (yield from self._reader.peek()):
            case "{":
                return self._begin(*head) and (yield from self._reader.pieces(self._argue))
            case '"':
                return self._whole(*head, (yield from self._reader.value()))
        return False

    def _head(self) -> Step[tuple[str, str | None] | None]:
        """The name, and the id if the model writes one."""
        yield from self._reader.skip_blank()
        name = yield from self._reader.word(_NAME)
        if not name or name not in self._tools:
            return None
        if not self._rules.name_end:
            return name, None
        found = yield from self._reader.between(re.compile(rf"\s*{self._rules.name_end}"))
        return None if found is None else (name, found.groupdict().get("id"))

    def _at_once(self) -> Step[bool]:
        """Calls that are read when their end has come."""
        text = yield from self._reader.up_to(self._rules.end, is_open, MAX_AT_ONCE)
        found = None if text is None else _AT_ONCE[self._rules.kind](text)
        if not found or any(name not in self._tools for name, _ in found):
            return False
        for name, arguments in found:
            self._begin(name)
            self._argue(arguments)
        return True

    def _tagged(self) -> Step[bool]:
        rules, end = self._rules, self._rules.end or self._rules.section_end
        head = yield from self._head()
        if head is None:
            return False
        arguments = TaggedArguments(rules, self._reader, self._argue)
        if not (yield from arguments.comes(end)) or not self._begin(*head):
            return False
        return (yield from arguments.members(self._tools[head[0]], end))
