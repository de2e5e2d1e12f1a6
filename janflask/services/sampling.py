"""How a request is sampled: its own fields over the model's ``parameters`` over the built-in defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from janflask.errors import ConflictError
from janflask.types import SAMPLING_RANGES, ModelCard, SamplingParams

_DEFAULTS = SamplingParams()
_NUMBERS = {item.name: getattr(_DEFAULTS, item.name) for item in fields(SamplingParams) if item.name in SAMPLING_RANGES}
_BY_REQUEST_ONLY = frozenset({"top_logprobs"})


def sampling_params(card: ModelCard, requested: Mapping[str, Any]) -> SamplingParams:
    """``requested`` holds checked fields of ``SamplingParams``. Raises ConflictError for an unusable ``model.json``."""
    values = model_defaults(card)
    values.update(requested)
    seed = values.get("seed")
    if seed is not None:
        # -1 is llama.cpp's word for a fresh seed; other negative numbers name one of the 2**64 seeds, too.
        values["seed"] = None if seed == -1 else seed % (1 << 64)
    return SamplingParams(**values)


def model_defaults(card: ModelCard) -> dict[str, Any]:
    """The sampling fields in the model's ``parameters``; numbers may be text there. Raises ConflictError."""
    values: dict[str, Any] = {}
    for name, default in _NUMBERS.items():
        given = card.parameters.get(name)
        if given is not None and name not in _BY_REQUEST_ONLY:
            values[name] = _number(card, name, given, whole=default is None or isinstance(default, int))
    return values


def model_max_tokens(card: ModelCard) -> int | None:
    """The model's own ``max_tokens``; None when it sets none, or no limit (0 or less). Raises ConflictError."""
    given = card.parameters.get("max_tokens")
    if given is None:
        return None
    number = int(_number(card, "max_tokens", given, whole=True))
    return number if number > 0 else None


def model_stop(card: ModelCard) -> tuple[str, ...]:
    """The model's own stop strings. Raises ConflictError."""
    given = card.parameters.get("stop")
    strings = [given] if isinstance(given, str) else given or []
    if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
        raise _unusable(card, "stop", given, "it must be a string or a list of strings")
    return tuple(text for text in strings if text)


def _number(card: ModelCard, name: str, given: object, *, whole: bool) -> float | int:
    kind = "a whole number" if whole else "a number"
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise _unusable(card, name, given, f"it must be {kind}")
    try:
        number = float(given)
    except (ValueError, OverflowError):
        raise _unusable(card, name, given, f"it must be {kind}") from None
    if not math.isfinite(number) or (whole and number != int(number)):
        raise _unusable(card, name, given, f"it must be {kind}")
    low, high = SAMPLING_RANGES.get(name, (-math.inf, math.inf))
    if not low <= number <= high:
        raise _unusable(card, name, given, f"it must be from {low} to {high}")
    return int(given) if whole and not isinstance(given, str) else int(number) if whole else number


def _unusable(card: ModelCard, name: str, given: object, reason: str) -> ConflictError:
    return ConflictError(
        f"parameters.{name} in model.json of {card.id} is {str(given)[:80]!r}: {reason}. Correct the file",
        param="model",
    )
