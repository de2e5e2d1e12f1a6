"""Chat completions that are stored: made, listed, told again, joined, changed and deleted."""

from __future__ import annotations

import re
from typing import Any

from flask import Response, request
from werkzeug.datastructures import MultiDict

from janflask.access.scopes import Scope
from janflask.api.answers.chat_log import ANSWERED, ChatListener, deltas_of, error_of
from janflask.api.answers.stored_chats import ID_HEADER, chat_stream, stored_chat, stored_message
from janflask.api.answers.thread_objects import deleted_object, list_object
from janflask.api.examples import stored_chats as examples
from janflask.api.plumbing.blueprint import Blueprint, path_id
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.api.plumbing.sse import last_event
from janflask.errors import InvalidRequestError
from janflask.inference.deltas import Events
from janflask.schemas.stored_chat_answers import (
    StoredChatDeletedSchema,
    StoredChatListSchema,
    StoredChatSchema,
    StoredMessageListSchema,
)
from janflask.schemas.stored_chats import (
    StoredChatChangesSchema,
    StoredChatQuerySchema,
    StoredChatStreamSchema,
    StoredMessageQuerySchema,
)
from janflask.services.answers import AnswerService
from janflask.services.paging import page
from janflask.storage.answers import AnswerDraft
from janflask.storage.records import Run, RunKind

blp = Blueprint(
    "Stored Chat Completions",
    __name__,
    url_prefix="/v1/chat/completions",
    needs=Scope.CONVERSATIONS,
    description="Chat completions that were made with `store`. They go on when their client leaves.",
)
_CHAT = path_id("completion", examples.CHAT_ID)
_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_METADATA = {
    "in": "query",
    "name": "metadata",
    "style": "deepObject",
    "explode": True,
    "description": "Only those with these pairs: `metadata[topic]=demo`.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
_LAST_EVENT = {
    "in": "header",
    "name": "Last-Event-ID",
    "description": "With `stream`: the number of the last chunk that was heard; it wins over `starting_after`.",
    "schema": {"type": "integer", "minimum": 0},
}
_EVENTS = {"type": "string", "description": "Server-sent events with numbers; the last one is `[DONE]`."}


def answer(draft: AnswerDraft) -> Response:
    """POST /chat/completions with ``store``: the chat is on disk, and then answered as any other."""
    answers = services().answers
    run = answers.create(draft)
    if draft.stream:
        return chat_stream(*_listening(answers, run, is_new=True))
    return _whole(answers, run, is_new=True)


@blp.route("", methods=["GET"], parameters=[_METADATA])
@blp.doc(operationId="listChatCompletions")
@blp.arguments(StoredChatQuerySchema, location="query")
@blp.response(200, StoredChatListSchema, description="A page of chats.", example=examples.CHAT_LIST)
@blp.refuses(400, 500, 503)
def list_chat_completions(query: dict[str, Any]) -> Response:
    """List chat completions

    Gives a page of the stored chats that have been answered, the oldest first.
    """
    model, pairs = query.pop("model"), _pairs(request.args)
    answers = services().answers

    def matches(run: Run) -> bool:
        has_pairs = all(run.metadata.get(key) == text for key, text in pairs.items())
        return run.status in ANSWERED and has_pairs and model in (None, run.model)

    found = answers.list(RunKind.CHAT, page(**query), matches)
    return json_response(list_object([stored_chat(run, answers.events(run)) for run in found.items], found.has_more))


@blp.route("/<completion_id>", methods=["GET"], parameters=[_CHAT, _LAST_EVENT])
@blp.doc(operationId="getChatCompletion")
@blp.arguments(StoredChatStreamSchema, location="query")
@blp.response(200, StoredChatSchema, description="The chat.", example=examples.CHAT)
@blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples.STREAM,
    description="The chat's chunks.",
    success=True,
)
@blp.refuses(400, 404, 500, 503)
def get_chat_completion(query: dict[str, Any], completion_id: str) -> Response:
    """Get chat completion

    Gives a stored chat with its answer; of one that is being answered the end is waited for.

    With `stream` it is told as chunks, and joined while it is being answered: all chunks, or those behind so many
    (`starting_after`). A chunk's number, in `id:`, is its place in the stream, from 1, whoever asks and whenever. What
    ended an answer that failed is told as an error, each time; where it had said nothing, with a true status.
    """
    answers = services().answers
    run = answers.get(completion_id, RunKind.CHAT)
    after = last_event(request.headers.get("Last-Event-ID"))
    if query["stream"] == "true" and not _has_failed_unspoken(answers, run):
        return chat_stream(*_listening(answers, run), after=query["starting_after"] or 0 if after is None else after)
    return _whole(answers, run)


@blp.modifies("/<completion_id>", parameters=[_CHAT])
@blp.doc(operationId="updateChatCompletion")
@blp.arguments(StoredChatChangesSchema, example=examples.CHANGES)
@blp.response(200, StoredChatSchema, description="The chat.", example=examples.CHAT)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def update_chat_completion(changes: dict[str, Any], completion_id: str) -> Response:
    """Update chat completion

    Replaces a stored chat's `metadata`; everything else about it stays as it is. One that failed cannot be told, and is
    not changed.
    """
    answers = services().answers
    run = answers.get(completion_id, RunKind.CHAT)
    if run.status.is_final and run.status not in ANSWERED:
        raise error_of(run)
    return _whole(answers, answers.modify(completion_id, RunKind.CHAT, changes))


@blp.route("/<completion_id>", methods=["DELETE"], parameters=[_CHAT])
@blp.doc(operationId="deleteChatCompletion")
@blp.response(200, StoredChatDeletedSchema, description="It is gone.", example=examples.CHAT_DELETED)
@blp.refuses(404, 409, 500, 503)
def delete_chat_completion(completion_id: str) -> Response:
    """Delete chat completion

    Deletes a stored chat with its messages; one that is being answered is cancelled first.
    """
    services().answers.delete(completion_id, RunKind.CHAT)
    return json_response(deleted_object(completion_id, "chat.completion"))


@blp.route("/<completion_id>/messages", methods=["GET"], parameters=[_CHAT])
@blp.doc(operationId="getChatCompletionMessages")
@blp.arguments(StoredMessageQuerySchema, location="query")
@blp.response(200, StoredMessageListSchema, description="A page of messages.", example=examples.MESSAGE_LIST)
@blp.refuses(400, 404, 500, 503)
def get_chat_completion_messages(query: dict[str, Any], completion_id: str) -> Response:
    """Get chat messages

    Gives a page of the messages that came with the request, the oldest first. The answer is in the chat itself.
    """
    answers = services().answers
    found = answers.input_messages(answers.get(completion_id, RunKind.CHAT), page(**query))
    return json_response(list_object([stored_message(message) for message in found.items], found.has_more))


def _whole(answers: AnswerService, run: Run, *, is_new: bool = False) -> Response:
    """The chat once it has ended. Raises what ended it if that was no answer; a new one without a word is gone then."""
    ended = answers.finished(run, waiter(), services().settings.keepalive)
    if ended.status not in ANSWERED:
        if is_new and _has_failed_unspoken(answers, ended):
            answers.take_back(ended)
        raise error_of(ended)
    response = json_response(stored_chat(ended, answers.events(ended)))
    response.headers[ID_HEADER] = run.id
    return response


def _listening(answers: AnswerService, run: Run, *, is_new: bool = False) -> tuple[Events, ChatListener]:
    """What is said of the chat; a new one that ends without a word in place of an answer is gone then."""
    listener = ChatListener(run)
    changes = answers.watch(run, waiter(), services().settings.keepalive)

    def events() -> Events:
        try:
            yield from listener.events(changes)
        finally:
            changes.close()
        if listener.run.status not in ANSWERED:
            if is_new and not listener.has_said:
                answers.take_back(listener.run)
            raise error_of(listener.run)

    return events(), listener


def _has_failed_unspoken(answers: AnswerService, run: Run) -> bool:
    is_over = run.status.is_final and run.status not in ANSWERED
    return is_over and not deltas_of(answers.events(run))


def _pairs(query: MultiDict[str, str]) -> dict[str, str]:
    """What is asked for of ``metadata``. Raises InvalidRequestError for another way to ask."""
    pairs: dict[str, str] = {}
    for name, texts in query.lists():
        if not name.startswith("metadata"):
            continue
        match = _PAIR.fullmatch(name)
        if match is None or len(texts) > 1:
            raise InvalidRequestError("metadata must be asked for as metadata[key]=value, once a key", param="metadata")
        pairs[match[1]] = texts[0]
    return pairs
