"""Conversations: threads seen as items."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.conversation_objects import conversation_object
from janflask.api.answers.item_objects import item_object
from janflask.api.answers.thread_objects import deleted_object, list_object
from janflask.api.examples import conversations as examples
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.files import ids
from janflask.schemas.conversations import (
    ConversationChangesSchema,
    ConversationDeletedSchema,
    ConversationListSchema,
    ConversationSchema,
    ItemListQuerySchema,
    ItemListSchema,
    ItemSchema,
    NewConversationSchema,
    NewItemsSchema,
)
from janflask.schemas.items import IncludeQuerySchema, places
from janflask.schemas.objects import PageQuerySchema
from janflask.services.paging import page
from janflask.storage.items import Item
from janflask.storage.records import ThreadDraft

blp = Blueprint(
    "Conversations",
    __name__,
    url_prefix="/v1/conversations",
    needs=Scope.CONVERSATIONS,
    description="Conversations are threads seen as items: messages, thoughts, calls and their outputs. `conv_X` and "
    "`thread_X` name the same one, in every route.",
)
_CONVERSATION = path_id("conversation", examples.CONVERSATION_ID)
_ITEM = path_id("item", examples.ITEM_ID)
_LINKS = links(
    *("getConversation", "updateConversation", "deleteConversation", "listConversationItems"),
    "createConversationItems",
    conversation_id="id",
)


@blp.route("", methods=["POST"])
@blp.doc(operationId="createConversation", responses={200: {"links": _LINKS}})
@blp.arguments(NewConversationSchema, required=False, example=examples.CONVERSATION_REQUEST)
@blp.response(200, ConversationSchema, description="The conversation.", example=examples.CONVERSATION)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def create_conversation(body: dict[str, Any]) -> Response:
    """Create conversation

    Makes a conversation, with its first items if there are any. The body is optional. When it is answered, all is on
    disk.
    """
    items = body.get("items") or ()
    metadata = body.get("metadata") or {}
    thread = services().items.create_thread(metadata, items, places("items", len(items)))
    return json_response(conversation_object(thread))


@blp.route("", methods=["GET"])
@blp.doc(operationId="listConversations")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, ConversationListSchema, description="A page of conversations.", example=examples.CONVERSATION_LIST)
@blp.refuses(400, 500, 503)
def list_conversations(query: dict[str, Any]) -> Response:
    """List conversations

    Gives a page of all conversations, the newest first; OpenAI's API has no such list.
    """
    found = services().threads.list(page(**query))
    return json_response(list_object([conversation_object(thread) for thread in found.items], found.has_more))


@blp.route("/<conversation_id>", methods=["GET"], parameters=[_CONVERSATION])
@blp.doc(operationId="getConversation")
@blp.response(200, ConversationSchema, description="The conversation.", example=examples.CONVERSATION)
@blp.refuses(404, 500, 503)
def get_conversation(conversation_id: str) -> Response:
    """Get conversation

    Gives one conversation, without its items.
    """
    return json_response(conversation_object(services().threads.get(conversation_id).thread))


@blp.modifies("/<conversation_id>", parameters=[_CONVERSATION])
@blp.doc(operationId="updateConversation")
@blp.arguments(ConversationChangesSchema, example=examples.CHANGES)
@blp.response(200, ConversationSchema, description="The conversation.", example=examples.CONVERSATION)
@blp.refuses(400, 404, 413, 415, 500, 503, 507)
def update_conversation(changes: dict[str, Any], conversation_id: str) -> Response:
    """Update conversation

    Replaces the metadata, as a whole; without any the conversation stays as it is.
    """
    view = services().threads.modify(conversation_id, ThreadDraft(fields=changes))
    return json_response(conversation_object(view.thread))


@blp.route("/<conversation_id>", methods=["DELETE"], parameters=[_CONVERSATION])
@blp.doc(operationId="deleteConversation")
@blp.response(200, ConversationDeletedSchema, description="The conversation is gone.", example=examples.DELETED)
@blp.refuses(404, 500, 503, 507)
def delete_conversation(conversation_id: str) -> Response:
    """Delete conversation

    Deletes a conversation with all that is in it: the thread, its messages, runs and responses.
    """
    services().threads.delete(conversation_id)
    return json_response(deleted_object(ids.conversation_id(conversation_id), "conversation"))


@blp.route("/<conversation_id>/items", methods=["POST"], parameters=[_CONVERSATION])
@blp.doc(operationId="createConversationItems")
@blp.arguments(IncludeQuerySchema, location="query")
@blp.arguments(NewItemsSchema, example=examples.ITEMS_REQUEST)
@blp.response(200, ItemListSchema, description="The new items.", example=examples.ITEM_LIST)
@blp.refuses(400, 404, 409, 413, 415, 500, 503, 507)
def create_items(query: dict[str, Any], body: dict[str, Any], conversation_id: str) -> Response:
    """Create items

    Adds items at a conversation's end, all of them or none; when it is answered, they are on disk. While the
    conversation is being answered this is a 409.
    """
    items = body["items"]
    made = services().items.create(conversation_id, items, places("items", len(items)))
    return json_response(list_object(_objects(made, query["include"]), has_more=False))


@blp.route("/<conversation_id>/items", methods=["GET"], parameters=[_CONVERSATION])
@blp.doc(operationId="listConversationItems")
@blp.arguments(ItemListQuerySchema, location="query")
@blp.response(200, ItemListSchema, description="A page of items.", example=examples.ITEM_LIST)
@blp.refuses(400, 404, 500, 503)
def list_items(query: dict[str, Any], conversation_id: str) -> Response:
    """List items

    Gives a page of a conversation's items, the newest first. The next page comes `after` the `last_id` of this one.
    """
    include = query.pop("include")
    found = services().items.list(conversation_id, page(**query, before=None))
    return json_response(list_object(_objects(found.items, include), found.has_more))


@blp.route("/<conversation_id>/items/<item_id>", methods=["GET"], parameters=[_CONVERSATION, _ITEM])
@blp.doc(operationId="getConversationItem")
@blp.arguments(IncludeQuerySchema, location="query")
@blp.response(200, ItemSchema, description="The item.", example=examples.ITEM)
@blp.refuses(400, 404, 500, 503)
def get_item(query: dict[str, Any], conversation_id: str, item_id: str) -> Response:
    """Get item

    Gives one item of a conversation, also one of an answer that is being given.
    """
    item = services().items.get(conversation_id, item_id)
    return json_response(_objects([item], query["include"])[0])


@blp.route("/<conversation_id>/items/<item_id>", methods=["DELETE"], parameters=[_CONVERSATION, _ITEM])
@blp.doc(operationId="deleteConversationItem")
@blp.response(200, ConversationSchema, description="The conversation.", example=examples.CONVERSATION)
@blp.refuses(400, 404, 500, 503, 507)
def delete_item(conversation_id: str, item_id: str) -> Response:
    """Delete item

    Takes one item out of a conversation; a call of a run goes with its output. The answer is the conversation.
    """
    services().items.delete(conversation_id, item_id)
    return json_response(conversation_object(services().threads.get(conversation_id).thread))


def _objects(items: Iterable[Item], include: Collection[str]) -> list[dict[str, Any]]:
    return [item_object(item, include=include, seals=services().seals) for item in items]
