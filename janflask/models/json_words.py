"""What JSON calls its values, for people. Standard library only."""

from __future__ import annotations

_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def kind(value: object) -> str:
    """What JSON calls ``value``."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)
