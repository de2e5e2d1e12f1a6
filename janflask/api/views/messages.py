"""The messages of a thread, and the files of a message."""

from __future__ import annotations

from typing import Any

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.thread_objects import deleted_object, list_object, message_file_object, message_object
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.schemas.messages import MessageChangesSchema, MessageListQuerySchema, NewMessageSchema
from janflask.schemas.objects import PageQuerySchema
from janflask.schemas.thread_answers import (
    MessageDeletedSchema,
    MessageFileListSchema,
    MessageFileSchema,
    MessageListSchema,
    MessageObjectSchema,
)
from janflask.services.paging import page
from janflask.storage.records import MessageDraft

blp = Blueprint(
    "Messages",
    __name__,
    url_prefix="/v1/threads/<thread_id>/messages",
    needs=Scope.CONVERSATIONS,
    description="Messages capture a conversation's content. This can include the content from LLM responses and other "
    "metadata from chat completions.",
)
_THREAD = path_id("thread", examples.THREAD_ID)
_MESSAGE = path_id("message", examples.MESSAGE_ID)
_FILE = path_id("file", examples.FILE_ID)
_LINKS = links(
    *("retrieveMessage", "modifyMessage", "deleteMessage", "listMessageFiles"),
    thread_id="thread_id",
    message_id="id",
)


@blp.route("", methods=["GET"], parameters=[_THREAD])
@blp.doc(operationId="listMessages")
@blp.arguments(MessageListQuerySchema, location="query")
@blp.response(200, MessageListSchema, description="A page of messages.", example=examples.MESSAGE_LIST)
@blp.refuses(400, 404, 500, 503)
def list_messages(query: dict[str, Any], thread_id: str) -> Response:
    """List messages

    Gives a page of a thread's messages, the newest first. The next page comes `after` the `last_id` of this one.
    """
    run_id = query.pop("run_id")
    found = services().messages.list(thread_id, page(**query), run_id)
    return json_response(list_object([message_object(message) for message in found.items], found.has_more))


@blp.route("", methods=["POST"], parameters=[_THREAD])
@blp.doc(operationId="createMessage", responses={200: {"links": _LINKS}})
@blp.arguments(NewMessageSchema, example=examples.MESSAGE_REQUEST)
@blp.response(200, MessageObjectSchema, description="The message.", example=examples.MESSAGE)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def create_message(body: MessageDraft, thread_id: str) -> Response:
    """Create message

    Adds a message at a thread's end; when it is answered, the message is on disk. Files have to be uploaded before.
    Those named in `file_ids` and those in `attachments` are put together: the answer has all of them in both.
    """
    return json_response(message_object(services().messages.create(thread_id, body)))


@blp.route("/<message_id>", methods=["GET"], parameters=[_THREAD, _MESSAGE])
@blp.doc(operationId="retrieveMessage")
@blp.response(200, MessageObjectSchema, description="The message.", example=examples.MESSAGE)
@blp.refuses(404, 500, 503)
def retrieve_message(thread_id: str, message_id: str) -> Response:
    """Retrieve message

    Gives one message of a thread, with all of its content.
    """
    return json_response(message_object(services().messages.get(thread_id, message_id)))


@blp.modifies("/<message_id>", parameters=[_THREAD, _MESSAGE])
@blp.doc(operationId="modifyMessage")
@blp.arguments(MessageChangesSchema, required=False, example=examples.MESSAGE_CHANGES)
@blp.response(200, MessageObjectSchema, description="The message.", example=examples.MESSAGE)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def modify_message(changes: dict[str, Any], thread_id: str, message_id: str) -> Response:
    """Modify message

    Replaces what is given, `content` or `metadata`, and leaves the rest. The message keeps its place in the thread.
    """
    return json_response(message_object(services().messages.modify(thread_id, message_id, changes)))


@blp.route("/<message_id>", methods=["DELETE"], parameters=[_THREAD, _MESSAGE])
@blp.doc(operationId="deleteMessage")
@blp.response(200, MessageDeletedSchema, description="The message is gone.", example=examples.MESSAGE_DELETED)
@blp.refuses(404, 500, 503, 507)
def delete_message(thread_id: str, message_id: str) -> Response:
    """Delete message

    Takes one message out of a thread. Uploaded files that it holds stay.
    """
    services().messages.delete(thread_id, message_id)
    return json_response(deleted_object(message_id, "thread.message"))


@blp.route("/<message_id>/files", methods=["GET"], parameters=[_THREAD, _MESSAGE])
@blp.doc(operationId="listMessageFiles")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, MessageFileListSchema, description="A page of files.", example=examples.MESSAGE_FILE_LIST)
@blp.refuses(400, 404, 500, 503)
def list_message_files(query: dict[str, Any], thread_id: str, message_id: str) -> Response:
    """List message files

    Gives the files that a message holds, attached to it or pictured in it; `order` is that in which it names them.
    """
    message, found = services().messages.files(thread_id, message_id, page(**query))
    data = [message_file_object(message, file_id) for file_id in found.items]
    return json_response(list_object(data, found.has_more))


@blp.route("/<message_id>/files/<file_id>", methods=["GET"], parameters=[_THREAD, _MESSAGE, _FILE])
@blp.doc(operationId="retrieveMessageFile")
@blp.response(200, MessageFileSchema, description="The file, as the message's.", example=examples.MESSAGE_FILE)
@blp.refuses(404, 500, 503)
def retrieve_message_file(thread_id: str, message_id: str, file_id: str) -> Response:
    """Retrieve message file

    Says whether a message holds a file. The file itself is at /files/{file_id}, its bytes at /files/{file_id}/content.
    """
    message = services().messages.with_file(thread_id, message_id, file_id)
    return json_response(message_file_object(message, file_id))
