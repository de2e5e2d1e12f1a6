"""Responses: what answers a conversation, stored or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.response_errors import failure, in_its_words
from janflask.api.answers.response_events import NOWHERE
from janflask.api.answers.response_objects import View, output_object, response_object
from janflask.api.answers.response_stream import stored_stream, unstored_response, unstored_stream
from janflask.api.answers.thread_objects import list_object
from janflask.api.examples import responses as examples
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint, links, path_id
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.errors import JanflaskError
from janflask.schemas.objects import PageQuerySchema
from janflask.schemas.response_answers import (
    InputItemListSchema,
    ResponseDeletedSchema,
    ResponseObjectSchema,
    ResponseTokensSchema,
)
from janflask.schemas.response_queries import ResponseQuerySchema
from janflask.schemas.response_tools import places_of
from janflask.schemas.responses import ResponseRequestSchema
from janflask.services.paging import page
from janflask.storage.answers import AnswerDraft
from janflask.storage.records import Run, RunKind
from janflask.storage.run_log import TextEvent

blp = Blueprint(
    "Responses",
    __name__,
    url_prefix="/v1/responses",
    needs=Scope.CONVERSATIONS,
    description="A response answers a conversation. It is stored, and can be gone on with, unless `store` is false.",
)
_RESPONSE = path_id("response", examples.RESPONSE_ID)
_EVENTS = {"type": "string", "description": "Server-sent events, each with its `sequence_number`."}
_LINKS = links("getResponse", "cancelResponse", "listInputItems", response_id="id")

_streams = blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples.STREAM,
    description="The response's events.",
    success=True,
)


@blp.route("", methods=["POST"])
@access.needs(Scope.INFERENCE)
@blp.doc(operationId="createResponse", responses={200: {"links": _LINKS}})
@blp.arguments(ResponseRequestSchema, example=examples.REQUEST)
@blp.response(200, ResponseObjectSchema, description="The response.", example=examples.RESPONSE)
@_streams
@blp.refuses(400, 404, 409, 413, 415, 429, 500, 503, 507)
def create_response(body: AnswerDraft) -> Response:
    """Create response

    Answers what is new (`input`) behind what was said before: `previous_response_id`, or a `conversation`. A response
    is kept as a run of a thread, and goes on whatever becomes of its client; with `store` false nothing is left on the
    disk. With `background` it is answered at once, to be asked for or joined later. With `stream` the answer are its
    events. Comment lines fill a silence; with `store` false it is `response.in_progress`, numbered as the newest event.

    `tools` are functions that the model may call: a response ends with its calls, and their outputs are the next one's
    input. Fields that change an answer and cannot be had are refused by name, unknown ones are ignored.

    A key needs the scope `conversations`, too, for a response that is stored or goes on with what is.
    """
    if body.store or body.reads_store:
        access.require(Scope.CONVERSATIONS)
    with in_its_words(places_of(body.asked)):
        body = services().comparisons.made(body)
        return _stored(body) if body.store else _unstored(body)


@blp.route("/input_tokens", methods=["POST"])
@access.needs(Scope.INFERENCE)
@blp.doc(operationId="countResponseInputTokens")
@blp.arguments(ResponseRequestSchema, example=examples.REQUEST)
@blp.response(200, ResponseTokensSchema, description="The count.", example=examples.INPUT_TOKENS)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def count_input_tokens(body: AnswerDraft) -> Response:
    """Count a response's input tokens

    Takes the body of a response and answers how many tokens its whole prompt has, what comes before and tools included;
    nothing is generated or stored.
    """
    if body.reads_store:
        access.require(Scope.CONVERSATIONS)
    with in_its_words(places_of(body.asked)):
        unstored = services().unstored
        counted = unstored.count(unstored.asked(body), waiter())
    return json_response(
        {"object": "response.input_tokens", "input_tokens": counted.tokens, "estimated": counted.is_estimate}
    )


@blp.route("/<response_id>", methods=["GET"], parameters=[_RESPONSE])
@blp.doc(operationId="getResponse")
@blp.arguments(ResponseQuerySchema, location="query")
@blp.response(200, ResponseObjectSchema, description="The response.", example=examples.RESPONSE)
@_streams
@blp.refuses(400, 404, 500, 503)
def get_response(query: dict[str, Any], response_id: str) -> Response:
    """Get response

    Tells how far a response is and what came of it. With `stream` it is told as its events, those that were and those
    that come, behind `starting_after`: one that is under way is joined, one that has ended is replayed.
    """
    answers = services().answers
    run = answers.get(response_id, RunKind.RESPONSE)
    if not query.get("stream"):
        return json_response(_object(run, query["include"]))
    after = query.get("starting_after")
    changes = answers.watch(run, waiter(), services().settings.keepalive)
    return stored_stream(changes, run, services().seals, NOWHERE if after is None else after)


@blp.route("/<response_id>", methods=["DELETE"], parameters=[_RESPONSE])
@blp.doc(operationId="deleteResponse")
@blp.response(200, ResponseDeletedSchema, description="It is gone.", example=examples.DELETED)
@blp.refuses(404, 409, 500, 503)
def delete_response(response_id: str) -> Response:
    """Delete response

    Forgets a response. The thread that it made goes with it, unless others were added to it since.
    """
    services().answers.delete(response_id, RunKind.RESPONSE)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@blp.route("/<response_id>/cancel", methods=["POST"], parameters=[_RESPONSE])
@blp.doc(operationId="cancelResponse")
@blp.response(200, ResponseObjectSchema, description="The response, at its end.", example=examples.RESPONSE)
@blp.refuses(400, 404, 500, 503, 507)
def cancel_response(response_id: str) -> Response:
    """Cancel response

    Ends a response that is under way; what it has said so far stays. One that has ended is told as it is.
    """
    return json_response(_object(services().answers.cancel(response_id, RunKind.RESPONSE)))


@blp.route("/<response_id>/input_items", methods=["GET"], parameters=[_RESPONSE])
@blp.doc(operationId="listInputItems")
@blp.arguments(PageQuerySchema, location="query")
@blp.response(200, InputItemListSchema, description="A page of items.", example=examples.INPUT_ITEMS)
@blp.refuses(400, 404, 500, 503)
def list_input_items(query: dict[str, Any], response_id: str) -> Response:
    """List input items

    Gives a page of the items that came with a response's request, the newest first.
    """
    answers = services().answers
    run = answers.get(response_id, RunKind.RESPONSE)
    view = View.of(run, services().seals)
    found = answers.input_items(run, page(**query))
    return json_response(list_object([output_object(item, view) for item in found.items], found.has_more))


def _stored(body: AnswerDraft) -> Response:
    """Of one that is kept: at once in the background, else when it has ended, or as it grows."""
    answers, beat = services().answers, services().settings.keepalive
    run = answers.create(body)
    if body.stream:
        changes = answers.watch(run, waiter(), beat)
        return stored_stream(changes, run, services().seals, unspoken=None if body.background else _forgotten)
    if body.background:
        return json_response(_object(run))
    run = answers.finished(run, waiter(), beat)
    content = _object(run)
    if content["status"] == "failed" and not content["output"]:
        raise _forgotten(run)
    return json_response(content)


def _forgotten(run: Run) -> JanflaskError:
    """The error of a response that failed before it said anything, as if it had never been."""
    services().answers.take_back(run)
    return failure(run)


def _unstored(body: AnswerDraft) -> Response:
    unstored, client = services().unstored, waiter()
    asked = unstored.compacted(unstored.asked(body), client)
    prompt = unstored.prompt(asked, client)
    events = unstored.events(prompt.request, client, services().settings.keepalive)
    if body.stream:
        return unstored_stream(asked.run, prompt, events, services().seals)
    return json_response(unstored_response(asked.run, prompt, events, services().seals))


def _object(run: Run, include: Iterable[str] = ()) -> dict[str, Any]:
    answers = services().answers
    logprobs: list[Any] = []
    if run.top_logprobs is not None:
        for event in answers.events(run):
            logprobs += event.logprobs if isinstance(event, TextEvent) else ()
    view = View.of(run, services().seals, include)
    return response_object(run, answers.output(run), view, logprobs)
