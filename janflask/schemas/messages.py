"""The bodies of requests that store messages, and the query of their list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.models.known_fields import STORED_MESSAGE
from janflask.schemas.fields import Text, kind, one_of, wrong_type
from janflask.schemas.objects import PageQuerySchema, check_object, each, metadata_field
from janflask.schemas.sampling import Base, refusals
from janflask.storage.records import MessageDraft

MAX_PARTS = 1000
MAX_FILES = 100
MAX_ANNOTATIONS = 1000
ROLES = ("user", "assistant")
DETAILS = ("auto", "low", "high")
ATTACHMENT_TOOLS = ("code_interpreter", "file_search")
IMAGE_URLS = ("https://", "http://", "data:image/")


class Content(fields.Field[tuple[dict[str, Any], ...]]):
    """A string, or a list of parts; given as parts in the form in which OpenAI answers with them."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[dict[str, Any], ...]:
        if value in ("", []):
            raise ma.ValidationError("must not be empty")
        if isinstance(value, str):
            return (_text_part(value),)
        return tuple(each(value, _part, "a string or a list of parts", MAX_PARTS))


def _part(part: object) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise wrong_type('an object like {"type": "text", "text": "..."}', part)
    word = part.get("type")
    make = _PARTS.get(word) if isinstance(word, str) else None
    if make is None:
        raise ma.ValidationError({"type": [f"must be one of {', '.join(_PARTS)}, not {str(word)[:40]!r}"]})
    try:
        return make(part.get(word))
    except ma.ValidationError as error:
        raise ma.ValidationError({word: error.messages}) from None


def _text_part(value: object) -> dict[str, Any]:
    annotations: list[Any] = []
    if isinstance(value, dict):
        if value.get("annotations") is not None:
            annotations = each(value["annotations"], check_object, "a list of objects", MAX_ANNOTATIONS)
        value = value.get("value")
    if not isinstance(value, str):
        raise wrong_type('a string, or an object like {"value": "..."}', value)
    if not value:
        raise ma.ValidationError("must not be empty")
    return {"type": "text", "text": {"value": value, "annotations": annotations}}


def _image_url_part(value: object) -> dict[str, Any]:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith(IMAGE_URLS):
        raise ma.ValidationError({"url": [f"must be a URL that begins with one of {', '.join(IMAGE_URLS)}"]})
    return {"type": "image_url", "image_url": {"url": url, "detail": _detail(value)}}


def _image_file_part(value: object) -> dict[str, Any]:
    file_id = value.get("file_id") if isinstance(value, dict) else None
    if not isinstance(file_id, str):
        raise ma.ValidationError({"file_id": ["must be the id of an uploaded file"]})
    return {"type": "image_file", "image_file": {"file_id": file_id, "detail": _detail(value)}}


def _detail(value: object) -> str:
    detail = value.get("detail") if isinstance(value, dict) else None
    if detail is None:
        return "auto"
    if detail not in DETAILS:
        raise ma.ValidationError({"detail": [f"must be one of {', '.join(DETAILS)}"]})
    return str(detail)


_PARTS: dict[str, Callable[[object], dict[str, Any]]] = {
    "text": _text_part,
    "image_url": _image_url_part,
    "image_file": _image_file_part,
}


class FileIds(fields.Field[tuple[str, ...]]):
    """A list of ids of uploaded files."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        return tuple(each(value, _file_id, "a list of the ids of uploaded files", MAX_FILES))


def _file_id(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type("the id of an uploaded file", value)
    return value


class Attachments(fields.Field[tuple[dict[str, Any], ...]]):
    """A list of ``{"file_id", "tools": [{"type"}]}``."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[dict[str, Any], ...]:
        return tuple(each(value, _attachment, "a list of attachments", MAX_FILES))


def _attachment(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type('an object like {"file_id": "...", "tools": [{"type": "file_search"}]}', value)
    file_id, tools = value.get("file_id"), value.get("tools")
    if not isinstance(file_id, str):
        raise ma.ValidationError({"file_id": [f"must be the id of an uploaded file, not {kind(file_id)}"]})
    try:
        return {"file_id": file_id, "tools": each([] if tools is None else tools, _tool, "a list of tools", MAX_FILES)}
    except ma.ValidationError as error:
        raise ma.ValidationError({"tools": error.messages}) from None


def _tool(value: object) -> dict[str, str]:
    word = value.get("type") if isinstance(value, dict) else None
    if word not in ATTACHMENT_TOOLS:
        raise ma.ValidationError({"type": [f"must be one of {', '.join(ATTACHMENT_TOOLS)}"]})
    return {"type": str(word)}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [required], "properties": properties}


_DETAIL = {"type": "string", "enum": list(DETAILS)}
_TEXT = {"type": "string", "minLength": 1}
_ANNOTATIONS = {"type": "array", "items": {"type": "object"}}
_PART_SCHEMAS = [
    {
        "type": "object",
        "required": ["type", "text"],
        "properties": {
            "type": {"type": "string", "enum": ["text"]},
            "text": {"anyOf": [_TEXT, _object("value", value=_TEXT, annotations=_ANNOTATIONS)]},
        },
    },
    {
        "type": "object",
        "required": ["type", "image_url"],
        "properties": {
            "type": {"type": "string", "enum": ["image_url"]},
            "image_url": _object("url", url={"type": "string", "pattern": "^(https?://|data:image/)"}, detail=_DETAIL),
        },
    },
    {
        "type": "object",
        "required": ["type", "image_file"],
        "properties": {
            "type": {"type": "string", "enum": ["image_file"]},
            "image_file": _object("file_id", file_id={"type": "string"}, detail=_DETAIL),
        },
    },
]


def _content_field(required: bool) -> Content:
    return Content(
        required=required,
        allow_none=not required,
        error_messages={"required": "is required", "null": "must not be null"},
        metadata={
            "description": "Text, or a list of parts: `text`, `image_url` and `image_file`. Never empty.",
            "oneOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "maxItems": MAX_PARTS, "items": {"anyOf": _PART_SCHEMAS}},
            ],
            "example": "How does AI work? Explain it in simple terms.",
        },
    )


class NewMessageSchema(Base):
    """A new message.

    `file_ids` and `attachments` are two ways to say the same: every file that either names is in both of the answer.
    """

    REFUSED = refusals(STORED_MESSAGE)

    role = Text(
        required=True,
        validate=one_of(ROLES),
        metadata={"description": "Who says it.", "example": "user"},
    )
    content = _content_field(required=True)
    file_ids = FileIds(
        allow_none=True,
        metadata={
            "description": "The ids of uploaded files that belong to the message.",
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_FILES,
        },
    )
    attachments = Attachments(
        allow_none=True,
        metadata={
            "description": "Uploaded files that belong to the message, and the tools they are for.",
            "type": "array",
            "maxItems": MAX_FILES,
            "items": _object(
                "file_id",
                file_id={"type": "string"},
                tools={
                    "type": "array",
                    "items": _object("type", type={"type": "string", "enum": list(ATTACHMENT_TOOLS)}),
                },
            ),
        },
    )
    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> MessageDraft:
        """The draft."""
        return MessageDraft(**data)


class ReplacingMessageSchema(NewMessageSchema):
    """A message of a thread's new set; with the `id` of one of its messages it takes that one's place and time."""

    id = Text(allow_none=True, metadata={"description": "The message of the thread that this one replaces."})


class MessageChangesSchema(Base):
    """What may change of a message; what is not given stays."""

    REFUSED = refusals(STORED_MESSAGE)

    content = _content_field(required=False)
    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields given."""
        return dict(data)


class MessageListQuerySchema(PageQuerySchema):
    """Which messages of a thread are wanted."""

    run_id = Text(load_default=None, metadata={"description": "Only the messages that this run made."})
