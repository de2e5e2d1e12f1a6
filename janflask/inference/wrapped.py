"""A backend that does all by another one: for those that add something to some of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from janflask.inference.backend import Backend, BackendInfo, Counted, Embedded
from janflask.inference.deltas import Events
from janflask.inference.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    LaidOut,
    TemplateRequest,
    TokenizeRequest,
)
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Tokens


class WrappedBackend:
    """``backend`` as it is. See ``Backend``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def info(self, waiter: Waiter, overrides: Mapping[str, Any] | None = None) -> BackendInfo:
        return self._backend.info(waiter, overrides)

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        return self._backend.chat(request, waiter, beat, tries)

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        return self._backend.complete(request, waiter, beat)

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        return self._backend.embed(request, waiter)

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Tokens:
        return self._backend.tokenize(request, waiter, tries)

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        return self._backend.detokenize(request, waiter)

    def lay_out(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None = None) -> LaidOut:
        return self._backend.lay_out(request, waiter, tries)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Counted:
        return self._backend.count(request, waiter, tries)
