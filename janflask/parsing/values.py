"""Values of a call's arguments: what stands between tags or in a text, as JSON."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def text_of(written: str | None) -> str | None:
    """The text that a JSON string is."""
    try:
        value = json.loads(written) if written else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def object_text(written: str | None) -> str | None:
    """The object in a string, an object as it is, or nothing's."""
    try:
        value = json.loads(written or "")
        inner = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    if inner is None:
        return "{}"
    if not isinstance(inner, dict):
        return None
    return value if isinstance(value, str) else written


def is_text(schema: object) -> bool:
    """Whether it can be nothing but a text."""
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def as_json(text: str, schema: object) -> str:
    """A value that stands between tags as what its schema takes; what is neither JSON nor Python's is a string.

    A string keeps the blanks around it.
    """
    read: object = text
    try:
        read = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        if takes(schema, text):
            return _quoted(text)
        try:  # some templates print lists, True and None as Python does
            read = ast.literal_eval(text.strip())
            written = json.dumps(read, ensure_ascii=False, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return _quoted(text)
        return written if takes(schema, read) else _quoted(text)
    return _quoted(text) if takes(schema, text) and not takes(schema, read) else text.strip()


def takes(schema: object, value: object) -> bool:
    """Whether a value may be what a schema says of types and choices; where it says nothing, anything may."""
    if not isinstance(schema, Mapping):
        return True
    if "const" in schema and schema["const"] != value:
        return False
    if isinstance(choices := schema.get("enum"), list) and value not in choices:
        return False
    for name in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(name), list) and not any(takes(branch, value) for branch in branches):
            return False
    types = schema.get("type")
    names = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    return not names or any(_is(value, name) for name in names)


def _is(value: object, name: object) -> bool:
    known = _TYPES.get(str(name))
    if isinstance(value, bool):
        return name == "boolean" or known is None
    whole = name == "integer" and isinstance(value, float) and value.is_integer()
    return known is None or whole or isinstance(value, known)


def properties(schema: object) -> Mapping[str, Any]:
    """What a schema says of an object's members."""
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
