"""A backend whose tokens are counted for the key that the work is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from janflask.inference.backend import Backend, Embedded
from janflask.inference.deltas import Done, Events, ReasoningDelta, Started, TextDelta
from janflask.inference.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.wrapped import WrappedBackend

# Tokens of a prompt, those of them that were cached, and those of the answer.
Spend = Callable[[int, int, int], None]


class MeteredBackend(WrappedBackend):
    """``backend``, which tells ``spend`` what each answer took. See ``Backend``."""

    def __init__(self, backend: Backend, spend: Spend) -> None:
        super().__init__(backend)
        self._spend = spend

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        return metered(super().chat(request, waiter, beat, tries), self._spend)

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        return metered(super().complete(request, waiter, beat), self._spend)

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        embedded = super().embed(request, waiter)
        self._spend(embedded.prompt_tokens, 0, 0)
        return embedded


def metered(events: Events, spend: Spend) -> Events:
    """``events``. Of an answer that was cut the pieces of text count, each as a token."""
    prompt = pieces = 0
    done: Done | None = None
    try:
        with closing(events):
            for batch in events:
                for event in batch:
                    if isinstance(event, Started):
                        prompt += event.prompt_tokens
                    elif isinstance(event, TextDelta | ReasoningDelta):
                        pieces += 1
                    elif isinstance(event, Done):
                        done = event
                yield batch
    finally:
        if done is not None:
            spend(done.usage.prompt_tokens, done.usage.cached_tokens, done.usage.completion_tokens)
        elif prompt or pieces:
            spend(prompt, 0, pieces)
