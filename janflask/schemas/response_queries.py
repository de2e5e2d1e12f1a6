"""The queries about responses."""

from __future__ import annotations

from marshmallow import fields

from janflask.schemas.fields import between
from janflask.schemas.items import IncludeQuerySchema
from janflask.schemas.objects import QueryWhole


class ResponseQuerySchema(IncludeQuerySchema):
    """How a response is told."""

    stream = fields.Boolean(load_default=False, metadata={"description": "As its events: joins, or replays."})
    starting_after = QueryWhole(
        load_default=None,
        validate=between(0, 1 << 53),
        metadata={"description": "With `stream`: the `sequence_number` behind which the events are told."},
    )
