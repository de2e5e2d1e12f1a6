"""``parameters`` of a thread, an assistant or a model: the fields of an inference request, to be used as its defaults.

Read as leniently as where they lie in files (``models.parameters``): what can be meant is taken, and given by our
names, with numbers for numbers that are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from janflask.models.known_fields import ALIASES
from janflask.models.parameters import NAMES, Problem, is_known, read_parameters, shown
from janflask.schemas.objects import JsonObject


class Parameters(JsonObject):
    """Known names only. Null is the same as not given, or, where it ``removes``, is given as it is, for any name."""

    def __init__(self, *, removes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._removes = removes

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Any, Any]:
        given = super()._deserialize(value, attr, data, **kwargs)
        understood = read_parameters(given, jan=True)
        errors = {problem.field: [_told(problem)] for problem in understood.problems.values()}
        checked: dict[str, Any] = {}
        for name, item in given.items():
            own = ALIASES.get(name, name)
            if item is None:
                checked |= {own: None} if self._removes else {}
            elif not is_known(name):
                errors[name[:80]] = [f"is not a known parameter; known are {', '.join(NAMES)}"]
            elif own in understood.values:
                checked[own] = _plain(item, understood.values[own])
        if errors:
            raise ma.ValidationError(errors)
        return checked


def _told(problem: Problem) -> str:
    return problem.reason if problem.unsupported else f"{problem.reason}, not {shown(problem.value)}"


def _plain(given: Any, understood: Any) -> Any:
    """Numbers and flags as they were understood; a text, list or object as it was given."""
    return understood if isinstance(understood, bool | int | float) else given


def parameters_field(*, removes: bool = False) -> Parameters:
    """An object's ``parameters``; with ``removes`` a null in it takes a parameter away."""
    about = (
        "Defaults of requests; the names of a chat completion's fields. Numbers may be text, `max_tokens` 0 or less is "
        "no limit. Unknown names are refused."
    )
    return Parameters(
        allow_none=True,
        removes=removes,
        metadata={
            "description": about + " Those that are not named stay, null removes one." * removes,
            "example": {"temperature": 0.7, "max_tokens": 256},
        },
    )
