"""``parameters`` of a thread or an assistant: the fields of an inference request, to be used as defaults of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.fields import Number, Text, Whole
from janflask.schemas.objects import JsonObject
from janflask.schemas.sampling import InferenceSchema

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_NOT_DEFAULTS = {"model", "stream_options", "n"}

# Jan keeps the last two there, too.
_KNOWN: Mapping[str, fields.Field[Any]] = {
    **{name: item for name, item in InferenceSchema._declared_fields.items() if name not in _NOT_DEFAULTS},
    "token_limit": Whole(allow_none=True),
    "engine": Text(allow_none=True),
}


class Parameters(JsonObject):
    """Known names only; a number may be text and is given as a number.

    Null is the same as not given, or, where it ``removes``, is given as it is, for an unknown name too.
    """

    def __init__(self, *, removes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._removes = removes

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        given = super()._deserialize(value, attr, data, **kwargs)
        checked: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, item in given.items():
            try:
                if item is not None:
                    checked[name] = _checked(name, item)
                elif self._removes:
                    checked[name] = None
            except ma.ValidationError as error:
                errors[name[:80]] = error.messages
        if errors:
            raise ma.ValidationError(errors)
        return checked


def _checked(name: str, value: Any) -> Any:
    known = _KNOWN.get(name)
    if known is None:
        raise ma.ValidationError(f"is not a known parameter; known are {', '.join(sorted(_KNOWN))}")
    if isinstance(value, str) and isinstance(known, (Number, Whole)) and _NUMBER.fullmatch(value):
        number = float(value)
        value = int(value) if re.fullmatch("-?[0-9]+", value) else int(number) if number.is_integer() else number
    known.deserialize(value)
    return value


def parameters_field(*, removes: bool = False) -> Parameters:
    """An object's ``parameters``; with ``removes`` a null in it takes a parameter away."""
    about = "Defaults of requests; the names of a chat completion's fields. Unknown ones are refused."
    return Parameters(
        allow_none=True,
        removes=removes,
        metadata={
            "description": about + " Those that are not named stay, null removes one." * removes,
            "example": {"temperature": 0.7, "max_tokens": 256},
        },
    )
