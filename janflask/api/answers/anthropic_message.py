"""Anthropic's message out of a generation's events: the whole one, and what it shares with a streamed one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from janflask.api.answers.anthropic_diagnosis import Diagnosis
from janflask.inference.blocks import MessagesRequest
from janflask.inference.deltas import (
    Delta,
    Done,
    Event,
    Finished,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from janflask.ipc.messages.generation import FinishReason, Usage

TEXT, THINKING, TOOL_USE = "text", "thinking", "tool_use"
INVALID_JSON = "INVALID_JSON"  # Anthropic's advice for arguments that are no object: under this name in one

# What stands in a thought's signature: a signature of its words, or all of them where they are not shown.
Seal = Callable[[str], str]


def new_id() -> str:
    """For a message."""
    return f"msg_{secrets.token_hex(12)}"


def new_message(
    message_id: str, request: MessagesRequest, diagnosis: Diagnosis | None, prompt_tokens: int
) -> dict[str, Any]:
    """A message in which nothing was said yet, without its usage."""
    message: dict[str, Any] = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": request.chat.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    if request.edits_context:
        message["context_management"] = {"applied_edits": []}
    if diagnosis is not None:
        message["diagnostics"] = diagnosis.told
        diagnosis.keep(message_id, prompt_tokens)
    return message


def usage_object(usage: Usage, *, only_reads: bool) -> dict[str, Any]:
    """Where the prompt's tokens came from, and how many were said."""
    return {
        **input_usage(usage.prompt_tokens, usage.cached_tokens),
        "output_tokens": 0 if only_reads else usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def input_usage(prompt_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    """Together these are all of the prompt. What is computed is kept for the next request without being asked to."""
    return {
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
    }


@dataclass(slots=True)
class Ending:
    """How an answer ended, gathered until it has."""

    request: MessagesRequest
    finished: Finished | None = None
    refusal: str = ""

    def fields(self, usage: Usage) -> dict[str, Any]:
        """``stop_reason`` and what belongs to it."""
        reason, stop = self._reason(usage)
        details = {"type": "refusal", "category": None, "explanation": self.refusal} if self.refusal else None
        return {"stop_reason": reason, "stop_sequence": stop, "stop_details": details}

    def _reason(self, usage: Usage) -> tuple[str, str | None]:
        told = self.finished.reason if self.finished is not None else FinishReason.STOP
        stop = self.finished.stop if self.finished is not None else None
        if self.refusal:
            return "refusal", None
        if told == FinishReason.LENGTH:
            most = self.request.chat.max_tokens
            is_full = most is not None and usage.completion_tokens < most
            return "model_context_window_exceeded" if is_full else "max_tokens", None
        if told == FinishReason.STOP and stop in (self.request.chat.stop or ()):
            return "stop_sequence", stop
        return _REASONS.get(told, "end_turn"), None


_REASONS: Mapping[str, str] = {FinishReason.TOOL_CALLS: "tool_use", "content_filter": "refusal"}


def whole_message(
    message_id: str,
    request: MessagesRequest,
    seal: Seal,
    events: Iterable[Sequence[Event]],
    diagnosis: Diagnosis | None = None,
) -> dict[str, Any]:
    """The message, once ``events`` has come to its end."""
    content, ending = _Content(seal, shows_thoughts=request.shows_thoughts), Ending(request)
    done: Done | None = None
    for batch in events:
        for event in batch:
            if isinstance(event, RefusalDelta):
                ending.refusal += event.text
            elif isinstance(event, Delta):
                content.add(event)
            elif isinstance(event, Finished):
                ending.finished = event
            elif isinstance(event, Done):
                done = event
    if done is None:
        raise RuntimeError("a generation's events ended without a Done")
    usage = usage_object(done.usage, only_reads=request.only_reads)
    begun = new_message(message_id, request, diagnosis, done.usage.prompt_tokens)
    message = {**begun, "usage": usage, **ending.fields(done.usage)}
    return message if request.only_reads else {**message, "content": content.blocks()}


@dataclass(slots=True)
class _Block:
    kind: str
    call: int | None  # which of the calls
    start: dict[str, Any]
    pieces: list[str] = field(default_factory=list)


class _Content:
    """The blocks of a message as they grow."""

    def __init__(self, seal: Seal, *, shows_thoughts: bool) -> None:
        self._seal = seal
        self._shows_thoughts = shows_thoughts
        self._blocks: list[_Block] = []

    def add(self, delta: Delta) -> None:
        if isinstance(delta, ToolCallDelta):
            self._block(TOOL_USE, delta.call, {"id": delta.id, "name": delta.name}).pieces.append(delta.arguments)
        elif delta.text:
            self._block(TEXT if isinstance(delta, TextDelta) else THINKING).pieces.append(delta.text)

    def blocks(self) -> list[dict[str, Any]]:
        return [self._whole(block) for block in self._blocks]

    def _block(self, kind: str, call: int | None = None, start: dict[str, Any] | None = None) -> _Block:
        for block in reversed(self._blocks[-1:] if call is None else self._blocks):
            if (block.kind, block.call) == (kind, call):
                return block
        self._blocks.append(_Block(kind, call, start or {}))
        return self._blocks[-1]

    def _whole(self, block: _Block) -> dict[str, Any]:
        text = "".join(block.pieces)
        if block.kind == TEXT:
            return {"type": TEXT, "text": text, "citations": None}
        if block.kind == TOOL_USE:
            return {"type": TOOL_USE, **block.start, "input": _arguments(text), "caller": {"type": "direct"}}
        shown = text if self._shows_thoughts else ""
        return {"type": THINKING, "thinking": shown, "signature": self._seal(text)}


def _arguments(text: str) -> dict[str, Any]:
    """Those that were cut are no JSON, and nobody's to carry out; ``stop_reason`` says so."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {INVALID_JSON: text}
