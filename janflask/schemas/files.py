"""The query of the list of uploaded files, and a file as it is answered. ``janflask.api.uploads`` reads uploads."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.schemas.fields import Text, between
from janflask.schemas.objects import PageQuerySchema, QueryWhole

MAX_PAGE = 10_000  # OpenAI's limit, and its default


class FilesQuerySchema(PageQuerySchema):
    """Which part of the list of files is wanted."""

    limit = QueryWhole(
        load_default=MAX_PAGE,
        validate=between(1, MAX_PAGE),
        metadata={"description": "How many at most.", "example": 100},
    )
    purpose = Text(load_default=None, metadata={"description": "Only the files with this purpose."})


def _told(description: str, **about: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": description, **about})


class FileSchema(ma.Schema):
    """An uploaded file."""

    id = _told("Its id.")
    object = fields.String(required=True, validate=validate.OneOf(["file"]))
    bytes = fields.Integer(required=True, metadata={"description": "Its size."})
    created_at = fields.Integer(required=True, metadata={"description": "Seconds since the epoch."})
    filename = _told("What its sender called it.")
    purpose = _told("What it is for.")
    status = _told("Always `processed`.")


class FileListSchema(ma.Schema):
    """A page of files."""

    object = fields.String(required=True, validate=validate.OneOf(["list"]))
    data = fields.List(fields.Nested(FileSchema), required=True)
    first_id = _told("The first one's id; null for an empty page.", nullable=True)
    last_id = _told("The last one's id; null for an empty page.", nullable=True)
    has_more = fields.Boolean(required=True, metadata={"description": "Whether the list goes on."})


class FileDeletedSchema(ma.Schema):
    """A file that is gone."""

    id = _told("Its id.")
    object = fields.String(required=True, validate=validate.OneOf(["file"]))
    deleted = fields.Boolean(required=True, metadata={"description": "Always true."})
