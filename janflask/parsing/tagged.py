"""Arguments between tags, told as the JSON object that they are, as they grow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from janflask.parsing.calls import KEY, CallRules, Kind
from janflask.parsing.foreign import is_open_json
from janflask.parsing.markers import Markers
from janflask.parsing.reader import Reader, Step
from janflask.parsing.values import as_json, is_text, properties

MAX_KEY = 1000  # characters
MAX_DEPTH = 200  # elements that hold one another
ITEM = "item"  # what elements of a list are called where they hold one another


class TaggedArguments:
    """``<parameter=a>1</parameter>``, or elements that may hold others. ``tell`` gets JSON piece by piece."""

    def __init__(self, rules: CallRules, reader: Reader, tell: Callable[[str], None]) -> None:
        self._rules = rules
        self._reader = reader
        self._tell = tell
        self._key_end = re.compile(rules.key_end)
        self._depth = 0  # of the elements under way

    def comes(self, end: str) -> Step[bool]:
        """Whether a first argument is next, or ``end``, or nothing any more."""
        found = yield from self._reader.next(self._rules.key, end)
        return found is not None or not (yield from self._reader.skip_blank())

    def members(self, schema: object, end: str) -> Step[bool]:
        """An object's, up to ``end``, which is not read; false if something else comes, or they are cut."""
        known, opening = properties(schema), "{"
        while (marker := (yield from self._reader.next(self._rules.key, end))) == self._rules.key:
            key = yield from self._key()
            if key is None:
                return False
            self._tell(opening + json.dumps(key, ensure_ascii=False) + ": ")
            opening = ", "
            if not (yield from self._value(known.get(key), key)):
                return False
        self._tell("{}" if opening == "{" else "}")
        return marker is not None or self._reader.is_cut_in(end)

    def _key(self) -> Step[str | None]:
        yield from self._reader.take(self._rules.key)
        key = yield from self._reader.until(self._key_end, MAX_KEY)
        return None if key is None else key.strip()

    def _value(self, schema: object, key: str) -> Step[bool]:
        end = self._rules.value_end.replace(KEY, key)
        if is_text(schema):
            return (yield from self._string(end))
        holds = self._rules.kind is Kind.ELEMENTS
        if holds and (yield from self._reader.next(self._rules.key, end)) == self._rules.key:
            return (yield from self._elements(schema, end))
        return (yield from self._scalar(schema, end))

    def _elements(self, schema: object, end: str) -> Step[bool]:
        """Elements within one are an object, or a list of items; too many within one another are no call's."""
        if self._depth == MAX_DEPTH:
            return False
        self._depth += 1
        at = self._reader.at
        first = yield from self._key()
        self._reader.at = at
        is_list = _says(schema, "array") or (first == ITEM and not _says(schema, "object"))
        if is_list and not (yield from self._items(schema, end)):
            return False
        if not is_list and not (yield from self.members(schema, end)):
            return False
        self._depth -= 1
        return (yield from self._reader.take(end)) is not None

    def _items(self, schema: object, end: str) -> Step[bool]:
        of = schema.get("items") if isinstance(schema, Mapping) else None
        opening = "["
        while (marker := (yield from self._reader.next(self._rules.key, end))) == self._rules.key:
            key = yield from self._key()
            self._tell(opening)
            opening = ", "
            if key is None or not (yield from self._value(of, key)):
                return False
        self._tell("]")
        return marker is not None

    def _scalar(self, schema: object, end: str) -> Step[bool]:
        """What is no text, or may be something else."""
        quote, unquote = self._rules.quotes
        text = yield from self._reader.up_to(end, is_open_json)
        if text is None:
            return False
        if quote and text.startswith(quote) and text.endswith(unquote):
            text = text.removeprefix(quote).removesuffix(unquote)
        elif self._rules.is_framed:
            text = text.removeprefix("\n").removesuffix("\n")
        empty = "[]" if _says(schema, "array") else "{}" if _says(schema, "object") else None
        self._tell(empty if empty and not text.strip() else as_json(text, schema))
        return True

    def _string(self, end: str) -> Step[bool]:
        """A text as it grows."""
        reader, (quote, unquote) = self._reader, self._rules.quotes
        if quote and (yield from self._begins(quote)):
            end, frame = unquote + end, ""
        else:
            frame = "\n" if self._rules.is_framed and (yield from self._begins("\n")) else ""
        markers = Markers((end, frame + end))
        self._tell('"')
        while True:
            found = markers.find(reader.text[reader.at :])
            said = reader.text[reader.at : reader.at + found.start]
            self._tell(json.dumps(said, ensure_ascii=False)[1:-1])
            reader.at += found.end
            if found.marker:
                self._tell('"')
                return True
            if reader.closed:
                return False
            yield

    def _begins(self, text: str) -> Step[bool]:
        """Whether what follows begins with ``text``, which is read then."""
        reader = self._reader
        while len(reader.text) - reader.at < len(text) and text.startswith(reader.text[reader.at :]):
            if reader.closed:
                return False
            yield
        begins = reader.text.startswith(text, reader.at)
        reader.at += len(text) * begins
        return begins


def _says(schema: object, name: str) -> bool:
    """Whether a value is to be of this type."""
    return isinstance(schema, Mapping) and schema.get("type") == name
