"""The fields that say what an answer must look like, as OpenAI, llama.cpp and vLLM spell them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.errors import InvalidRequestError
from janflask.inference.forms.answer_forms import TYPES, Make, maker, of_format
from janflask.inference.forms.constrained import Constrained
from janflask.schemas.fields import Text, wrong_type

KINDS = ("json", "regex", "choice", "grammar")  # of constraints, by vLLM's names


class Object(fields.Field[dict[str, Any]]):
    """An object."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong_type("an object", value)
        return value


def _schema_field(description: str) -> fields.Raw:
    return fields.Raw(
        allow_none=True, metadata={"description": description, "oneOf": [{"type": "object"}, {"type": "string"}]}
    )


class ConstraintFields(ma.Schema):
    """Mixed into the schemas of requests for text. At most one of them may say something."""

    response_format = Object(
        allow_none=True,
        metadata={
            "description": 'What the answer must look like: `{"type": "text"}`, `{"type": "json_object"}`, or '
            '`{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}`. The answer is held to the schema '
            "while it is generated, and checked when it is finished.",
            "type": "object",
            "properties": {"type": {"type": "string", "enum": list(TYPES)}, "json_schema": {"type": "object"}},
            "example": {"type": "json_object"},
        },
    )
    json_schema = _schema_field("llama.cpp's way to give a JSON schema.")
    grammar = Text(allow_none=True, metadata={"description": "A grammar for the answer: llama.cpp's GBNF, or Lark."})
    regex = Text(allow_none=True, metadata={"description": "A regular expression that the whole answer matches."})
    structured_outputs = Object(
        allow_none=True,
        metadata={
            "description": "vLLM's way: one of `json`, `regex`, `choice`, `grammar` and `json_object`.",
            "type": "object",
        },
    )
    guided_json = _schema_field("vLLM's older name of `structured_outputs.json`.")
    guided_regex = Text(allow_none=True, metadata={"description": "vLLM's older name of `structured_outputs.regex`."})
    guided_choice = fields.List(
        Text(),
        allow_none=True,
        error_messages={"invalid": "must be a list of strings"},
        metadata={"description": "vLLM's older name of `structured_outputs.choice`."},
    )
    guided_grammar = Text(
        allow_none=True, metadata={"description": "vLLM's older name of `structured_outputs.grammar`."}
    )


def constraint_of(data: Mapping[str, Any]) -> Constrained | None:
    """The one constraint of a loaded request. Raises InvalidRequestError, also where there are two."""
    found = list(_found(data))
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise InvalidRequestError(f"{names} cannot be had together: send one of them", param=found[1][0])
    return found[0][1]() if found else None


def _found(data: Mapping[str, Any]) -> Iterator[tuple[str, Make]]:
    form = data.get("response_format")
    if form is not None and (make := of_format(form, "response_format")) is not None:
        yield "response_format", make
    for name, what in (("json_schema", "json"), ("grammar", "grammar"), ("regex", "regex")):
        if data.get(name) not in (None, ""):
            yield name, maker(what, data[name], name)
    outputs = data.get("structured_outputs")
    if outputs is not None:
        yield from _outputs(outputs)
    for what in KINDS:
        if data.get(f"guided_{what}") not in (None, "", []):
            yield f"guided_{what}", maker(what, data[f"guided_{what}"], f"guided_{what}")


_MODIFIERS = {  # what vLLM takes beside it, and what asks for nothing of it here
    "disable_any_whitespace": (True,),
    "disable_additional_properties": (True, False),
    "disable_fallback": (True, False),
    "whitespace_pattern": ("",),
}


def _outputs(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Make]]:
    for name, value in outputs.items():
        place = f"structured_outputs.{name}"
        if value is None or value is False or value in _MODIFIERS.get(name, ()):
            continue
        if name not in (*KINDS, "json_object"):
            raise InvalidRequestError(f"{place} is not supported: leave it out", param=place)
        yield place, maker(name, value, place)
