"""Stored chats as the API shows them, and their streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Response

from janflask.api.answers.chat_log import ChatListener, is_counted, is_timed, whole_events
from janflask.api.answers.chunks import DONE, ChatChunks
from janflask.api.answers.inference import Heading, whole_chat
from janflask.api.plumbing.sse import event_stream, lines_of
from janflask.inference.deltas import Done, Events
from janflask.inference.requests import ChatRequest
from janflask.schemas.stored_chats import CALLS_FUNCTION, INCLUDE_USAGE
from janflask.storage.items import CALL_ID, CALLS, NAME, REASONING
from janflask.storage.records import Message, Run, words_of
from janflask.storage.run_log import LogEvent

ID_HEADER = "X-Chat-Completion-Id"
_TOLD_BACK = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
_END = b"\n\n"  # of an event


def stored_chat(run: Run, events: Sequence[LogEvent]) -> dict[str, Any]:
    """A ``chat.completion`` that has ended, in one of the ways that are ``ANSWERED``, with what was asked for."""
    content = whole_chat(_heading(run, "chat.completion"), _request(run), [whole_events(run, events)])
    if not is_counted(run):
        content["usage"] = None
    if not is_timed(run):
        del content["timings"]
    return {
        **content,
        **{name: run.parameters.get(name) for name in _TOLD_BACK},
        "tools": list(run.tools) or None,
        "tool_choice": run.tool_choice,
        "response_format": run.response_format,
        "metadata": run.metadata,
    }


def stored_message(message: Message) -> dict[str, Any]:
    """A message that came with the request, in the form of chats."""
    texts = [words_of([part]) for part in message.content if part.get("type") == "text"]
    refusals = [words_of([part]) for part in message.content if part.get("type") == "refusal"]
    parts = [{"type": "text", "text": text} for text in texts]
    return {
        "id": message.id,
        "role": message.role,
        "content": "\n".join(texts) if texts else None,
        "content_parts": parts if len(parts) > 1 else None,
        "refusal": "\n".join(refusals) if refusals else None,
        "name": message.extra.get(NAME),
        **{name: message.extra[name] for name in (CALLS, CALL_ID, REASONING) if name in message.extra},
    }


class StoredChunks(ChatChunks):
    """The chunks of a stored chat, whose run ``listener`` hears."""

    def __init__(self, listener: ChatListener) -> None:
        super().__init__(_heading(listener.run, "chat.completion.chunk"), _request(listener.run))
        self._listener = listener

    def _costs(self, done: Done) -> tuple[dict[str, Any], dict[str, Any]]:
        usage, timings = super()._costs(done)
        run = self._listener.run
        return usage if is_counted(run) else {"usage": None}, timings if is_timed(run) else {}


def chat_stream(events: Events, listener: ChatListener, after: int | None = None) -> Response:
    """The chunks of a chat, and ``[DONE]`` at its end, as the stream of one that is not stored.

    With ``after``, those behind its first so many, each with its number: its place, from 1. The first event is waited
    for here: what is wrong from the start is raised and becomes a true HTTP status.
    """
    lines = lines_of(events, StoredChunks(listener))
    response = event_stream(lines if after is None else _numbered(lines, after), events.close)
    response.headers[ID_HEADER] = listener.run.id
    return response


def _numbered(lines: Iterator[bytes], after: int) -> Iterator[bytes]:
    number = 0
    for piece in lines:
        told: list[bytes] = []
        *chunks, rest = piece.split(_END)
        for chunk in chunks:
            if chunk + _END == DONE:
                told.append(DONE)
                continue
            number += 1
            if number > after:
                told.append(b"id: %d\n" % number + chunk + _END)
        if news := b"".join(told) + rest:
            yield news


def _heading(run: Run, kind: str) -> Heading:
    return Heading(run.id, kind, run.created_ms // 1000, run.model)


def _request(run: Run) -> ChatRequest:
    """As much of what was asked for as the form of the answer depends on."""
    return ChatRequest(
        model=run.model,
        messages=(),
        include_usage=bool(run.asked.get(INCLUDE_USAGE)),
        calls_function=bool(run.asked.get(CALLS_FUNCTION)),
        sampling={} if run.top_logprobs is None else {"top_logprobs": run.top_logprobs},
    )
