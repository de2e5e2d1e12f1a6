"""A conversation is summed up, for a client that goes on from there."""

from __future__ import annotations

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.compaction_objects import compaction_object
from janflask.api.answers.response_errors import in_its_words
from janflask.api.examples import compaction as examples
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.schemas.response_answers import CompactionObjectSchema
from janflask.schemas.response_tools import places_of
from janflask.schemas.responses import ResponseRequestSchema
from janflask.storage.answers import AnswerDraft

blp = Blueprint(
    "Compaction",
    __name__,
    url_prefix="/v1/responses",
    needs=Scope.INFERENCE,
    description="A conversation that grew too long is summed up by its model, and goes on from the summary.",
)


@blp.route("/compact", methods=["POST"])
@blp.doc(operationId="compactResponse")
@blp.arguments(ResponseRequestSchema, example=examples.REQUEST)
@blp.response(200, CompactionObjectSchema, description="The shorter conversation.", example=examples.COMPACTION)
@blp.refuses(400, 404, 409, 413, 415, 429, 500, 503)
def compact_response(body: AnswerDraft) -> Response:
    """Compact a conversation

    Has `input`, behind `previous_response_id` or in a `conversation`, summed up by the model, and gives back what the
    user said and one `compaction` item, whose `encrypted_content` is sealed. Send all of that as the beginning of the
    next `input`; the item stands for everything before it. Nothing is stored.
    """
    if body.reads_store:
        access.require(Scope.CONVERSATIONS)
    with in_its_words(places_of(body.asked)):
        unstored, client = services().unstored, waiter()
        asked = unstored.asked(body)
        made, messages = unstored.summed_up(asked, client)
    return json_response(compaction_object(asked.run.id, made, messages))
