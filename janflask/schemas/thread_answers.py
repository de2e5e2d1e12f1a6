"""Threads and messages as they are answered, for the OpenAPI document. They are built as plain objects."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import fields

from janflask.schemas.stored import DeletedSchema, PageSchema, always, time, told


def _object(description: str, **about: Any) -> fields.Dict:
    return fields.Dict(required=True, metadata={"description": description, **about})


class TextValueSchema(ma.Schema):
    """Text and what is marked in it."""

    value = fields.String(required=True)
    annotations = fields.List(fields.Dict(), required=True)


class ImageUrlSchema(ma.Schema):
    """A picture elsewhere, or in the URL itself."""

    url = fields.String(required=True)
    detail = fields.String()


class ImageFileSchema(ma.Schema):
    """A picture that was uploaded."""

    file_id = fields.String(required=True)
    detail = fields.String()


class MessageContentSchema(ma.Schema):
    """A part of a message: its `type` names the field that it has."""

    type = told("`text`, `image_url` or `image_file`.")
    text = fields.Nested(TextValueSchema)
    image_url = fields.Nested(ImageUrlSchema)
    image_file = fields.Nested(ImageFileSchema)


class MessageObjectSchema(ma.Schema):
    """A message of a thread; a line of its `messages.jsonl`."""

    id = told("Its id.")
    object = always("thread.message")
    created_at = time()
    thread_id = told("The thread that it belongs to.")
    role = told("`user` or `assistant`; through items also `system`, `developer` and `tool`.")
    content = fields.List(fields.Nested(MessageContentSchema), required=True)
    file_ids = fields.List(
        fields.String(), required=True, metadata={"description": "The uploaded files that are attached to it."}
    )
    attachments = fields.List(
        fields.Dict(),
        required=True,
        metadata={"description": "The same files, each with the `tools` that it is for: `{file_id, tools: [{type}]}`."},
    )
    assistant_id = told("Who wrote it, if an assistant did.", nullable=True)
    run_id = told("The run that made it.", nullable=True)
    status = told("`completed`, `in_progress` or `incomplete`.")
    incomplete_details = _object("Why it is incomplete.", nullable=True)
    completed_at = time(nullable=True)
    incomplete_at = time(nullable=True)
    metadata = _object("Its sender's own.")
    reasoning_content = fields.String(
        metadata={"description": "What the model thought before it; left out if it did not."}
    )
    tool_rounds = fields.List(
        fields.Dict(),
        metadata={
            "description": "What was called before it, `{message_id, calls: [{id, name, arguments, output}]}` for each "
            "round; `message_id` is that of the message said in the same turn. Left out if nothing was."
        },
    )
    tool_calls = fields.List(
        fields.Dict(),
        metadata={"description": "What it wants called, in the form of chat completions, if it ends with calls."},
    )
    tool_call_id = fields.String(metadata={"description": "Of a message of the role `tool`: the call it answers."})


class MessageListSchema(PageSchema):
    """A page of messages."""

    data = fields.List(fields.Nested(MessageObjectSchema), required=True)


class MessageFileSchema(ma.Schema):
    """A file of a message."""

    id = told("The file's id.")
    object = always("thread.message.file")
    created_at = time("When the message was made, in seconds since the epoch.")
    message_id = told("The message.")


class MessageFileListSchema(PageSchema):
    """A page of a message's files."""

    data = fields.List(fields.Nested(MessageFileSchema), required=True)


class MessageDeletedSchema(DeletedSchema):
    """A message that is gone."""

    object = always("thread.message.deleted")


class ThreadDeletedSchema(DeletedSchema):
    """A thread that is gone."""

    object = always("thread.deleted")


class ThreadAssistantSchema(ma.Schema):
    """An assistant in a thread."""

    assistant_id = told("Its id; it need not be one of this server's.")
    assistant_name = told("What it is called.")
    instructions = told("What it is told before the conversation.")
    model = _object("The model it uses here: `{id, settings, parameters, engine}`, each optional.")


class ListedThreadSchema(ma.Schema):
    """A conversation, as an entry of the list."""

    id = told("Its id.")
    object = always("thread")
    title = told("What it is called.")
    summary = told("What it is about.")
    assistants = fields.List(fields.Nested(ThreadAssistantSchema), required=True)
    created = time()
    created_at = time()
    updated = time("When it or the last of its messages changed, in seconds since the epoch.")
    metadata = _object("Its owner's own.")
    model_id = told("The model that answers here, over the assistant's.", nullable=True)
    settings = _object("How the model is started, over its own settings.")
    parameters = _object("Defaults of requests, over the model's own.")
    tool_resources = _object("What the tools may use.")


class ThreadObjectSchema(ListedThreadSchema):
    """A conversation; its folder's `thread.json`. No field is required there."""

    messages = fields.List(
        fields.String(), required=True, metadata={"description": "The ids of its messages, in order."}
    )


class WholeThreadSchema(ListedThreadSchema):
    """A conversation with its messages."""

    messages = fields.List(fields.Nested(MessageObjectSchema), required=True)


class SkippedSchema(ma.Schema):
    """What was left out."""

    path = told("Its path in the archive.")
    reason = told("Why it was left out.")


class ImportReportSchema(ma.Schema):
    """What came out of an archive."""

    object = always("thread.import")
    threads = fields.List(fields.String(), required=True, metadata={"description": "The threads' ids here."})
    assistants = fields.List(fields.String(), required=True, metadata={"description": "The assistants' ids here."})
    files = fields.List(fields.String(), required=True, metadata={"description": "The files' ids here."})
    renamed = fields.Dict(
        required=True, metadata={"description": "The new id for each that was taken, by the one in the archive."}
    )
    skipped = fields.List(fields.Nested(SkippedSchema), required=True)
