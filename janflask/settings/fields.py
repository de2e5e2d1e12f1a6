"""What a setting is: a dataclass field that carries its parser and its help.

A parser takes text, as the environment has it, and raises ValueError saying what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Integer:
    """A parser for whole numbers between the two, which are themselves right."""

    low: int
    high: int

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number from {self.low} to {self.high}") from None
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A parser for numbers between the two, which are themselves right."""

    low: float
    high: float

    def __call__(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise ValueError(f"must be a number from {self.low:g} to {self.high:g}")
        return value


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


@dataclass(frozen=True, slots=True)
class Choice:
    """A parser that takes one of ``words``, however they are capitalised."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text.strip().lower() not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}")
        return text.strip().lower()


@dataclass(frozen=True, slots=True)
class OrAuto:
    """``parse``, but for "auto" and nothing at all, which are None."""

    parse: Callable[[str], Any]

    def __call__(self, text: str) -> Any:
        return None if text.strip().lower() in ("", "auto") else self.parse(text)
