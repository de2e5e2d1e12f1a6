"""How much a model is to think before it answers: our fields, and the forms that other servers have for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import marshmallow as ma
from marshmallow import fields

from janflask.models.parameters import EFFORTS, MAX_TOKENS, NO_LIMIT
from janflask.schemas.fields import Text, Whole, between, error_at, one_of, optional_flag
from janflask.schemas.sampling import Base, Reason, unless

_EFFORT, _SWITCH, _BUDGET = "reasoning_effort", "enable_thinking", "reasoning_budget"
FORMS = ("reasoning", "thinking", "think")  # of other servers

Path = tuple[str, ...]


def effort_field() -> Text:
    """How much a reasoning model is to think."""
    about = "How much to think, for chat templates that know it; `none` is their `enable_thinking` false."
    return Text(allow_none=True, validate=one_of(EFFORTS), metadata={"description": about})


def _tokens(least: int, description: str, **about: Any) -> Whole:
    return Whole(allow_none=True, validate=between(least, MAX_TOKENS), metadata={"description": description, **about})


class ReasoningSchema(Base):
    """OpenRouter's form."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's

    REFUSED: Mapping[str, Reason] = {
        "exclude": unless((False,), "must be false: what a model thinks is told, in a field of its own"),
        "summary": unless(("auto",), "is not supported: what a model thinks is told as it is"),
    }
    FIELDS: Mapping[str, str] = {"effort": _EFFORT, "enabled": _SWITCH, "max_tokens": _BUDGET}

    effort = effort_field()
    enabled = optional_flag("As `enable_thinking`.")
    max_tokens = _tokens(0, "As `reasoning_budget`.")


class ThinkingSchema(Base):
    """Anthropic's form, which others took over."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's

    FIELDS: Mapping[str, str] = {"type": _SWITCH, "budget_tokens": _BUDGET}
    TYPES: Mapping[str, bool | None] = {"enabled": True, "disabled": False, "adaptive": None, "auto": None}

    type = Text(allow_none=True, validate=one_of(tuple(TYPES)), metadata={"description": "As `enable_thinking`."})
    budget_tokens = _tokens(0, "As `reasoning_budget`.")

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """With a flag for the type; one that leaves it to the model says nothing."""
        return {name: self.TYPES[value] if name == "type" else value for name, value in data.items()}


class ThinkingFields(ma.Schema):
    """Mixed into the schemas of requests for an answer. What comes in another server's form is loaded in ours."""

    reasoning_effort = effort_field()
    enable_thinking = optional_flag(
        "Whether to think before the answer, for chat templates that know it; as in `chat_template_kwargs`."
    )
    reasoning_budget = _tokens(
        NO_LIMIT,
        "The most tokens to think; then the thoughts are ended with the model's own words for it, and the answer "
        "follows. 0: none, -1: no limit. Not given: `thinking_budget` in `chat_template_kwargs`, else the model's.",
        example=1024,
    )
    reasoning = fields.Nested(ReasoningSchema, allow_none=True, metadata={"description": "OpenRouter's form of these."})
    thinking = fields.Nested(ThinkingSchema, allow_none=True, metadata={"description": "Anthropic's form of these."})
    think = fields.Raw(
        allow_none=True,
        metadata={
            "description": "Ollama's form: a flag as `enable_thinking`, or a word as `reasoning_effort`.",
            "oneOf": [{"type": "boolean"}, {"type": "string", "enum": list(EFFORTS)}],
            "nullable": True,
        },
    )

    @ma.pre_load
    def spread(self, data: Any, **kwargs: Any) -> Any:
        """With our fields for those of other forms. Raises where they say different things."""
        if not isinstance(data, dict):
            return data
        rest = {name: value for name, value in data.items() if name not in FORMS}
        for place, name, value in _told(data):
            if rest.get(name, value) not in (value, None):
                _refuse(place, f"must be the same as `{name}`, or left out")
            rest[name] = value
        return rest


def _told(data: Mapping[str, Any]) -> Iterator[tuple[Path, str, Any]]:
    """What other forms say: where, and of which of our fields what."""
    for form, schema in (("reasoning", ReasoningSchema), ("thinking", ThinkingSchema)):
        for inner, value in _loaded(schema, data.get(form), form).items():
            yield (form, inner), schema.FIELDS[inner], value
    think = data.get("think")
    if think is not None:
        if not isinstance(think, bool) and think not in EFFORTS:
            _refuse(("think",), f"must be true, false or one of {', '.join(EFFORTS)}")
        yield ("think",), _EFFORT if isinstance(think, str) else _SWITCH, think


def _loaded(schema: type[ReasoningSchema | ThinkingSchema], value: Any, form: str) -> dict[str, Any]:
    """The fields of an object that say something."""
    try:
        loaded: dict[str, Any] = schema().load({} if value is None else value)
    except ma.ValidationError as error:
        raise ma.ValidationError(error.messages, form) from error
    return {name: item for name, item in loaded.items() if item is not None}


def _refuse(place: Path, message: str) -> NoReturn:
    raise error_at(place[1:], message, place[0])
