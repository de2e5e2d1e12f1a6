"""The body of POST /completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.requests import CompletionRequest
from janflask.models.known_fields import PROMPT
from janflask.schemas.constraints import ConstraintFields
from janflask.schemas.fields import Whole, between, kind, optional_flag, sampling_whole, wrong_type
from janflask.schemas.sampling import (
    MAX_CHOICES,
    MAX_TOKENS,
    InferenceSchema,
    Reason,
    common_arguments,
    refusals,
    unless,
)

MAX_PROMPTS = 2048
MAX_TOKEN = (1 << 31) - 1

TextOrTokens = str | tuple[int, ...]


class Prompts(fields.Field[tuple[TextOrTokens, ...]]):
    """A string, a list of token ids, or a list of either; given as a tuple of prompts."""

    NOUN = "prompt"

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[TextOrTokens, ...]:
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise wrong_type("a string, a list of strings, or token ids", value)
        if not value:
            raise ma.ValidationError(f"must hold at least one {self.NOUN}")
        if isinstance(value[0], int) and not isinstance(value[0], bool):
            return (token_ids(value),)
        if len(value) > MAX_PROMPTS:
            raise ma.ValidationError(f"must hold at most {MAX_PROMPTS} {self.NOUN}s, not {len(value)}")
        errors: dict[int, Any] = {}
        prompts: list[TextOrTokens] = []
        for number, item in enumerate(value):
            try:
                prompts.append(_prompt(item))
            except ma.ValidationError as error:
                errors[number] = error.messages
        if errors:
            raise ma.ValidationError(errors)
        return tuple(prompts)


def _prompt(item: object) -> TextOrTokens:
    if isinstance(item, str):
        return item
    if not isinstance(item, list):
        raise wrong_type("a string or a list of token ids", item)
    return token_ids(item)


def token_ids(items: list[Any]) -> tuple[int, ...]:
    """A prompt of token ids. Raises ValidationError for anything else in it."""
    if not items:
        raise ma.ValidationError("must hold at least one token id")
    for number, item in enumerate(items):
        if isinstance(item, bool) or not isinstance(item, int):
            raise ma.ValidationError({number: [f"must be a token id, a whole number, not {kind(item)}"]})
        if not 0 <= item <= MAX_TOKEN:
            raise ma.ValidationError({number: [f"must be a token id from 0 to {MAX_TOKEN}, not {item}"]})
    return tuple(items)


class CompletionRequestSchema(ConstraintFields, InferenceSchema):
    """Text to go on with, and how."""

    REFUSED: Mapping[str, Reason] = {
        **InferenceSchema.REFUSED,
        **refusals(PROMPT),
        "suffix": unless(("",), "is not supported yet (fill in the middle): leave it out"),
    }

    prompt = Prompts(
        required=True,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "Taken as it is, without a chat template, and with the special tokens that are written in "
            "it. Several prompts give several answers, in order.",
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ],
            "example": "The capital of France is",
        },
    )
    max_tokens = Whole(
        allow_none=True,
        validate=between(0, MAX_TOKENS),
        metadata={
            "description": "The most tokens to generate for a choice. 0: none, for `echo` with `logprobs`.",
            "default": 16,
            "example": 256,
        },
    )
    echo = optional_flag(
        "Put the prompt before its answer; with `logprobs`, its tokens before the answer's. The first one's are null.",
        default=False,
    )
    best_of = Whole(
        allow_none=True,
        validate=between(1, MAX_CHOICES),
        metadata={"description": "No other value than `n` is possible."},
    )
    logprobs = sampling_whole(
        "top_logprobs",
        "Answer with log-probabilities, and so many of the likeliest tokens at each place.",
    )

    @ma.validates_schema
    def check_choices(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What we can't choose from."""
        n = data.get("n", 1)
        if data.get("best_of", n) != n:
            raise ma.ValidationError(f"must be the same as `n` ({n}): choosing among more is not supported", "best_of")
        if n * len(data["prompt"]) > MAX_PROMPTS:
            raise ma.ValidationError(f"asks for more than {MAX_PROMPTS} choices over all prompts", "n")

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> CompletionRequest:
        """The dataclass."""
        if "logprobs" in data:
            data["top_logprobs"] = data["logprobs"]
        return CompletionRequest(prompts=data["prompt"], echo=data.get("echo", False), **common_arguments(data))
