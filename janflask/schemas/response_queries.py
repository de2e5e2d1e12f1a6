"""The queries about responses."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.fields import Text, between
from janflask.schemas.items import INCLUDABLE
from janflask.schemas.objects import QueryWhole
from janflask.schemas.response_text import one_of
from janflask.schemas.sampling import Base


def _include_field(**options: Any) -> fields.List[str]:
    about = "What is told beside: see createResponse."
    return fields.List(Text(validate=one_of(INCLUDABLE)), metadata={"description": about}, **options)


class ResponseQuerySchema(Base):
    """How a response is told."""

    stream = fields.Boolean(load_default=False, metadata={"description": "As its events: joins, or replays."})
    starting_after = QueryWhole(
        load_default=None,
        validate=between(0, 1 << 53),
        metadata={"description": "With `stream`: the `sequence_number` behind which the events are told."},
    )
    include = _include_field()
    include_listed = _include_field(data_key="include[]")  # as OpenAI's clients write a list

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """With all that is to be included."""
        included = (*data.get("include", ()), *data.pop("include_listed", ()))
        return {**data, "include": included}
