"""Texts to vectors, by an embedding model or one that is told to make them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from janflask.errors import TimeoutExceededError
from janflask.inference.requests import EmbeddingRequest
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import PendingEmbeddings, ask_embeddings
from janflask.ipc.messages.engine import Embed, Embeddings
from janflask.services.engine_access import EngineAccess
from janflask.services.models import Endpoint, ModelService
from janflask.settings import Settings

MAX_ANSWER = 8 * 1024 * 1024  # bytes of vectors that an engine is asked for at once


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector an input, in order: little-endian 32-bit floats, of length 1; and the tokens of all inputs."""

    vectors: list[bytes]
    prompt_tokens: int


class EmbeddingService:
    """Asks engines for embeddings. Thread-safe."""

    def __init__(self, settings: Settings, models: ModelService) -> None:
        self._settings = settings
        self._engines = EngineAccess(settings, models)

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        """The vectors of a request's inputs.

        Raises what EngineAccess.ask raises, ContextLengthExceededError and InvalidRequestError naming the input,
        InvalidRequestError for a model that makes no embeddings, and QueueFullError.
        """
        return self._engines.ask(request.model, waiter, lambda endpoint: self._embed(endpoint, request, waiter))

    def _embed(self, endpoint: Endpoint, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        """Many inputs are sent in parts, so that no answer is too long for a frame."""
        width = request.dimensions or endpoint.info.embedding_width or 1
        count = max(1, MAX_ANSWER // (4 * width))
        vectors: list[bytes] = []
        prompt_tokens = 0
        for first in range(0, len(request.inputs), count):
            question = Embed(request.inputs[first : first + count], request.dimensions, first)
            with ask_embeddings(endpoint.socket, question) as pending:
                answer = self._wait(pending, waiter)
            vectors += answer.vectors
            prompt_tokens += answer.prompt_tokens
        return Embedded(vectors, prompt_tokens)

    def _wait(self, pending: PendingEmbeddings, waiter: Waiter) -> Embeddings:
        limit = self._settings.request_timeout
        deadline = time.monotonic() + limit
        waiter.watch(pending)
        try:
            while (left := deadline - time.monotonic()) > 0:
                if waiter.wait(left) and (answer := pending.receive()) is not None:
                    return answer
        finally:
            waiter.unwatch(pending)
        raise TimeoutExceededError(f"no embeddings within {limit:g} s: send fewer inputs at once", retry_after=1)
