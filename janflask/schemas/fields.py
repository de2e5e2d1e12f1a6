"""Strict fields: JSON's types are taken at their word, and an error says what would be right.

``null`` counts as not given, as OpenAI's clients send it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import marshmallow as ma
from marshmallow import fields, validate

from janflask.models import json_words
from janflask.models.sampling import SAMPLING_RANGES

kind = json_words.kind

MAX_CALL_ID = 256  # characters

T = TypeVar("T")


def wrong_type(expected: str, value: object) -> ma.ValidationError:
    """The error for a value of another JSON type."""
    return ma.ValidationError(f"must be {expected}, not {kind(value)}")


def error_at(path: Sequence[str | int], message: str, field: str | None = None) -> ma.ValidationError:
    """An error at a place in a value: in that of ``field``, where it is named."""
    messages: Any = [message]
    for step in reversed(path):
        messages = {step: messages}
    return ma.ValidationError(messages) if field is None else ma.ValidationError(messages, field)


def each(values: Sequence[Any], make: Callable[[int, Any], T]) -> list[T]:
    """What ``make`` makes of each value and its number. Raises ValidationError with all that is wrong, by number."""
    made: list[T] = []
    errors: dict[int, Any] = {}
    for number, value in enumerate(values):
        try:
            made.append(make(number, value))
        except ma.ValidationError as error:
            errors[number] = error.messages
    if errors:
        raise ma.ValidationError(errors)
    return made


def within(name: str, make: Callable[[], T]) -> T:
    """What ``make`` makes of a field's value. The errors that it raises are the field's."""
    try:
        return make()
    except ma.ValidationError as error:
        raise ma.ValidationError({name: error.messages}) from error


def text_in(value: Mapping[str, Any], name: str) -> str:
    """The string in a field that must be there. Raises ValidationError."""
    text = value.get(name)
    if not isinstance(text, str):
        raise ma.ValidationError({name: ["is required" if text is None else f"must be a string, not {kind(text)}"]})
    return text


def call_id_in(value: Mapping[str, Any], name: str) -> str:
    """The id of a call, in a field that must be there. Raises ValidationError."""
    call_id = text_in(value, name)
    if not 1 <= len(call_id) <= MAX_CALL_ID:
        raise ma.ValidationError({name: [f"must have 1 to {MAX_CALL_ID} characters"]})
    return call_id


def flag_in(value: Mapping[str, Any], name: str) -> bool:
    """The flag in a field; false where it is not given. Raises ValidationError."""
    flag = value.get(name)
    if not isinstance(flag, bool | None):
        raise ma.ValidationError({name: [f"must be true or false, not {kind(flag)}"]})
    return bool(flag)


class Text(fields.String):
    """A JSON string."""

    default_error_messages = {"required": "is required", "null": "must not be null"}  # noqa: RUF012 - marshmallow's

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type("a string", value)
        return value


class Flag(fields.Boolean):
    """``true`` or ``false``, and nothing that resembles them."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise wrong_type("true or false", value)
        return value


class Whole(fields.Integer):
    """A JSON number without a fraction."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ma.ValidationError(
                f"must be a whole number, not {value if isinstance(value, float) else kind(value)}"
            )
        return value


class Number(fields.Float):
    """A finite JSON number."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        return as_number(value)


def as_number(value: object) -> float:
    """``value`` as a float. Raises ValidationError unless it is a finite JSON number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ma.ValidationError("must be a finite number")
    return number


def one_of(words: Sequence[str]) -> validate.OneOf:
    """One of these words."""
    return validate.OneOf(words, error="must be one of {choices}, not {input!r}")


def between(low: float, high: float) -> validate.Range:
    """Inclusive bounds."""
    return validate.Range(low, high, error=f"must be from {low} to {high}, not {{input}}")


def sampling_number(name: str, description: str, example: float | None = None) -> Number:
    """An optional number of ``SamplingParams``, in the range that holds for it everywhere."""
    return Number(allow_none=True, validate=between(*SAMPLING_RANGES[name]), metadata=_about(description, example))


def sampling_whole(name: str, description: str, example: int | None = None) -> Whole:
    """An optional whole number of ``SamplingParams``, in the range that holds for it everywhere."""
    return Whole(allow_none=True, validate=between(*SAMPLING_RANGES[name]), metadata=_about(description, example))


def optional_flag(description: str, default: bool | None = None) -> Flag:
    """``true``, ``false`` or ``null``."""
    about = _about(description, None)
    return Flag(allow_none=True, metadata=about if default is None else {**about, "default": default})


def _about(description: str, example: float | None) -> dict[str, Any]:
    return {"description": description} if example is None else {"description": description, "example": example}


class StopStrings(fields.Field[tuple[str, ...]]):
    """A string, or a list of up to ``MAX_STRINGS``; given as a tuple."""

    MAX_STRINGS = 64
    MAX_LENGTH = 1024

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        strings = [value] if isinstance(value, str) else value
        if not isinstance(strings, list):
            raise wrong_type("a string or a list of strings", value)
        if len(strings) > self.MAX_STRINGS:
            raise ma.ValidationError(f"must hold at most {self.MAX_STRINGS} strings, not {len(strings)}")
        errors = {number: [reason] for number, text in enumerate(strings) if (reason := self._reason(text))}
        if errors:
            raise ma.ValidationError(next(iter(errors.values())) if isinstance(value, str) else errors)
        return tuple(strings)

    def _reason(self, text: object) -> str | None:
        if not isinstance(text, str):
            return f"must be a string, not {kind(text)}"
        if not text:
            return "must not be empty"
        return f"must be at most {self.MAX_LENGTH} characters" if len(text) > self.MAX_LENGTH else None


class TokenBias(fields.Field[tuple[tuple[int, float], ...]]):
    """``{"token id": bias}``; JSON has no other keys than strings. Given as pairs in ascending order of the id."""

    LIMIT = 100.0
    MAX_TOKEN = (1 << 31) - 1

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[tuple[int, float], ...]:
        if value == []:  # how PHP writes an object without anything in it
            return ()
        if not isinstance(value, dict):
            raise wrong_type('an object like {"1234": -100}', value)
        pairs: dict[int, float] = {}
        errors: dict[str, list[str]] = {}
        for key, bias in value.items():
            try:
                pairs[self._token(key)] = self._bias(bias)
            except ma.ValidationError as error:
                errors[key] = [str(error.messages[0])]
        if errors:
            raise ma.ValidationError(errors)
        return tuple(sorted(pairs.items()))

    def _token(self, key: str) -> int:
        if not key.isascii() or not key.isdigit() or len(key) > 10 or int(key) > self.MAX_TOKEN:
            raise ma.ValidationError("must have a token id for its key: a whole number from 0, written as a string")
        return int(key)

    def _bias(self, value: object) -> float:
        bias = as_number(value)
        if not -self.LIMIT <= bias <= self.LIMIT:
            raise ma.ValidationError(f"must be from {-self.LIMIT:g} to {self.LIMIT:g}, not {bias:g}")
        return bias
