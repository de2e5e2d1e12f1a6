"""What a setting is: a dataclass field that carries its parser and its help.

A parser takes text, as the environment has it, and raises ValueError saying what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(
    default: Any, parse: Callable[[str], Any], help: str, *, auto: str | None = None, names_file: bool = False
) -> Any:
    """A field of a settings table.

    Args:
        default: what it is where nobody says; None: decided later.
        parse: from text to the value.
        help: what it is, in a few words that begin small.
        auto: what None comes to; wherever None may be the value.
        names_file: the value is a file's place.
    """
    return field(default=default, metadata={"parse": parse, "help": help, "auto": auto, "names_file": names_file})


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser for whole numbers between the two, which are themselves right."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser for numbers between the two, which are themselves right."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def seconds(text: str) -> float:
    """A time, above 0."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number of seconds above 0") from None
    if not 0 < value < 1e7:
        raise ValueError("must be a number of seconds above 0")
    return value


def seconds_or_never(text: str) -> float:
    """A time, or 0 for never."""
    return 0.0 if text.strip() in ("0", "0.0") else seconds(text)


def gigabytes(text: str) -> float:
    """GiB, above 0."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number of GiB above 0, or auto") from None
    if not 0 < value < 1e6:
        raise ValueError("must be a number of GiB above 0, or auto")
    return value


def gigabytes_or_none(text: str) -> float:
    """GiB, or 0 for none."""
    return 0.0 if text.strip() in ("0", "0.0") else gigabytes(text)


def boolean(text: str) -> bool:
    """Yes or no, in the words that people use. Raises ValueError."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("must be 1 or 0 (or true/false, yes/no, on/off)")
    return words[text.strip().lower()]


def choice(*words: str) -> Callable[[str], str]:
    """A parser that takes one of ``words``."""

    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text.strip().lower()

    return parse


def or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse``, but for "auto" and nothing at all, which are None."""

    def parse_or_auto(text: str) -> Any:
        return None if text.strip().lower() in ("", "auto") else parse(text)

    return parse_or_auto
