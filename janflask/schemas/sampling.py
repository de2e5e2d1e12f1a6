"""What a chat and a completion request have in common: how much to generate and how to choose tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.forms.answer_forms import constraint_of
from janflask.models import parameters
from janflask.models.known_fields import ALIASES, GENERATION, NEWER, Unsupported
from janflask.models.sampling import SamplingParams
from janflask.schemas.fields import (
    StopStrings,
    Text,
    TokenBias,
    Whole,
    between,
    optional_flag,
    sampling_number,
    sampling_whole,
)

MAX_CHOICES = 128
MAX_TOKENS = parameters.MAX_TOKENS
_SAMPLING_FIELDS = frozenset(SamplingParams.__dataclass_fields__)

# What a value is refused for, None: it is not. The words go on behind the field's name.
Reason = Callable[[Any], str | None]


def unless(harmless: tuple[Any, ...], message: str) -> Reason:
    """Refuses every value but the harmless ones: those that ask for nothing."""
    return lambda value: None if value in harmless else message


def refusals(*tables: Mapping[str, Unsupported], but: tuple[str, ...] = ()) -> dict[str, Reason]:
    """What ``models.known_fields`` says of fields that cannot be had, in the form of a schema's ``REFUSED``."""
    return {name: item.objection for table in tables for name, item in table.items() if name not in but}


class Base(ma.Schema):
    """Unknown fields are ignored: OpenAI's clients send extras. ``null`` is the same as not given.

    A field that other servers know by another name has that name here, too.
    """

    # What we know of and can't do: saying so beats an answer that silently does something else.
    REFUSED: Mapping[str, Reason] = {}

    class Meta:
        """marshmallow's options."""

        unknown = ma.EXCLUDE

    error_messages = {"type": "must be a JSON object"}  # noqa: RUF012 - marshmallow's

    @ma.pre_load
    def drop_nulls(self, data: Any, **kwargs: Any) -> Any:
        """Without the fields that are null."""
        if not isinstance(data, dict):
            return data
        required = {name for name, item in self.load_fields.items() if item.required}
        return {name: value for name, value in data.items() if value is not None or name in required}

    @ma.pre_load
    def refuse(self, data: Any, **kwargs: Any) -> Any:
        """Raises for what is known and can't be done."""
        for name, reason in self.REFUSED.items() if isinstance(data, dict) else ():
            message = None if data.get(name) is None else reason(data[name])
            if message is not None:
                raise ma.ValidationError(message, name)
        return data

    @ma.pre_load
    def rename(self, data: Any, **kwargs: Any) -> Any:
        """With our names for those of others. Raises where two names say different things."""
        for alias in self._aliases(data):
            name, data = ALIASES[alias], dict(data)
            value = data.pop(alias)
            if alias not in NEWER and data.get(name, value) not in (value, None):
                raise ma.ValidationError(f"must be the same as `{name}`, or left out", alias)
            data[name] = value
        return data

    def _aliases(self, data: Any) -> list[str]:
        """The other servers' names in ``data`` for fields of this schema."""
        if not isinstance(data, Mapping):
            return []
        names = [name for name in ALIASES if data.get(name) is not None and name not in self.load_fields]
        return [name for name in names if ALIASES[name] in self.load_fields]

    def handle_error(self, error: ma.ValidationError, data: Any, **kwargs: Any) -> None:
        """Gives what is wrong the name under which it was sent."""
        messages: Any = error.messages
        for alias in self._aliases(data) if isinstance(messages, dict) else ():
            if ALIASES[alias] in messages and data.get(ALIASES[alias]) is None:
                messages[alias] = messages.pop(ALIASES[alias])


class Breakers(fields.List[str]):
    """A list of strings, or the text that SillyTavern and text-generation-webui write for it."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        listed = parameters.listed_breakers(value) if isinstance(value, str) else value
        return super()._deserialize(value if listed == [value] else listed, attr, data, **kwargs)


class StreamOptionsSchema(Base):
    """How to stream."""

    include_usage = optional_flag("Send one more chunk at the end, with `usage` and without choices.", default=False)


class InferenceSchema(Base):
    """The fields that ``/chat/completions`` and ``/completions`` share."""

    REFUSED: Mapping[str, Reason] = refusals(GENERATION)

    model = Text(required=True, metadata={"description": "The model's id.", "example": "smollm2-135m-instruct"})
    stream = optional_flag("Send the answer as server-sent events while it is generated.", default=False)
    stream_options = fields.Nested(
        StreamOptionsSchema,
        allow_none=True,
        error_messages={"type": "must be an object"},
        metadata={"description": "Only with `stream`."},
    )
    n = Whole(
        allow_none=True,
        validate=between(1, MAX_CHOICES),
        metadata={"description": "How many answers to generate; they share the prompt's computation.", "default": 1},
    )
    max_tokens = Whole(
        allow_none=True,
        validate=between(1, MAX_TOKENS),
        metadata={"description": "The most tokens to generate for a choice.", "example": 256},
    )
    stop = StopStrings(
        allow_none=True,
        metadata={
            "description": f"Up to {StopStrings.MAX_STRINGS} strings that end the answer; they are not part of it.",
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": StopStrings.MAX_STRINGS},
            ],
            "nullable": True,
        },
    )
    seed = sampling_whole(
        "seed",
        "The same seed, request and batch give the same answer; other requests in the batch, a cached prompt or a "
        "unified KV can change the rounding and with it a close choice, unless the model is `reproducible`. -1: any.",
    )
    temperature = sampling_number("temperature", "0 always takes the likeliest token.", 0.8)
    dynatemp_range = sampling_number(
        "dynatemp_range", "Temperature moves this much around its value by entropy; 0: off."
    )
    dynatemp_exponent = sampling_number("dynatemp_exponent", "How entropy maps to the temperature.")
    top_k = sampling_whole("top_k", "Keep this many of the likeliest tokens; 0 or less: all.", 40)
    top_p = sampling_number("top_p", "Keep the likeliest tokens that together have this probability; 1: all.", 0.95)
    min_p = sampling_number("min_p", "Keep tokens at least this likely, relative to the likeliest; 0: all.", 0.05)
    typical_p = sampling_number("typical_p", "Locally typical sampling; 1: off.")
    top_n_sigma = sampling_number(
        "top_n_sigma", "Keep logits within this many deviations of the greatest; 0 or less: off."
    )
    xtc_probability = sampling_number("xtc_probability", "Chance of leaving out the top choices; 0: off.")
    xtc_threshold = sampling_number("xtc_threshold", "What counts as a top choice for XTC; above 0.5: off.")
    repeat_penalty = sampling_number("repeat_penalty", "Divides the logits of recent tokens; 1: off.")
    repeat_last_n = sampling_whole("repeat_last_n", "How many tokens the penalties look back on; -1: all, 0: none.")
    frequency_penalty = sampling_number("frequency_penalty", "Lowers a token's logit for each time it occurred.", 0.0)
    presence_penalty = sampling_number("presence_penalty", "Lowers a token's logit once it occurred.", 0.0)
    dry_multiplier = sampling_number("dry_multiplier", "Strength of the penalty against repeated sequences; 0: off.")
    dry_base = sampling_number("dry_base", "Base of the DRY penalty's growth with the sequence's length.")
    dry_allowed_length = sampling_whole("dry_allowed_length", "Sequences up to this length are not penalised by DRY.")
    dry_penalty_last_n = sampling_whole("dry_penalty_last_n", "How many tokens DRY looks back on; -1: all, 0: none.")
    dry_sequence_breakers = Breakers(
        Text(validate=validate.Length(1, 40, error="must have 1 to 40 characters")),
        allow_none=True,
        validate=validate.Length(max=64, error="must hold at most 64 strings"),
        error_messages={"invalid": "must be a list of strings"},
        metadata={"description": "Strings that end a sequence for DRY."},
    )
    mirostat = sampling_whole("mirostat", "Mirostat's version, 1 or 2, instead of the truncating samplers; 0: off.")
    mirostat_tau = sampling_number("mirostat_tau", "Mirostat's target surprise.")
    mirostat_eta = sampling_number("mirostat_eta", "Mirostat's learning rate.")
    logit_bias = TokenBias(
        allow_none=True,
        metadata={
            "description": "Added to the logits of these tokens, from -100 to 100; the keys are token ids.",
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            "example": {"1234": -100},
        },
    )
    ignore_eos = optional_flag("Never end by an end-of-text token.")
    cache_prompt = optional_flag("False computes the whole prompt again and uses no cached prefix.", default=True)

    @ma.validates_schema
    def check_stream_options(self, data: dict[str, Any], **kwargs: Any) -> None:
        """``stream_options`` is for streams only, as OpenAI has it."""
        if data.get("stream_options") is not None and not data.get("stream"):
            raise ma.ValidationError("is only allowed when `stream` is true", "stream_options")


def common_arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``InferenceRequest`` out of a loaded ``InferenceSchema``."""
    sampling = {name: value for name, value in data.items() if name in _SAMPLING_FIELDS}
    if "dry_sequence_breakers" in sampling:
        sampling["dry_sequence_breakers"] = tuple(sampling["dry_sequence_breakers"])
    return {
        "model": data["model"],
        "stream": data.get("stream", False),
        "include_usage": data.get("stream_options", {}).get("include_usage", False),
        "n": data.get("n", 1),
        "max_tokens": data.get("max_tokens"),
        "stop": data.get("stop"),
        "sampling": sampling,
        "cache_prompt": data.get("cache_prompt"),
        "constraint": constraint_of(data),
    }
