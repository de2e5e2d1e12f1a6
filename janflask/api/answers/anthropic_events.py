"""Anthropic's events of one streamed message: each with its name, and each block from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from janflask.api.answers.anthropic_diagnosis import Diagnosis
from janflask.api.answers.anthropic_message import (
    TEXT,
    THINKING,
    TOOL_USE,
    Ending,
    Seal,
    input_usage,
    new_message,
    usage_object,
)
from janflask.api.answers.chunks import encode_json
from janflask.errors import UpstreamError
from janflask.inference.blocks import MessagesRequest
from janflask.inference.deltas import (
    Delta,
    Done,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)

# What fills a silence. No comment: their clients know this.
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_END = b"}}\n\n"
_TEXT = (TEXT, None)  # a block of words, and no call


def event_bytes(content: dict[str, Any]) -> bytes:
    """One event, named by its type."""
    return b"event: %s\ndata: %s\n\n" % (content["type"].encode(), encode_json(content))


class MessageWriter:
    """Bytes for the events of one answer, batch by batch.

    The hot path, once a token and client: what stands around a piece of text is put together once for each block.
    """

    def __init__(
        self, message_id: str, request: MessagesRequest, seal: Seal, diagnosis: Diagnosis | None = None
    ) -> None:
        self._id = message_id
        self._diagnosis = diagnosis
        self._request = request
        self._seal = seal
        self._ending = Ending(request)
        self._started = False
        self._index = -1  # of the newest block
        self._open: tuple[str, int | None] | None = None  # its kind, and which call it is, until it ends
        self._before = b""  # what leads each of its pieces
        self._thoughts: list[str] = []  # of a block of thoughts

    def batch(self, events: Sequence[Event]) -> bytes:
        """What came together, together."""
        pieces: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta) and event.text and self._open == _TEXT:
                pieces.append(self._before + encode_json(event.text) + _END)
            else:
                pieces += self._event(event)
        return b"".join(pieces)

    def _event(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Started):
            yield self._start(event)
        elif isinstance(event, Finished):
            self._ending.finished = event
        elif isinstance(event, RefusalDelta):
            self._ending.refusal += event.text
        elif isinstance(event, Done):
            yield from self._end(event)
        elif not self._request.only_reads:
            yield from self._delta(event)

    def _start(self, started: Started) -> bytes:
        """How much of the prompt is cached is known at the end; an answer that is asked anew has begun already."""
        if self._started:
            return b""
        self._started = True
        usage = {**input_usage(started.prompt_tokens), "output_tokens": 0}
        message = new_message(self._id, self._request, self._diagnosis, started.prompt_tokens)
        return event_bytes({"type": "message_start", "message": {**message, "usage": usage}})

    def _delta(self, delta: Delta) -> Iterator[bytes]:
        if isinstance(delta, ToolCallDelta):
            if self._open != (TOOL_USE, delta.call):
                if delta.id is None:
                    raise UpstreamError("the upstream told pieces of several calls in turns: ask it without `stream`")
                block = {"id": delta.id, "name": delta.name, "input": {}, "caller": {"type": "direct"}}
                yield from self._begin(TOOL_USE, block, "input_json_delta", "partial_json", delta.call)
            text = delta.arguments
        elif isinstance(delta, ReasoningDelta):
            text = delta.text
            if text and self._open != (THINKING, None):
                yield from self._begin(THINKING, {"thinking": "", "signature": ""}, "thinking_delta", "thinking")
            self._thoughts.append(text)
            if not self._request.shows_thoughts:
                return
        else:
            text = delta.text if isinstance(delta, TextDelta) else ""
            if text and self._open != _TEXT:
                yield from self._begin(TEXT, {"text": "", "citations": None}, "text_delta", "text")
        if text:
            yield self._before + encode_json(text) + _END

    def _begin(
        self, kind: str, block: dict[str, Any], delta: str, field: str, call: int | None = None
    ) -> Iterator[bytes]:
        yield from self._close()
        self._index += 1
        self._open = (kind, call)
        self._before = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,' % self._index
        self._before += b'"delta":{"type":"%s","%s":' % (delta.encode(), field.encode())
        content = {"type": kind, **block}
        yield event_bytes({"type": "content_block_start", "index": self._index, "content_block": content})

    def _close(self) -> Iterator[bytes]:
        """A block of thoughts ends with its signature."""
        if self._open is None:
            return
        if self._open[0] == THINKING:
            signature = {"type": "signature_delta", "signature": self._seal("".join(self._thoughts))}
            self._thoughts.clear()
            yield event_bytes({"type": "content_block_delta", "index": self._index, "delta": signature})
        self._open = None
        yield event_bytes({"type": "content_block_stop", "index": self._index})

    def _end(self, done: Done) -> Iterator[bytes]:
        yield from self._close()
        delta = {**self._ending.fields(done.usage), "container": None}
        usage = usage_object(done.usage, only_reads=self._request.only_reads)
        content = {"type": "message_delta", "delta": delta, "usage": usage}
        if self._request.edits_context:
            content["context_management"] = {"applied_edits": []}
        yield event_bytes(content) + event_bytes({"type": "message_stop"})
