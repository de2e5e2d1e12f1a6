"""The body and the answer of POST /embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.requests import EmbeddingRequest
from janflask.models.known_fields import EMBEDDING
from janflask.schemas.completions import Prompts
from janflask.schemas.fields import Flag, Text, Whole, between
from janflask.schemas.sampling import Base, refusals

MAX_DIMENSIONS = 1 << 16
FORMATS = ("float", "base64")


class Inputs(Prompts):
    """A string, a list of token ids, or a list of either, none of them empty; given as a tuple of inputs."""

    NOUN = "input"

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str | tuple[int, ...], ...]:
        inputs = super()._deserialize(value, attr, data, **kwargs)
        if value == "":
            raise ma.ValidationError("must not be empty")
        errors = {number: ["must not be empty"] for number, item in enumerate(inputs) if not item}
        if errors:
            raise ma.ValidationError(errors)
        return inputs


class EmbeddingRequestSchema(Base):
    """Texts to be made vectors."""

    REFUSED = refusals(EMBEDDING)

    model = Text(required=True, metadata={"description": "The model's id.", "example": "nomic-embed-text-v1.5"})
    input = Inputs(
        required=True,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "Each gives a vector, in order. Token ids are taken as they are.",
            "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 2048},
                {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                    "minItems": 1,
                    "maxItems": 2048,
                },
            ],
            "example": "The cat sat on the mat",
        },
    )
    encoding_format = Text(
        allow_none=True,
        validate=validate.OneOf(FORMATS, error="must be float or base64, not {input}"),
        metadata={
            "description": "`base64`: the bytes of little-endian 32-bit floats, which is smaller and exact.",
            "default": "float",
        },
    )
    dimensions = Whole(
        allow_none=True,
        validate=between(1, MAX_DIMENSIONS),
        metadata={
            "description": "Cut each vector to its beginning, of length 1 again; only models trained for it stay good."
        },
    )

    stream = Flag(
        allow_none=True,
        validate=validate.Equal(False, error="must be false: embeddings come as one JSON answer"),
        metadata={"description": "Embeddings are not streamed.", "default": False},
    )

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> EmbeddingRequest:
        """The dataclass."""
        return EmbeddingRequest(
            model=data["model"],
            inputs=data["input"],
            dimensions=data.get("dimensions"),
            base64=data.get("encoding_format") == "base64",
        )


class EmbeddingSchema(ma.Schema):
    """The vector of an input."""

    object = fields.String(validate=validate.OneOf(["embedding"]))
    index = fields.Integer(metadata={"description": "The input's number, from 0."})
    embedding = fields.Raw(
        metadata={
            "description": "Of length 1; with `encoding_format` base64 a string.",
            "oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}],
        }
    )


class EmbeddingUsageSchema(ma.Schema):
    """The tokens of all inputs."""

    prompt_tokens = fields.Integer()
    total_tokens = fields.Integer(metadata={"description": "The same: nothing is generated."})


class EmbeddingListSchema(ma.Schema):
    """A vector for each input."""

    object = fields.String(validate=validate.OneOf(["list"]))
    data = fields.List(fields.Nested(EmbeddingSchema))
    model = fields.String(metadata={"description": "The model's id."})
    usage = fields.Nested(EmbeddingUsageSchema)
