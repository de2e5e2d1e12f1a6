"""POST /chat/completions and /completions."""

from __future__ import annotations

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.answers.chunks import ChatChunks, CompletionChunks
from janflask.api.answers.inference import Heading, whole_chat, whole_completion
from janflask.api.examples import inference as examples
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response
from janflask.api.plumbing.sse import stream
from janflask.api.views import stored_chats
from janflask.inference.requests import ChatRequest, CompletionRequest
from janflask.schemas.answers import ChatCompletionSchema, CompletionSchema
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.completions import CompletionRequestSchema
from janflask.storage.answers import AnswerDraft

blp = Blueprint(
    "Chat Completion",
    __name__,
    url_prefix="/v1",
    needs=Scope.INFERENCE,
    description="Given a conversation or a text, the model returns a response.",
)
_EVENTS = {"type": "string", "description": "Server-sent events, each a JSON object; the last one is `[DONE]`."}


@blp.route("/chat/completions", methods=["POST"])
@blp.doc(operationId="createChatCompletion")
@blp.arguments(ChatRequestSchema, example=examples.CHAT_REQUEST)
@blp.response(200, ChatCompletionSchema, description="The answer.", example=examples.CHAT_ANSWER)
@blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples.CHAT_STREAM,
    description="The answer.",
    success=True,
)
@blp.refuses(400, 404, 409, 413, 415, 429, 500, 503, 507)
def create_chat_completion(body: ChatRequest | AnswerDraft) -> Response:
    """Create chat completion

    Answers a conversation. With `stream` the answer comes as server-sent events while it is generated; while there is
    nothing to send (the model is loading, the request waits, a long prompt is computed) comment lines keep the
    connection alive. A model that is on disk and not running is started. Closing the connection cancels. Fields that
    change an answer and cannot be had are refused by name, unknown ones are ignored.

    `response_format` (or `json_schema`, `grammar`, `regex`, `structured_outputs`) holds the answer to a form while it
    is generated. A finished answer that does not meet its JSON schema all the same has the reason in `refusal`.

    `tools` are functions that the model may call, and `tool_choice` says whether it has to, and which. Of a model that
    thinks, `reasoning_effort` and `reasoning_budget` say how much. `POST /chat/completions/input_tokens` tells what a
    request would cost.

    With `store` the conversation and its answer are kept: it goes on when its client leaves, its stream can be joined
    again by its id, which is in `X-Chat-Completion-Id`, and getChatCompletion tells it later. What such an answer
    cannot have is refused by name. One that fails before it has said anything is not kept.

    The conversation is laid out by the `prompt_template` in the model's settings, else by the chat template in its
    file, else as ChatML where its vocabulary has the words for it, else as plain text. A `prompt_template` is cut at
    `{system_message}` and `{prompt}`: its beginning and the system message come once, the rest for each turn with the
    user's words in it and the assistant's answer after it.

    A chat template that cannot take a conversation as it is gets the same words in a plainer one: turns of the same
    side in a row become one, and what a system message says goes in front of the user's next words. What it would leave
    out even so is refused with `chat_template_error`, and `param` names the message.
    """
    if isinstance(body, AnswerDraft):
        access.require(Scope.CONVERSATIONS)
        return stored_chats.answer(body)
    heading = Heading.new(body)
    events = services().backends.of(body.model).chat(body, waiter(), services().settings.keepalive)
    if body.stream:
        return stream(events, ChatChunks(heading, body))
    return json_response(whole_chat(heading, body, events))


@blp.route("/completions", methods=["POST"])
@blp.doc(operationId="createCompletion")
@blp.arguments(CompletionRequestSchema, example=examples.COMPLETION_REQUEST)
@blp.response(200, CompletionSchema, description="The answer.", example=examples.COMPLETION_ANSWER)
@blp.alt_response(
    200,
    schema=_EVENTS,
    content_type="text/event-stream",
    example=examples.COMPLETION_STREAM,
    description="The answer.",
    success=True,
)
@blp.refuses(400, 404, 409, 413, 415, 429, 500, 503)
def create_completion(body: CompletionRequest) -> Response:
    """Create completion

    Goes on with a text, as it is: no chat template is applied. Several prompts are answered side by side, their choices
    in order. Without `max_tokens` an answer has at most 16 tokens, whatever the model's own parameters say.

    With `echo` and `logprobs` the answer tells the prompt's own tokens first, each with its log-probability behind
    those before it; with `max_tokens` 0 it tells nothing else. A prompt so told is computed whole, and a token that
    ends the answer is listed, too.

    `json_schema`, `grammar`, `regex` and the like hold the continuation to a form, as in a chat; one that is finished
    and does not meet its JSON schema all the same is an error.
    """
    heading = Heading.new(body)
    events = services().backends.of(body.model).complete(body, waiter(), services().settings.keepalive)
    if body.stream:
        return stream(events, CompletionChunks(heading, body))
    return json_response(whole_completion(heading, body, events))
