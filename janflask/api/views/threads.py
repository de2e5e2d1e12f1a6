"""Threads: conversations, their assistants, and their way in and out."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec
from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.thread_objects import (
    deleted_object,
    message_object,
    pagination,
    single_thread,
    thread_object,
)
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response, streamed_list, validated
from janflask.schemas.thread_answers import (
    ListedThreadSchema,
    ThreadDeletedSchema,
    ThreadObjectSchema,
    WholeThreadSchema,
)
from janflask.schemas.threads import (
    NewThreadSchema,
    ThreadAssistantChangesSchema,
    ThreadBranchSchema,
    ThreadChangesSchema,
    ThreadListQuerySchema,
)
from janflask.services.paging import page
from janflask.storage.records import ThreadDraft

PAGINATION_HEADER = "X-Pagination"

blp = Blueprint(
    "Threads",
    __name__,
    url_prefix="/v1/threads",
    needs=Scope.CONVERSATIONS,
    description="Threads are conversations: their messages, and what decides how they are answered.",
)
_THREAD = path_id("thread", examples.THREAD_ID)
_ASSISTANT = path_id("assistant", "jan")
_PAGINATION = {
    PAGINATION_HEADER: {
        "description": "`total` (all threads; not of a search), `limit`, `has_more`, `first_id` and `last_id` as JSON. "
        "Without `limit`, `order`, cursors and `q` the list is sent while it is read.",
        "schema": {"type": "string"},
        "example": '{"total":2,"limit":1,"has_more":true,"first_id":"thread_abc123","last_id":"thread_abc123"}',
    }
}
_ALL = page(None, "desc", None, None)
_OLDEST = page(1, "asc", None, None)
_LINKS = links(
    *("getThread", "modifyThread", "deleteThread", "getThreadAssistants", "listThreadMessage", "exportThread"),
    *("createMessage", "listMessages"),
    thread_id="id",
)


@blp.route("", methods=["POST"])
@blp.doc(operationId="createThread", responses={200: {"links": _LINKS}})
@blp.arguments(NewThreadSchema, required=False, example=examples.THREAD_REQUEST)
@blp.response(200, ThreadObjectSchema, description="The thread.", example=examples.THREAD)
@blp.refuses(400, 409, 413, 415, 500, 503, 507)
def create_thread(body: ThreadDraft) -> Response:
    """Create thread

    Makes a thread, with its first messages if there are any. The body is optional. When it is answered, all is on disk.
    """
    return json_response(single_thread(services().threads.create(body)))


@blp.route("", methods=["GET"])
@blp.doc(operationId="listThreads", responses={304: {"description": "It is what `If-None-Match` names."}})
@blp.arguments(ThreadListQuerySchema, location="query")
@blp.response(
    200,
    ListedThreadSchema(many=True),
    description="The threads, without their messages.",
    example=examples.THREAD_LIST,
    headers=_PAGINATION,
)
@blp.refuses(400, 500, 503)
def list_threads(query: dict[str, Any]) -> Response:
    """List threads

    Gives the threads, the newest first: all of them, or with `limit` a page. The list is bare, as Jan has it; the
    header `X-Pagination` tells about the page. A page has an `ETag`, and `If-None-Match` with it is answered with 304
    as long as nothing that the page shows has changed.
    """
    words, wanted, threads = query.pop("q").strip(), page(**query), services().threads
    if not words and wanted == _ALL:
        return _all_threads()
    found = threads.list(wanted, words)
    data = [thread_object(thread) for thread in found.items]
    about = {"limit": wanted.limit, **pagination(data, found.has_more)}
    response = json_response(data)
    response.headers[PAGINATION_HEADER] = _header(about if words else {"total": threads.count(wanted), **about})
    return validated(response)


def _all_threads() -> Response:
    threads = services().threads
    total, items = threads.count(_ALL), map(thread_object, threads.all())
    first = next(items, None)
    start = [] if first is None else [first]
    response = streamed_list(chain(start, items))
    ends = [*start, *({"id": oldest.id} for oldest in threads.list(_OLDEST).items)]
    about = {"total": total, "limit": None, **pagination(ends, has_more=False)}
    response.headers[PAGINATION_HEADER] = _header(about)
    return response


def _header(about: dict[str, Any]) -> str:
    return msgspec.json.encode(about).decode()


@blp.route("/<thread_id>", methods=["GET"], parameters=[_THREAD], strict_slashes=True)
@blp.doc(operationId="getThread")
@blp.response(200, ThreadObjectSchema, description="The thread.", example=examples.THREAD)
@blp.refuses(404, 500, 503)
def get_thread(thread_id: str) -> Response:
    """Get thread

    Gives one thread with the ids of its messages, in order. With a slash at the path's end the messages themselves come
    with it.
    """
    return json_response(single_thread(services().threads.get(thread_id)))


@blp.route("/<thread_id>/", methods=["GET"], parameters=[_THREAD], strict_slashes=True)
@blp.doc(operationId="listThreadMessage")
@blp.response(200, WholeThreadSchema, description="The thread.", example=examples.WHOLE_THREAD)
@blp.refuses(404, 500, 503)
def get_thread_with_messages(thread_id: str) -> Response:
    """Get thread with its messages

    Gives one thread with all of its messages, in order, sent while they are read. Pages of them are at
    /threads/{thread_id}/messages.
    """
    thread, messages = services().threads.with_messages(thread_id)
    start = msgspec.json.encode(thread_object(thread))[:-1] + b',"messages":'
    return streamed_list(map(message_object, messages), start, b"}")


@blp.modifies("/<thread_id>", parameters=[_THREAD])
@blp.doc(operationId="modifyThread")
@blp.arguments(ThreadChangesSchema, required=False, example=examples.THREAD_CHANGES)
@blp.response(200, ThreadObjectSchema, description="The thread.", example=examples.THREAD)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def modify_thread(body: ThreadDraft, thread_id: str) -> Response:
    """Modify thread

    Replaces what is given and leaves the rest; `metadata` is replaced as a whole, and so are the `messages`. A thread
    as it was got, changed here and there, is a good body: what cannot be changed is ignored.
    """
    return json_response(single_thread(services().threads.modify(thread_id, body)))


@blp.route("/<thread_id>/branch", methods=["POST"], parameters=[_THREAD])
@blp.doc(operationId="branchThread")
@blp.arguments(ThreadBranchSchema, required=False, example=examples.THREAD_BRANCH_REQUEST)
@blp.response(200, ThreadObjectSchema, description="The new thread.", example=examples.THREAD_BRANCH)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def branch_thread(body: dict[str, Any], thread_id: str) -> Response:
    """Branch thread

    Makes a new thread that begins as this one does: with its messages (all, or those before one of them), which keep
    their ids, its own files, and whatever decides how it is answered. Its `metadata` says where it comes from:
    `branch_root` is the first thread of all that are branches of each other, `branch_parent` the thread that it left,
    and `branch_after` the last message that the two have in common, empty for none. When it is answered, all is on
    disk.
    """
    return json_response(single_thread(services().threads.branch(thread_id, body["before"])))


@blp.route("/<thread_id>", methods=["DELETE"], parameters=[_THREAD])
@blp.doc(operationId="deleteThread")
@blp.response(200, ThreadDeletedSchema, description="The thread is gone.", example=examples.THREAD_DELETED)
@blp.refuses(404, 500, 503, 507)
def delete_thread(thread_id: str) -> Response:
    """Delete thread

    Deletes a thread and its messages in one step. Uploaded files that they hold stay.
    """
    services().threads.delete(thread_id)
    return json_response(deleted_object(thread_id, "thread"))


@blp.route("/<thread_id>/assistants", methods=["GET"], parameters=[_THREAD])
@blp.doc(operationId="getThreadAssistants")
@blp.response(200, ThreadObjectSchema, description="The thread.", example=examples.THREAD)
@blp.refuses(404, 500, 503)
def get_thread_assistants(thread_id: str) -> Response:
    """Get a thread's assistants

    Gives the thread, like /threads/{thread_id}; who answers in it is in its `assistants`.
    """
    return json_response(single_thread(services().threads.get(thread_id)))


@blp.route("/<thread_id>/assistants/<assistant_id>", methods=["POST"], parameters=[_THREAD, _ASSISTANT])
@blp.doc(operationId="postThreadAssistants")
@blp.arguments(ThreadAssistantChangesSchema, required=False, example=examples.THREAD_ASSISTANT_CHANGES)
@blp.response(200, ThreadObjectSchema, description="The thread.", example=examples.THREAD)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def post_thread_assistants(changes: dict[str, Any], thread_id: str, assistant_id: str) -> Response:
    """Modify an assistant of a thread

    Replaces what is given of an assistant's entry in the thread. One that is not there yet is added as it is on this
    server, with the changes. The assistant itself stays as it is.
    """
    return json_response(single_thread(services().threads.set_assistant(thread_id, assistant_id, changes)))
