"""The bodies and answers of POST /tokenize, /detokenize and /apply-template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.inference.requests import DetokenizeRequest, TemplateRequest, TokenizeRequest
from janflask.schemas.chat import ConversationSchema
from janflask.schemas.completions import MAX_TOKEN, token_ids
from janflask.schemas.fields import Text, optional_flag, wrong_type
from janflask.schemas.sampling import Base
from janflask.schemas.stored import always

MAX_TEXT = 1 << 20  # characters
MAX_TOKENS = 1 << 20


def _model() -> Text:
    return Text(required=True, metadata={"description": "The model's id.", "example": "smollm2-135m-instruct"})


class TokenizeRequestSchema(Base):
    """A text to be cut into tokens."""

    model = _model()
    content = Text(
        required=True,
        validate=validate.Length(max=MAX_TEXT, error=f"must have at most {MAX_TEXT} characters"),
        metadata={"description": "The text.", "example": "Hello world"},
    )
    add_special = optional_flag("Add the special tokens that the model wants around a text, as BOS.", default=False)
    parse_special = optional_flag("Text like `<|im_end|>` is its control token.", default=True)
    with_pieces = optional_flag("Answer with each token's text, too.", default=False)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> TokenizeRequest:
        """The dataclass."""
        return TokenizeRequest(**data)


class TokenIds(fields.Field[tuple[int, ...]]):
    """A list of token ids, which may be empty."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[int, ...]:
        if not isinstance(value, list):
            raise wrong_type("a list of token ids", value)
        if len(value) > MAX_TOKENS:
            raise ma.ValidationError(f"must hold at most {MAX_TOKENS} tokens, not {len(value)}")
        return token_ids(value) if value else ()


class DetokenizeRequestSchema(Base):
    """Tokens to be made text."""

    model = _model()
    tokens = TokenIds(
        required=True,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "Token ids.",
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN},
            "maxItems": MAX_TOKENS,
        },
    )

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> DetokenizeRequest:
        """The dataclass."""
        return DetokenizeRequest(**data)


class TemplateRequestSchema(ConversationSchema):
    """A conversation to be laid out. A chat request's body will do."""

    model = _model()
    tokenize = optional_flag("Answer with the prompt's tokens, too.", default=False)
    with_segments = optional_flag("Tell the prompt's special tokens and its plain text apart, too.", default=False)

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> TemplateRequest:
        """The dataclass."""
        return TemplateRequest(
            model=data["model"],
            tokenize=data.get("tokenize", False),
            with_segments=data.get("with_segments", False),
            **self.conversation(data),
        )


_PIECE = {
    "type": "object",
    "required": ["id", "piece"],
    "properties": {
        "id": {"type": "integer"},
        "piece": {
            "description": "Its text, or its bytes where they are no UTF-8 by themselves.",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}],
        },
    },
}


class TokenizedSchema(ma.Schema):
    """A text's tokens."""

    tokens = fields.Raw(
        metadata={
            "description": "Token ids; with `with_pieces` objects with `id` and `piece`.",
            "type": "array",
            "items": {"oneOf": [{"type": "integer"}, _PIECE]},
        }
    )
    count = fields.Integer(metadata={"description": "How many they are."})


class DetokenizedSchema(ma.Schema):
    """The text of tokens."""

    content = fields.String(metadata={"description": "The text; U+FFFD stands for bytes that are no UTF-8."})


class SegmentSchema(ma.Schema):
    """A part of a prompt."""

    text = fields.String(metadata={"description": "Its text."})
    special = fields.Boolean(
        metadata={"description": "Whether it is one special token. If not it is plain text, whatever it looks like."}
    )


class InputTokensSchema(ma.Schema):
    """What a chat would cost before its first word."""

    object = always("response.input_tokens")
    input_tokens = fields.Integer(
        required=True, metadata={"description": "Tokens of the prompt, a chat's `usage.prompt_tokens`."}
    )
    estimated = fields.Boolean(
        required=True, metadata={"description": "Whether this is a guess: of an upstream that counts no tokens."}
    )
    ctx_len = fields.Integer(
        required=True,
        metadata={
            "description": "Tokens that prompt and answer may have together; null where an upstream does not tell.",
            "nullable": True,
        },
    )
    tokens_left = fields.Integer(
        required=True,
        metadata={
            "description": "Tokens of that which the prompt leaves for the answer; 0: it is too long.",
            "nullable": True,
        },
    )


class LaidOutSchema(ma.Schema):
    """A conversation as the model sees it."""

    prompt = fields.String(metadata={"description": "The text."})
    segments = fields.List(
        fields.Nested(SegmentSchema),
        metadata={
            "description": "The prompt in parts, special tokens and plain text: with `with_segments`, and wherever a "
            "part of it looks like a special token and is none. Of models that a janflask runs."
        },
    )
    tokens = fields.List(fields.Integer(), metadata={"description": "With `tokenize`: its tokens."})
    count = fields.Integer(metadata={"description": "With `tokenize`: how many they are, a chat's `prompt_tokens`."})
