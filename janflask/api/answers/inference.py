"""OpenAI's answer objects out of a generation's events: the whole ones, and what whole and streamed ones share."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from janflask import __version__
from janflask.errors import EngineError
from janflask.inference.deltas import (
    Delta,
    Done,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from janflask.inference.logprobs import finite, logprob_entries
from janflask.inference.requests import ChatRequest, CompletionRequest, InferenceRequest
from janflask.ipc.messages.generation import FinishReason, Timings, Usage
from janflask.parsing.deltas import TokenLogprob, TopLogprob

FINGERPRINT = f"janflask-{__version__}"
_PRINTABLE = bytes(set(range(32, 127)) - {ord("\\")})


@dataclass(frozen=True, slots=True)
class Heading:
    """What every object of one answer carries."""

    id: str
    object: str
    created: int  # seconds since the epoch
    model: str

    @classmethod
    def new(cls, request: InferenceRequest) -> Heading:
        """A fresh one for ``request``."""
        if isinstance(request, CompletionRequest):
            prefix, kind = "cmpl", "text_completion"
        else:
            prefix, kind = "chatcmpl", "chat.completion.chunk" if request.stream else "chat.completion"
        return cls(f"{prefix}-{secrets.token_hex(12)}", kind, int(time.time()), request.model)

    def fields(self) -> dict[str, Any]:
        """As an object's first fields."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


class _Choice:
    """One choice as it grows."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reason: str | None = None

    def add(self, delta: Delta) -> None:
        """What it goes on with."""
        if isinstance(delta, TextDelta):
            self.texts.append(delta.text)


class _ChatChoice(_Choice):
    def __init__(self) -> None:
        super().__init__()
        self.logprobs: list[TokenLogprob] = []
        self._thoughts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._refusal: str | None = None

    def add(self, delta: Delta) -> None:
        super().add(delta)
        if isinstance(delta, TextDelta):
            self.logprobs.extend(delta.logprobs)
        elif isinstance(delta, ReasoningDelta):
            self._thoughts.append(delta.text)
        elif isinstance(delta, RefusalDelta):
            self._refusal = (self._refusal or "") + delta.text
        else:
            self._add_call(delta)

    def message(self, *, calls_function: bool = False) -> dict[str, Any]:
        """The assistant's message: its content is null where it only calls tools."""
        text = "".join(self.texts)
        message: dict[str, Any] = {"role": "assistant", "content": None if self._calls and not text else text}
        message["refusal"] = self._refusal
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._calls and calls_function:
            message["function_call"] = self._calls[0]["function"]
        elif self._calls:
            message["tool_calls"] = self._calls
        return message

    def _add_call(self, delta: ToolCallDelta) -> None:
        while len(self._calls) <= delta.call:
            self._calls.append({"id": None, "type": "function", "function": {"name": None, "arguments": ""}})
        call = self._calls[delta.call]
        call["id"] = call["id"] or delta.id
        call["function"]["name"] = call["function"]["name"] or delta.name
        call["function"]["arguments"] += delta.arguments


class _CompletionChoice(_Choice):
    def __init__(self) -> None:
        super().__init__()
        self._legacy = LegacyLogprobs()
        self.logprobs = self._legacy.take(())

    def add(self, delta: Delta) -> None:
        super().add(delta)
        if isinstance(delta, RefusalDelta):
            raise not_as_asked(delta)
        if isinstance(delta, TextDelta):
            for name, items in self._legacy.take(delta.logprobs).items():
                self.logprobs[name] += items


C = TypeVar("C", bound=_Choice)


def finish_reason(reason: str | None, request: InferenceRequest) -> str | None:
    """Why a choice ended, in the words of the form that ``request`` has."""
    old = isinstance(request, ChatRequest) and request.calls_function and reason == FinishReason.TOOL_CALLS
    return "function_call" if old else reason


def whole_chat(heading: Heading, request: ChatRequest, events: Iterable[Sequence[Event]]) -> dict[str, Any]:
    """A ``chat.completion``, once ``events`` has come to its end."""
    choices, done = _collect(events, _ChatChoice)
    logprobs = "top_logprobs" in request.sampling
    listed = [
        {
            "index": index,
            "message": choice.message(calls_function=request.calls_function),
            "logprobs": chat_logprobs(choice.logprobs) if logprobs else None,
            "finish_reason": finish_reason(choice.reason, request),
        }
        for index, choice in sorted(choices.items())
    ]
    return {**heading.fields(), "choices": listed, **_tail(done)}


def whole_completion(heading: Heading, request: CompletionRequest, events: Iterable[Sequence[Event]]) -> dict[str, Any]:
    """A ``text_completion``, once ``events`` has come to its end."""
    choices, done = _collect(events, _CompletionChoice)
    logprobs = "top_logprobs" in request.sampling
    listed = [
        {
            "index": index,
            "text": echoed(request, index) + "".join(choice.texts),
            "logprobs": choice.logprobs if logprobs else None,
            "finish_reason": choice.reason,
        }
        for index, choice in sorted(choices.items())
    ]
    return {**heading.fields(), "choices": listed, **_tail(done)}


def echoed(request: CompletionRequest, index: int) -> str:
    """What choice ``index`` starts with: its prompt if the request wants it and the engine does not tell it."""
    prompt = request.prompts[index // request.n]
    return prompt if request.echo and isinstance(prompt, str) and not request.backend_echoes(prompt) else ""


def _collect(events: Iterable[Sequence[Event]], new: Callable[[], C]) -> tuple[dict[int, C], Done]:
    choices: dict[int, C] = {}
    done: Done | None = None
    for batch in events:
        for event in batch:
            if isinstance(event, Delta):
                choices.setdefault(event.index, new()).add(event)
            elif isinstance(event, Finished):
                choices.setdefault(event.index, new()).reason = event.reason
            elif isinstance(event, Done):
                done = event
    if done is None:
        raise RuntimeError("a generation's events ended without a Done")
    return choices, done


def not_as_asked(delta: RefusalDelta) -> EngineError:
    """The end of an answer whose form has no place for why it is not what was asked for."""
    return EngineError(delta.text, code="answer_not_as_asked")


def _tail(done: Done) -> dict[str, Any]:
    return {"usage": usage_object(done.usage), "timings": timings_object(done.timings)}


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's ``usage``."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens, **_guessed(usage)},
    }


def _guessed(usage: Usage) -> dict[str, int]:
    """What was guessed ahead, where it is known."""
    counts = {
        "accepted_prediction_tokens": usage.accepted_prediction_tokens,
        "rejected_prediction_tokens": usage.rejected_prediction_tokens,
    }
    return {name: count for name, count in counts.items() if count is not None}


def timings_object(timings: Timings) -> dict[str, Any]:
    """llama.cpp's ``timings``, with the time in the queue."""
    return {
        "queue_ms": round(timings.queue_ms, 3),
        "cache_n": timings.cache_n,
        "prompt_n": timings.prompt_n,
        "prompt_ms": round(timings.prompt_ms, 3),
        "prompt_per_second": round(timings.prompt_per_second, 3),
        "predicted_n": timings.predicted_n,
        "predicted_ms": round(timings.predicted_ms, 3),
        "predicted_per_second": round(timings.predicted_per_second, 3),
    }


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """A chat choice's ``logprobs``."""
    return {"content": logprob_entries(tokens), "refusal": None}


class LegacyLogprobs:
    """The older form of ``logprobs``, with each token's place in the choice's text, counted on from call to call."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def take(self, tokens: Iterable[TokenLogprob]) -> dict[str, list[Any]]:
        """The object for the next tokens."""
        out: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            predicted = token.logprob is not None
            out["tokens"].append(_legacy_name(token))
            out["token_logprobs"].append(finite(token.logprob))
            out["top_logprobs"].append(_legacy_candidates(token) if predicted else None)
            out["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(token.raw)) if token.width is None else token.width
        return out


def _legacy_name(token: TokenLogprob | TopLogprob) -> str:
    r"""A token's text, or its bytes in OpenAI's way (``bytes:\xf0``) where they are no characters by themselves."""
    try:
        return token.raw.decode("utf-8")
    except UnicodeDecodeError:
        return _bytes_name(token.raw)


def _bytes_name(raw: bytes, plain: bytes = _PRINTABLE) -> str:
    return "bytes:" + "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in raw)


def _legacy_candidates(token: TokenLogprob) -> dict[str, float | None]:
    """The likeliest tokens by name, likeliest first.

    Where two have the same text, the chosen one, or else the likelier, has it for its name; the next one's bytes are
    spelled out, and a third goes by its id: no candidate is lost.
    """
    names: dict[str, int] = {}
    for top in sorted(token.top, key=lambda top: top.id != token.id):
        possible = (_legacy_name(top), _bytes_name(top.raw, b""), f"token_id:{top.id}")
        names[next(name for name in possible if name not in names)] = top.id
    named = {number: name for name, number in names.items()}
    return {named[top.id]: finite(top.logprob) for top in token.top}
