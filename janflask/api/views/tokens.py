"""POST /tokenize, /detokenize, /chat/completions/input_tokens and /apply-template."""

from __future__ import annotations

from typing import Any

from flask import Response

from janflask.access.scopes import Scope
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import json_response, streamed_list
from janflask.inference.requests import ChatRequest, DetokenizeRequest, TemplateRequest, TokenizeRequest
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.tokens import (
    DetokenizedSchema,
    DetokenizeRequestSchema,
    InputTokensSchema,
    LaidOutSchema,
    TemplateRequestSchema,
    TokenizedSchema,
    TokenizeRequestSchema,
)

blp = Blueprint(
    "Tokens", __name__, url_prefix="/v1", needs=Scope.INFERENCE, description="Count tokens, and see what a model sees."
)


@blp.route("/tokenize", methods=["POST"])
@blp.doc(operationId="tokenize")
@blp.arguments(TokenizeRequestSchema, example=examples.TOKENIZE_REQUEST)
@blp.response(200, TokenizedSchema, description="The tokens.", example=examples.TOKENIZE_ANSWER)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def tokenize(body: TokenizeRequest) -> Response:
    """Tokenize

    Cuts a text into the model's tokens and counts them, also while the model generates. A model that is on disk and not
    running is started. With `with_pieces` each token comes with its text, or with a list of its bytes where it is only
    a part of a character. What the model has no token for is not in them: some control characters of byte-level
    vocabularies; SentencePiece's own sign for a space (U+2581) is one.
    """
    tokens = services().backends.of(body.model).tokenize(body, waiter())
    count = len(tokens.ids)
    if tokens.pieces is None:
        return json_response({"tokens": tokens.ids, "count": count})
    pairs = zip(tokens.ids, tokens.pieces, strict=True)
    pieces = ({"id": token, "piece": _piece(piece)} for token, piece in pairs)
    return streamed_list(pieces, b'{"tokens":', b',"count":%d}' % count)


@blp.route("/detokenize", methods=["POST"])
@blp.doc(operationId="detokenize")
@blp.arguments(DetokenizeRequestSchema, example=examples.DETOKENIZE_REQUEST)
@blp.response(200, DetokenizedSchema, description="The text.", example=examples.DETOKENIZE_ANSWER)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def detokenize(body: DetokenizeRequest) -> Response:
    """Detokenize

    Gives the text of tokens, special ones included. U+FFFD stands for bytes that are no UTF-8, e.g. half a character.
    """
    return json_response({"content": services().backends.of(body.model).detokenize(body, waiter())})


@blp.route("/chat/completions/input_tokens", methods=["POST"])
@blp.doc(operationId="countInputTokens")
@blp.arguments(ChatRequestSchema, example=examples.INPUT_TOKENS_REQUEST)
@blp.response(200, InputTokensSchema, description="The count.", example=examples.INPUT_TOKENS)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def count_input_tokens(body: ChatRequest) -> Response:
    """Count a chat's tokens

    Takes the body of a chat completion and answers how many tokens its prompt has, tools and all that the model's chat
    template adds included; nothing is generated. A field that a chat would be refused for is refused here, too.
    """
    backend = services().backends.of(body.model)
    counted = backend.count(TemplateRequest.of(body), waiter())
    context = backend.info(waiter()).ctx_len
    answer = {
        "object": "response.input_tokens",
        "input_tokens": counted.tokens,
        "estimated": counted.is_estimate,
        "ctx_len": context,
        "tokens_left": None if context is None else max(0, context - counted.tokens),
    }
    return json_response(answer)


@blp.route("/apply-template", methods=["POST"])
@blp.doc(operationId="applyTemplate")
@blp.arguments(TemplateRequestSchema, example=examples.TEMPLATE_REQUEST)
@blp.response(200, LaidOutSchema, description="The prompt.", example=examples.TEMPLATE_ANSWER)
@blp.refuses(400, 404, 409, 413, 415, 500, 503)
def apply_template(body: TemplateRequest) -> Response:
    """Apply a chat template

    Lays out a conversation as a chat completion would and answers with the prompt; nothing is generated. With
    `tokenize` its tokens come with it, as many as the chat's `usage.prompt_tokens`. A chat request's body will do.
    `<|im_end|>` and the like in a user's, system's or tool's words are plain text to the model. Where there are such
    words, or with `with_segments`, `segments` tell them from the layout's own special tokens.
    """
    laid_out = services().backends.of(body.model).lay_out(body, waiter())
    answer: dict[str, Any] = {"prompt": laid_out.prompt}
    if laid_out.segments:
        answer["segments"] = [{"text": part.text, "special": part.special} for part in laid_out.segments]
    if laid_out.tokens is not None:
        answer |= {"tokens": laid_out.tokens, "count": len(laid_out.tokens)}
    return json_response(answer)


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)
