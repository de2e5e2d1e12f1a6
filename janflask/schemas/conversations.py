"""Bodies, queries and answers of conversations, which are threads seen as items."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from janflask.schemas.items import STATUSES, IncludeQuerySchema, items_field
from janflask.schemas.objects import PageQuerySchema, metadata_field
from janflask.schemas.sampling import Base
from janflask.schemas.stored import DeletedSchema, PageSchema, always, time, told


class NewConversationSchema(Base):
    """A new conversation."""

    items = items_field("What it begins with, oldest first.", allow_none=True)
    metadata = metadata_field()


class ConversationChangesSchema(Base):
    """What may change of a conversation; what is not given stays."""

    metadata = metadata_field()

    @ma.post_load
    def make(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The fields given."""
        return dict(data)


class NewItemsSchema(Base):
    """What is added to a conversation."""

    items = items_field("The items, in order: all of them are added, or none.", required=True)


class ItemListQuerySchema(IncludeQuerySchema, PageQuerySchema):
    """Which items of a conversation are wanted."""

    class Meta:
        """marshmallow's options."""

        unknown = ma.EXCLUDE
        exclude = ("before",)


# --- answers ----------------------------------------------------------------------------------------------------------


class ConversationSchema(ma.Schema):
    """A conversation. It is a thread, too: `conv_X` and `thread_X` name the same."""

    id = told("Its id.")
    object = always("conversation")
    created_at = time()
    metadata = fields.Dict(required=True, metadata={"description": "Its owner's own."})


class ConversationListSchema(PageSchema):
    """A page of conversations."""

    data = fields.List(fields.Nested(ConversationSchema), required=True)


class ConversationDeletedSchema(DeletedSchema):
    """A conversation that is gone."""

    object = always("conversation.deleted")


class ItemSchema(ma.Schema):
    """An item of a conversation; its `type` says which fields it has."""

    id = told("Its id.")
    type = told("`message`, `reasoning`, `function_call`, `function_call_output` or `compaction`.")
    status = fields.String(validate=validate.OneOf(STATUSES))
    role = fields.String(metadata={"description": "Of a message."})
    content = fields.List(
        fields.Dict(),
        metadata={"description": "Of a message: `input_text`, `output_text` and other parts. Of thoughts."},
    )
    summary = fields.List(fields.Dict(), metadata={"description": "Of thoughts: always empty."})
    encrypted_content = fields.String(metadata={"description": "Of thoughts, if included, and of a compaction."})
    call_id = fields.String(metadata={"description": "Of a call, and of the output that answers it."})
    name = fields.String(metadata={"description": "Of a call."})
    arguments = fields.String(metadata={"description": "Of a call: JSON, as the model wrote it."})
    output = fields.String(metadata={"description": "What a call gave back."})


class ItemListSchema(PageSchema):
    """A page of items."""

    data = fields.List(fields.Nested(ItemSchema), required=True)
