"""POST /messages and /messages/count_tokens, as Anthropic has them."""

from __future__ import annotations

from functools import partial

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.anthropic_diagnosis import Diagnosis
from janflask.api.answers.anthropic_events import MessageWriter
from janflask.api.answers.anthropic_message import new_id, whole_message
from janflask.api.answers.anthropic_stream import message_stream, stored_events
from janflask.api.examples import anthropic as examples
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.inference.blocks import MessagesRequest, chat_request
from janflask.inference.requests import TemplateRequest
from janflask.schemas.anthropic import CountTokensSchema, MessagesSchema
from janflask.schemas.anthropic_answers import MessageAnswerSchema, TokensCountSchema
from janflask.services.message_drafts import answer_draft
from janflask.services.thoughts import Thoughts

blp = Blueprint(
    "Anthropic's Messages",
    __name__,
    url_prefix="/v1/messages",
    needs=Scope.INFERENCE,
    description="The same models behind the API that Anthropic's clients speak; errors have its shape here.",
)
_EVENTS = {"type": "string", "description": "Server-sent events with names; the last one is `message_stop`."}


@blp.route("", methods=["POST"])
@blp.doc(operationId="createAnthropicMessage")
@blp.arguments(MessagesSchema, example=examples.MESSAGES_REQUEST)
@blp.response(200, MessageAnswerSchema, description="The message.", example=examples.MESSAGE)
@blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples.STREAM,
    description="The message.",
    success=True,
)
@blp.refuses_as_anthropic(400, 404, 409, 413, 415, 429, 500, 503, 507)
def create_message(body: MessagesRequest) -> Response:
    """Create a message

    Answers a conversation in Anthropic's form. A key is taken from `Authorization: Bearer` and `x-api-key`, any
    `anthropic-version`, and betas that are not known here are ignored, as are `cache_control`, `metadata` and
    `service_tier`: the prefix of every prompt is cached. Pictures, documents and the tools of Anthropic's servers are
    refused by name.

    With `stream` the message comes as events while it is generated; while there is nothing to send a `ping` keeps the
    connection alive. Closing the connection cancels.

    What the model thinks is a `thinking` block whose `signature` is this server's: sent back with the conversation it
    is checked, and a changed one refused. Thoughts are shown to the model again while its calls are answered, as far as
    its chat template does so.

    The sampling fields of a chat completion are taken, too. With `conversation` a conversation (or thread) of this
    server is gone on with: `messages` are what is new, and they and the answer are stored in it.
    """
    thoughts = Thoughts(services().seals)
    chat, seal = chat_request(body, thoughts.opened), partial(thoughts.seal, shown=body.shows_thoughts)
    if body.conversation is None:
        message_id = new_id()
        events = services().backends.of(chat.model).chat(chat, waiter(), services().settings.keepalive)
    else:
        access.require(Scope.CONVERSATIONS)
        run = services().answers.create(answer_draft(body, chat))
        message_id = run.message_id
        events = stored_events(run, services().answers.watch(run, waiter(), services().settings.keepalive))
    diagnosis = Diagnosis.of(body, services().cache_diagnostics)
    if chat.stream:
        return message_stream(events, MessageWriter(message_id, body, seal, diagnosis))
    return json_response(whole_message(message_id, body, seal, events, diagnosis))


@blp.route("/count_tokens", methods=["POST"])
@blp.doc(operationId="countAnthropicTokens")
@blp.arguments(CountTokensSchema, example=examples.COUNT_REQUEST)
@blp.response(200, TokensCountSchema, description="The count.", example=examples.COUNT_ANSWER)
@blp.refuses_as_anthropic(400, 404, 409, 413, 415, 500, 503)
def count_message_tokens(body: MessagesRequest) -> Response:
    """Count a message's tokens

    Tells how many tokens the prompt of such a message has, tools and all that the model's chat template adds included;
    nothing is generated.
    """
    chat = chat_request(body, Thoughts(services().seals).opened)
    counted = services().backends.of(chat.model).count(TemplateRequest.of(chat), waiter())
    return json_response({"input_tokens": counted.tokens})
