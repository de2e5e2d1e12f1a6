"""A backend that writes what was asked and answered to the log: only where ``JANFLASK_LOG_PROMPTS`` says so."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import msgspec

from janflask.inference.backend import Backend, Embedded
from janflask.inference.deltas import Events, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.requests import ChatMessage, ChatRequest, CompletionRequest, EmbeddingRequest
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.wrapped import WrappedBackend
from janflask.ipc.request_id import CURRENT

log = logging.getLogger("janflask.words")  # ``processes/logs.py`` lets it through, whatever the level


class QuotedBackend(WrappedBackend):
    """``backend``. An answer is logged when it is over, or as far as it came. See ``Backend``."""

    def __init__(self, backend: Backend, model_id: str) -> None:
        super().__init__(backend)
        self._model_id = model_id

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        self._say("asked", {"messages": [_quoted(message) for message in request.messages], "begun": request.begun})
        return self._heard(super().chat(request, waiter, beat, tries))

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        self._say("asked", {"prompts": request.prompts})
        return self._heard(super().complete(request, waiter, beat))

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        self._say("asked", {"inputs": request.inputs})
        return super().embed(request, waiter)

    def _heard(self, events: Events) -> Events:
        choices: dict[int, dict[str, str]] = defaultdict(lambda: defaultdict(str))
        try:
            with closing(events):
                for batch in events:
                    for event in batch:
                        if isinstance(event, TextDelta):
                            choices[event.index]["text"] += event.text
                        elif isinstance(event, ReasoningDelta):
                            choices[event.index]["reasoning"] += event.text
                        elif isinstance(event, RefusalDelta):
                            choices[event.index]["refusal"] += event.text
                        elif isinstance(event, ToolCallDelta):
                            name = f"{event.name} " if event.name else ""
                            choices[event.index][f"call {event.call}"] += name + event.arguments
                    yield batch
        finally:
            self._say("answered", {"choices": [choices[index] for index in sorted(choices)]})

    def _say(self, verb: str, words: Mapping[str, Any]) -> None:
        """One line, whatever the words are."""
        told = json.dumps({name: said for name, said in words.items() if said}, ensure_ascii=False)
        log.info("request %s: %s %s: %s", CURRENT.get(), self._model_id, verb, told)


def _quoted(message: ChatMessage) -> dict[str, Any]:
    return {"role": message.role, "parts": [msgspec.to_builtins(part) for part in message.parts]}
