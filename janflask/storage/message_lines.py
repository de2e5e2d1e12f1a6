"""What stands in a line of ``messages.jsonl``: one message, unless a program forgot a line break or did not finish one.

Jan 0.4.0 forgot some: two objects on one line are two messages. An object that something else stands beside, such as
the beginning of another that was cut off, is a message all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import StoreDamagedError
from janflask.storage.jan import decode_object

MAX_TRIES = 16  # places in a line where a message may begin behind something that is none
_BLANK = " \t\r\n"
_BEFORE = re.compile(r"[ \t\r\n\ufeff]*")  # blanks and a byte order mark
_BEGINNING = re.compile(r'\{\s*"id"\s*:')  # of a message, as Jan and we write it


class _Object(msgspec.Struct):
    """Any object: its fields are passed over."""


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_skip = json_decoder(_Object).decode
_read = json.JSONDecoder(parse_constant=_refuse).raw_decode


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, or the part of one that holds a message, and where in the file it starts."""

    start: int
    data: bytes


def is_object(data: bytes) -> bool:
    """Whether ``data`` is one JSON object, and whole: a part of one never is."""
    try:
        _skip(data)
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        decode_object(data, "it")  # takes a little more
    except StoreDamagedError:
        return False
    return True


def parts(line: Line) -> list[Line]:
    """The line cut where a message begins and where one ends; what is none is a part, too. Nothing is left out."""
    if is_object(line.data):
        return [line]
    pieces, start = [], line.start
    for piece in _pieces(line.data.decode("utf-8", "surrogateescape")):
        data = piece.encode("utf-8", "surrogateescape")
        pieces.append(Line(start, data))
        start += len(data)
    return pieces


def finished(line: Line) -> list[Line]:
    """The parts of a line that has no end yet, without the one that may still be written."""
    found = parts(line)
    return found if is_object(found[-1].data) else found[:-1]


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    position = 0
    for begin, end in _objects(text):
        gap = text[position:begin]
        if gap.strip(_BLANK):
            pieces.append(gap)
        elif pieces:
            pieces[-1] += gap
        pieces.append(text[begin:end] if pieces else text[:end])
        position = end
    rest = text[position:]
    if rest.strip(_BLANK) or not pieces:
        pieces.append(rest)
    else:
        pieces[-1] += rest
    return pieces


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where each object begins and ends."""
    position, tries = 0, MAX_TRIES
    while True:
        begin = _BEFORE.match(text, position).end()  # type: ignore[union-attr]
        end = _end(text, begin)
        # Behind something else, an object counts only if it is a message: one inside of what was cut off is none.
        candidates = () if end is not None else _BEGINNING.finditer(text, begin + 1)
        for match in islice(candidates, tries):
            tries -= 1
            begin = match.start()
            if (end := _end(text, begin, "role")) is not None:
                break
        if end is None:
            return
        yield begin, end
        position = end


def _end(text: str, begin: int, *names: str) -> int | None:
    """Where the object that begins there ends; None if there is none, or one without these fields."""
    try:
        value: Any
        value, end = _read(text, begin)
    except (ValueError, RecursionError):
        return None
    return end if isinstance(value, dict) and value.keys() >= set(names) else None
