"""Vectors from an engine."""

from __future__ import annotations

import time

from janflask.errors import TimeoutExceededError
from janflask.inference.backend import Embedded
from janflask.inference.local.engines import Endpoint
from janflask.inference.requests import EmbeddingRequest
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import PendingEmbeddings, ask_embeddings
from janflask.ipc.messages.engine import Embed, Embeddings

MAX_ANSWER = 8 * 1024 * 1024  # bytes of vectors that an engine is asked for at once


def embed(endpoint: Endpoint, request: EmbeddingRequest, waiter: Waiter, limit: float) -> Embedded:
    """The vectors of a request's inputs. Many are sent in parts, so that no answer is too long for a frame.

    ``limit`` is the time for each part, in seconds. Raises ContextLengthExceededError and InvalidRequestError naming
    the input, InvalidRequestError for a model that makes no embeddings, QueueFullError, TimeoutExceededError and
    EngineCrashedError.
    """
    width = request.dimensions or endpoint.info.embedding_width or 1
    count = max(1, MAX_ANSWER // (4 * width))
    vectors: list[bytes] = []
    prompt_tokens = 0
    for first in range(0, len(request.inputs), count):
        question = Embed(request.inputs[first : first + count], request.dimensions, first)
        with ask_embeddings(endpoint.socket, question) as pending:
            answer = _wait(pending, waiter, limit)
        vectors += answer.vectors
        prompt_tokens += answer.prompt_tokens
    return Embedded(vectors, prompt_tokens)


def _wait(pending: PendingEmbeddings, waiter: Waiter, limit: float) -> Embeddings:
    deadline = time.monotonic() + limit
    waiter.watch(pending)
    try:
        while (left := deadline - time.monotonic()) > 0:
            if waiter.wait(left) and (answer := pending.receive()) is not None:
                return answer
    finally:
        waiter.unwatch(pending)
    raise TimeoutExceededError(f"no embeddings within {limit:g} s: send fewer inputs at once", retry_after=1)
