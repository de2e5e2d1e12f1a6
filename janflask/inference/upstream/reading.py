"""Answers as they come: readers that turn the pieces of a body into events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import UpstreamError, UpstreamUnavailableError
from janflask.inference.deltas import Done, Event, Finished, ReasoningDelta, RefusalDelta, Started, TextDelta
from janflask.inference.upstream.answers import NULL, ChatPiece, Choice, Chunk, Tokens
from janflask.inference.upstream.call_pieces import CallReader
from janflask.inference.upstream.logprobs import token_logprobs
from janflask.inference.upstream.problems import Where, nonsense, stream_error
from janflask.inference.upstream.sse import EventReader, TooLongError
from janflask.ipc.messages.generation import FinishReason, Timings, Usage
from janflask.models.upstream_key import MAX_READ

MAX_EVENT = 32 << 20  # bytes; a long prompt's log-probabilities come in one
MAX_BODY = 64 << 20
_CUT = frozenset({"abort", "error"})  # finish reasons of a server that gave up
_ENDS = frozenset({"stop", "tool_calls", "function_call"})  # those of an answer that is whole

_decode = json_decoder(Chunk).decode


class Reader(Protocol):
    """Reads the body of one answer whose status is 200.

    Raises JanflaskError for what is wrong with it; what came before that is in ``events`` then.
    """

    said: bool  # something was handed out that cannot be taken back
    done: bool  # nothing more is needed

    def accepted(self, headers: Mapping[str, str], where: Where, events: list[Event]) -> None:
        """The status has come."""
        ...

    def feed(self, piece: bytes, events: list[Event]) -> None:
        """The next piece of the body."""
        ...

    def end(self, events: list[Event]) -> None:
        """The body has come to its end."""
        ...


class WholeReader:
    """Collects a body that is one JSON object."""

    def __init__(self) -> None:
        self.said = False
        self.done = False
        self.body = bytearray()
        self.where = Where("", "")

    def accepted(self, headers: Mapping[str, str], where: Where, events: list[Event]) -> None:
        """Nothing to tell."""
        self.where = where

    def feed(self, piece: bytes, events: list[Event]) -> None:
        """Raises UpstreamError when it gets too long."""
        self.body += piece
        if len(self.body) > MAX_BODY:
            raise nonsense(f"less than {MAX_BODY >> 20} MiB", bytes(self.body[:MAX_READ]), self.where)

    def end(self, events: list[Event]) -> None:
        """It is whole."""
        self.done = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a stream is to hold: ``n`` choices, whose indexes start at ``first_index``.

    ``prompt_tokens`` is the estimate for servers that don't tell. Not ``parallel``: the first call alone is told.
    ``refuses``: a refusal is told as such, as something was asked for; elsewhere it is text. ``hides_length``: see
    ``Traits``.
    """

    n: int
    prompt_tokens: int
    first_index: int = 0
    parallel: bool = True
    refuses: bool = False
    hides_length: bool = False


class StreamReader:
    """Reads the chunks of a chat or a completion."""

    def __init__(self, expected: Expected) -> None:
        self.said = False
        self.done = False
        self._expected = expected
        self._n = expected.n
        self._events = EventReader(MAX_EVENT)
        self._where = Where("", "")
        self._calls: dict[int, CallReader] = {}
        self._finished: set[int] = set()
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._counted = 0  # pieces, each about a token
        self._thoughts = 0  # those of them that are thoughts
        self._estimate = expected.prompt_tokens
        self._asked = time.monotonic()
        self._first: float | None = None

    def accepted(self, headers: Mapping[str, str], where: Where, events: list[Event]) -> None:
        """The server works on it. Raises UpstreamError when no stream comes."""
        self._where = where
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise nonsense("a stream of events", f"its content type is {kind or 'not told'}".encode(), where)
        events.append(Started(self._estimate))

    def feed(self, piece: bytes, events: list[Event]) -> None:
        """Raises UpstreamError for nonsense, and what an error event says."""
        try:
            found = self._events.feed(piece)
        except TooLongError as error:
            raise nonsense(f"events of a length that can be read: {error}", piece, self._where) from None
        self._read(found, events)

    def end(self, events: list[Event]) -> None:
        """Raises UpstreamUnavailableError when it comes too early."""
        self._read(self._events.end(), events)
        if not self.done:
            if not self.said:
                raise UpstreamError(
                    f"the upstream {self._where.base_url} ended its answer without a word: the prompt may be too long "
                    "for it, its log tells more"
                )
            if len(self._finished) < self._n:
                raise self._cut("ended its answer in the middle")
            events.append(self._finish())

    def _read(self, found: list[bytes], events: list[Event]) -> None:
        for data in found:
            if self.done:
                return
            if data.strip() != b"[DONE]":
                self._chunk(data, events)
            elif len(self._finished) < self._n:
                raise self._cut("ended its answer without a reason")
            else:
                events.append(self._finish())

    def _chunk(self, data: bytes, events: list[Event]) -> None:
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise nonsense("a chunk of an answer", data, self._where) from None
        if chunk.object == "error" or chunk.error != NULL:
            raise stream_error(data, self._where)
        for choice in chunk.choices or ():
            if not 0 <= choice.index < self._n:
                raise nonsense(f"{self._n} choices", data, self._where)
            self._choice(choice, data, events)
        if chunk.usage is not None:
            self._usage = self._told_usage(chunk.usage)
        if chunk.timings is not None:
            self._timings = Timings(**msgspec.structs.asdict(chunk.timings))

    def _choice(self, choice: Choice, data: bytes, events: list[Event]) -> None:
        index = self._expected.first_index + choice.index
        before = len(events)
        try:
            logprobs = token_logprobs(choice.logprobs)
        except ValueError as error:
            raise nonsense(f"log-probabilities ({error})", data, self._where) from None
        text = (choice.text or "") + self._aside(index, choice.delta, events)
        if text or logprobs:
            events.append(TextDelta(index, text, logprobs))
        if choice.delta is not None:
            self._call(index, choice.delta, data, events)
        if len(events) > before:
            self.said = True
            self._count(events[before], max(1, len(logprobs)))
        if choice.finish_reason and choice.index not in self._finished:
            if choice.finish_reason in _CUT:
                raise self._cut("gave up in the middle of its answer")
            self.said = True
            self._finished.add(choice.index)
            events.append(Finished(index, self._reason(index, choice.finish_reason, data), choice.stop))

    def _aside(self, index: int, delta: ChatPiece | None, events: list[Event]) -> str:
        """Tells the thoughts and a refusal of a piece, and gives what is text of the answer."""
        if delta is None:
            return ""
        if thought := delta.reasoning_content or delta.reasoning:
            events.append(ReasoningDelta(index, thought))
        text = delta.content or ""
        if not delta.refusal:
            return text
        if not self._expected.refuses:
            return text + delta.refusal
        events.append(RefusalDelta(index, delta.refusal))
        return text

    def _call(self, index: int, delta: ChatPiece, data: bytes, events: list[Event]) -> None:
        if not delta.tool_calls and delta.function_call is None:
            return
        reader = self._calls.setdefault(index, CallReader(index, parallel=self._expected.parallel))
        try:
            events += reader.read(delta)
        except ValueError as error:
            raise nonsense(f"calls of tools ({error})", data, self._where) from None

    def _reason(self, index: int, told: str, data: bytes) -> str:
        """Why a choice ended. Servers differ in what they say of one that calls; without a call there is none."""
        calls = self._calls.get(index)
        if calls is None:
            return FinishReason.STOP if told in _ENDS else told
        try:
            calls.finish()
        except ValueError as error:
            raise nonsense(f"calls of tools ({error})", data, self._where) from None
        if told not in _ENDS:
            return told
        return FinishReason.LENGTH if self._expected.hides_length and calls.is_cut else FinishReason.TOOL_CALLS

    def _count(self, first: Event, tokens: int) -> None:
        self._counted += tokens
        if isinstance(first, ReasoningDelta):
            self._thoughts += tokens
        if self._first is None:
            self._first = time.monotonic()

    def _told_usage(self, told: Tokens) -> Usage:
        prompt, completion = told.prompt_tokens_details, told.completion_tokens_details
        tokens = told.completion_tokens or 0
        thoughts = completion.reasoning_tokens if completion is not None else None
        return Usage(
            prompt_tokens=told.prompt_tokens or 0,
            completion_tokens=tokens,
            cached_tokens=(prompt.cached_tokens if prompt is not None else None) or 0,
            reasoning_tokens=min(tokens, self._thoughts) if thoughts is None else thoughts,
            accepted_prediction_tokens=None if completion is None else completion.accepted_prediction_tokens,
            rejected_prediction_tokens=None if completion is None else completion.rejected_prediction_tokens,
        )

    def _finish(self) -> Done:
        self.done = True
        usage = self._usage or Usage(
            prompt_tokens=self._estimate,
            completion_tokens=self._counted,
            cached_tokens=0,
            reasoning_tokens=self._thoughts,
        )
        return Done(usage, self._timings or self._measured(usage))

    def _measured(self, usage: Usage) -> Timings:
        now = time.monotonic()
        first = now if self._first is None else self._first
        return Timings(
            cache_n=usage.cached_tokens,
            prompt_n=max(0, usage.prompt_tokens - usage.cached_tokens),
            prompt_ms=1000.0 * (first - self._asked),
            predicted_n=usage.completion_tokens,
            predicted_ms=1000.0 * (now - first),
            queue_ms=0.0,
        )

    def _cut(self, what: str) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(f"the upstream {self._where.base_url} {what}; try once more", retry_after=1)
