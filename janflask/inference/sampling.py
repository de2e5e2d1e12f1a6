"""How a request is answered: its own fields over the model's ``parameters`` over the built-in defaults.

What the model's file says and nobody can mean is an error only where it would be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from janflask.errors import ConflictError
from janflask.models import parameters
from janflask.models.card import ModelCard
from janflask.models.catalog import MODEL_FILE
from janflask.models.parameters import NO_LIMIT, Problem
from janflask.models.sampling import SamplingParams

_SAMPLING = frozenset(SamplingParams.__dataclass_fields__)
_OF_TEMPLATES = ("chat_template_kwargs", "reasoning_effort", "enable_thinking")
_OTHERS = frozenset({"max_tokens", "stop", "cache_prompt", "reasoning_budget", *_OF_TEMPLATES})  # than of sampling


def sampling_params(card: ModelCard, requested: Mapping[str, Any]) -> SamplingParams:
    """``requested`` holds checked fields of ``SamplingParams``. Raises ConflictError for an unusable ``model.json``."""
    return SamplingParams(**chosen_sampling(card, requested))


def chosen_sampling(card: ModelCard, requested: Mapping[str, Any]) -> dict[str, Any]:
    """What the request and the model's file say of ``SamplingParams``, without built-in defaults. Raises as it does."""
    found = card.understood
    for name, problem in found.problems.items():
        if name not in _OTHERS and name not in requested:
            raise _unusable(card, problem)
    values = {name: value for name, value in found.values.items() if name in _SAMPLING}
    values.update(requested)
    seed = values.get("seed")
    if seed is not None:
        # -1 is llama.cpp's word for a fresh seed; other negative numbers name one of the 2**64 seeds, too.
        values["seed"] = None if seed == -1 else seed % (1 << 64)
    return values


def model_max_tokens(card: ModelCard) -> int | None:
    """The model's own ``max_tokens``; None when it sets none, or no limit. Raises ConflictError."""
    most = _model_values(card, "max_tokens").get("max_tokens")
    return None if most == NO_LIMIT else most


def model_stop(card: ModelCard) -> tuple[str, ...]:
    """The model's own stop strings. Raises ConflictError."""
    return tuple(_model_values(card, "stop").get("stop", ()))


def model_cache_prompt(card: ModelCard) -> bool:
    """Whether the model's prompts use what is cached. Raises ConflictError."""
    return bool(_model_values(card, "cache_prompt").get("cache_prompt", True))


def template_kwargs(card: ModelCard, requested: Mapping[str, Any]) -> dict[str, Any]:
    """The chat template's further variables: ``requested`` over the model's own. Raises ConflictError."""
    return {**parameters.template_kwargs(_model_values(card, *_OF_TEMPLATES)), **requested}


def thought_tokens(card: ModelCard, requested: int | None) -> int | None:
    """The most tokens to think: ``requested``, where that is said, over the model's own; None: no limit.

    Raises ConflictError.
    """
    most = requested
    if most is None:
        most = parameters.thought_tokens(_model_values(card, "reasoning_budget", "chat_template_kwargs"))
    return None if most == NO_LIMIT else most


def _model_values(card: ModelCard, *names: str) -> dict[str, Any]:
    """Those of the model's ``parameters`` that it sets. Raises ConflictError."""
    found = card.understood
    for name in names:
        if name in found.problems:
            raise _unusable(card, found.problems[name])
    return {name: found.values[name] for name in names if name in found.values}


def _unusable(card: ModelCard, problem: Problem) -> ConflictError:
    return ConflictError(f"{problem.told(f'{MODEL_FILE} of {card.id}')}. Correct the file", param="model")
