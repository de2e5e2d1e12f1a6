"""The fields that say what an answer must look like, as OpenAI, llama.cpp and vLLM spell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.inference.forms.answer_forms import TYPES
from janflask.schemas.fields import Text, wrong_type


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

    response_format: fields.Field[Any] = Object(
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
