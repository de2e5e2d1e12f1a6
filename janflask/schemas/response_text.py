"""What the words of a response are to be like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.errors import InvalidRequestError
from janflask.inference.forms.answer_forms import answer_form
from janflask.schemas.fields import Text, error_at, one_of
from janflask.schemas.objects import check_object
from janflask.schemas.sampling import Base

MAX_FORMAT_BYTES = 256 << 10


class TextFormat(fields.Field[dict[str, Any]]):
    """The form of an answer, as responses have it; given as chats do."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        form = check_object(value, MAX_FORMAT_BYTES)
        if form.get("type") == "json_schema" and "json_schema" not in form:
            form = {"type": "json_schema", "json_schema": {key: form[key] for key in form if key != "type"}}
        try:
            answer_form(form, "text.format")
        except InvalidRequestError as error:
            raise _placed(error, "text.format") from error
        return form


def _placed(error: InvalidRequestError, field: str) -> ma.ValidationError:
    """The same at its place below ``field``: a schema is not nested there as it is in a chat."""
    nested = f"{field}.json_schema"
    param = (error.param or field).replace(nested, field)
    reason = error.message.replace(nested, field).removeprefix(param).strip()
    return error_at([step for step in param.removeprefix(field).split(".") if step], reason)


class TextSchema(Base):
    """What the words of an answer are like."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow's

    format = TextFormat(
        allow_none=True,
        metadata={
            "description": 'The form: `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", '
            '"name": ..., "schema": ...}`. The answer is held to the schema while it is generated.',
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["text", "json_object", "json_schema"]}},
        },
    )
    verbosity = Text(
        allow_none=True,
        validate=one_of(("low", "medium", "high")),
        metadata={"description": "Makes no difference: say in the instructions how long an answer should be."},
    )
