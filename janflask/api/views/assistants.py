"""Assistants: GET and POST /assistants, and what can be done with one of them."""

from __future__ import annotations

from typing import Any

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.thread_objects import deleted_object, list_object
from janflask.api.examples import store as examples
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services
from janflask.api.plumbing.response import json_response
from janflask.schemas.assistants import (
    AssistantDeletedSchema,
    AssistantListSchema,
    AssistantSchema,
    CreateAssistantSchema,
    ModifyAssistantSchema,
)
from janflask.schemas.objects import PageQuerySchema
from janflask.services.paging import page
from janflask.storage.records import Assistant

blp = Blueprint(
    "Assistants",
    __name__,
    url_prefix="/v1/assistants",
    needs=Scope.CONVERSATIONS,
    description="Who answers in a thread: a model, instructions and sampling.",
)
_ASSISTANT_ID = [path_id("assistant", "jan")]
_LINKS = links("getAssistant", "modifyAssistant", "deleteAssistant", assistant_id="id")


def assistant_object(assistant: Assistant) -> dict[str, Any]:
    """``assistant`` as the API shows it: Jan's fields and OpenAI's."""
    return {
        "id": assistant.id,
        "object": "assistant",
        "version": assistant.version,
        "created_at": assistant.created_ms // 1000,
        "name": assistant.name,
        "description": assistant.description,
        "avatar": assistant.avatar,
        "model": assistant.model,
        "models": assistant.models,
        "instructions": assistant.instructions,
        "tools": assistant.tools,
        "tool_resources": assistant.tool_resources,
        "file_ids": assistant.file_ids,
        "events": assistant.events,
        "metadata": assistant.metadata,
        "temperature": assistant.temperature,
        "top_p": assistant.top_p,
        "response_format": assistant.response_format,
    }


@blp.route("", methods=["GET"])
@blp.doc(operationId="listAssistants")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, AssistantListSchema, description="A page of assistants.", example=examples.ASSISTANT_LIST)
@blp.refuses(400, 500, 503)
def list_assistants(query: dict[str, Any]) -> Response:
    """List assistants

    Gives a page of the assistants on this server, by default the newest 20. `jan` is always among all of them.
    """
    found = services().assistants.list(page(**query))
    return json_response(list_object([assistant_object(assistant) for assistant in found.items], found.has_more))


@blp.route("", methods=["POST"])
@blp.doc(operationId="createAssistant", responses={200: {"links": _LINKS}})
@blp.arguments(CreateAssistantSchema, example=examples.CREATE_ASSISTANT)
@blp.response(200, AssistantSchema, description="The new assistant.", example=examples.ASSISTANT)
@blp.refuses(400, 409, 413, 415, 500, 503, 507)
def create_assistant(values: dict[str, Any]) -> Response:
    """Create assistant

    Stores a new assistant: the key's own, everybody's if it is made with `admin` or without keys. Without a `model` any
    will do: `*`. Parameters that an assistant does not keep are refused, unknown fields are ignored.
    """
    return json_response(assistant_object(services().assistants.create(values)))


@blp.route("/<assistant_id>", methods=["GET"], parameters=_ASSISTANT_ID)
@blp.doc(operationId="getAssistant")
@blp.response(200, AssistantSchema, description="The assistant.", example=examples.ASSISTANT)
@blp.refuses(404, 500, 503)
def get_assistant(assistant_id: str) -> Response:
    """Get assistant

    Describes one assistant: its model, instructions, tools, files and sampling.
    """
    return json_response(assistant_object(services().assistants.get(assistant_id)))


@blp.modifies("/<assistant_id>", parameters=_ASSISTANT_ID)
@blp.doc(operationId="modifyAssistant")
@blp.arguments(ModifyAssistantSchema, example=examples.MODIFY_ASSISTANT)
@blp.response(200, AssistantSchema, description="The assistant as it is now.", example=examples.ASSISTANT)
@blp.refuses(400, 404, 409, 413, 415, 500, 503, 507)
def modify_assistant(values: dict[str, Any], assistant_id: str) -> Response:
    """Modify assistant

    Changes the fields that are given; null brings a field's default back. `jan` can be modified, too. POST and PATCH do
    the same. An assistant that is everybody's is modified by keys with `admin` only (403).
    """
    return json_response(assistant_object(services().assistants.modify(assistant_id, values)))


@blp.route("/<assistant_id>", methods=["DELETE"], parameters=_ASSISTANT_ID)
@blp.doc(operationId="deleteAssistant")
@blp.response(200, AssistantDeletedSchema, description="It is gone.", example=examples.ASSISTANT_DELETED)
@blp.refuses(404, 409, 500, 503)
def delete_assistant(assistant_id: str) -> Response:
    """Delete assistant

    Forgets the assistant; threads keep what they say of it. `jan` always exists and cannot be deleted (409). One that
    is everybody's is deleted by keys with `admin` only (403).
    """
    services().assistants.delete(assistant_id)
    return json_response(deleted_object(assistant_id, "assistant"))
