"""The query of the list of uploaded files, and a file as it is answered. ``api.plumbing.uploads`` reads uploads."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.fields import Text, between
from janflask.schemas.objects import PageQuerySchema, QueryWhole
from janflask.schemas.stored import DeletedSchema, PageSchema, always, time, told

MAX_PAGE = 10_000  # OpenAI's limit, and its default


class FilesQuerySchema(PageQuerySchema):
    """Which part of the list of files is wanted."""

    limit = QueryWhole(
        load_default=MAX_PAGE,
        validate=between(1, MAX_PAGE),
        metadata={"description": "How many at most.", "example": 100},
    )
    purpose = Text(load_default=None, metadata={"description": "Only the files with this purpose."})


class FileSchema(ma.Schema):
    """An uploaded file."""

    id = told("Its id.")
    object = always("file")
    bytes = fields.Integer(required=True, metadata={"description": "Its size."})
    created_at = time()
    filename = told("What its sender called it.")
    purpose = told("What it is for.")
    status = told("Always `processed`.")


class FileListSchema(PageSchema):
    """A page of files."""

    data = fields.List(fields.Nested(FileSchema), required=True)


class FileDeletedSchema(DeletedSchema):
    """A file that is gone."""

    object = always("file")
