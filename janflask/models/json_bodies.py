"""What JSON from elsewhere may hold: so deep, and so many values, that neither memory nor what follows it suffers.

A value takes two bytes of JSON and up to a hundred of memory, so they are counted before anything is made of them.
Depth costs nothing to read; it is what goes from values into values that stumbles over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from janflask.errors import InvalidRequestError, why_not_json

MAX_DEPTH = 100  # objects and lists in one another
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BLOCK = re.compile(rb'(?:[^"]*+"(?:[^"\\]++|\\.)*+"){1,1000}+[^"]*+|[^"]++', re.DOTALL)


def decoded(body: bytes, max_items: int) -> Any:
    """What a body says. Raises InvalidRequestError for what is not JSON, too deep, or has more than ``max_items``."""
    limit_values(body, max_items, "body")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"the body is not valid JSON: {why_not_json(body, error)}", code="invalid_json"
        ) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and is_deeper(found, MAX_DEPTH):
        raise InvalidRequestError(f"the body is nested more than {MAX_DEPTH} deep", code="too_deep")
    return found


def limit_values(data: bytes, max_items: int, what: str) -> None:
    """Raises InvalidRequestError for JSON of more than ``max_items`` values."""
    if len(data) > max_items and _values(data, max_items) > max_items:
        raise InvalidRequestError(
            f"the {what} has more than {max_items} values (JANFLASK_MAX_JSON_ITEMS): send less at once",
            code="too_many_values",
        )


def is_deeper(value: Any, limit: int) -> bool:
    """Whether JSON is nested in more than ``limit`` levels."""
    level = [value]
    for _ in range(limit + 1):
        inner = [item.values() if isinstance(item, Mapping) else item for item in level if _is_container(item)]
        if not inner:
            return False
        level = [item for items in inner for item in items if _is_container(item)]
    return True


def _values(data: bytes, enough: int) -> int:
    """How many values there are, names included; more than ``enough`` may be fewer than there are."""
    texts = (data.count(b'"') - data.count(b'\\"')) // 2  # at least
    if texts > enough:
        return texts
    found = 1 + _marks(data)
    if found <= enough:
        return found
    found, at = 1, 0  # marks are in texts, too: without those, and some at a time, since each costs memory
    while found <= enough and (block := _BLOCK.match(data, at)) and block.end() > at:
        found += _marks(_STRING.sub(b"", block[0]))
        at = block.end()
    return found


def _marks(data: bytes) -> int:
    """At least as many as there are values, but for the outermost one, if there are no texts."""
    return sum(data.count(mark) for mark in (b",", b":", b"[", b"{"))


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)
