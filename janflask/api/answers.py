"""OpenAI's answer objects out of a generation's events: the whole ones, and what whole and streamed ones share."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from janflask import __version__
from janflask.services.generation import Chunk, Done, Event, Finished
from janflask.types import CompletionRequest, InferenceRequest, Timings, TokenLogprob, Usage

FINGERPRINT = f"janflask-{__version__}"
LEAST_LOGPROB = -9999.0  # JSON has no -inf; OpenAI's own answers use this number


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
        self.logprobs: list[TokenLogprob] = []
        self.reason: str | None = None


def whole_chat(heading: Heading, request: InferenceRequest, events: Iterable[Sequence[Event]]) -> dict[str, Any]:
    """A ``chat.completion``, once ``events`` has come to its end."""
    choices, done = _collect(events)
    logprobs = "top_logprobs" in request.sampling
    listed = [
        {
            "index": index,
            "message": {"role": "assistant", "content": "".join(choice.texts), "refusal": None},
            "logprobs": chat_logprobs(choice.logprobs) if logprobs else None,
            "finish_reason": choice.reason,
        }
        for index, choice in sorted(choices.items())
    ]
    return {**heading.fields(), "choices": listed, **_tail(done)}


def whole_completion(heading: Heading, request: CompletionRequest, events: Iterable[Sequence[Event]]) -> dict[str, Any]:
    """A ``text_completion``, once ``events`` has come to its end."""
    choices, done = _collect(events)
    logprobs = "top_logprobs" in request.sampling
    listed = [
        {
            "index": index,
            "text": echoed(request, index) + "".join(choice.texts),
            "logprobs": LegacyLogprobs().take(choice.logprobs) if logprobs else None,
            "finish_reason": choice.reason,
        }
        for index, choice in sorted(choices.items())
    ]
    return {**heading.fields(), "choices": listed, **_tail(done)}


def echoed(request: CompletionRequest, index: int) -> str:
    """What choice ``index`` starts with: its prompt if the request wants it, or nothing."""
    prompt = request.prompts[index // request.n]
    return prompt if request.echo and isinstance(prompt, str) else ""


def _collect(events: Iterable[Sequence[Event]]) -> tuple[dict[int, _Choice], Done]:
    choices: dict[int, _Choice] = {}
    done: Done | None = None
    for batch in events:
        for event in batch:
            if isinstance(event, Chunk):
                choice = choices.setdefault(event.index, _Choice())
                choice.texts.append(event.text)
                choice.logprobs.extend(event.logprobs)
            elif isinstance(event, Finished):
                choices.setdefault(event.index, _Choice()).reason = event.reason
            elif isinstance(event, Done):
                done = event
    if done is None:
        raise RuntimeError("a generation's events ended without a Done")
    return choices, done


def _tail(done: Done) -> dict[str, Any]:
    return {"usage": usage_object(done.usage), "timings": timings_object(done.timings)}


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's ``usage``."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


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
    content = [
        {
            "token": token.token,
            "logprob": _finite(token.logprob),
            "bytes": list(token.raw),
            "top_logprobs": [
                {"token": top.token, "logprob": _finite(top.logprob), "bytes": list(top.raw)} for top in token.top
            ],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


class LegacyLogprobs:
    """The older form of ``logprobs``, with each token's place in the choice's text, counted on from call to call."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def take(self, tokens: Iterable[TokenLogprob]) -> dict[str, list[Any]]:
        """The object for the next tokens."""
        out: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in tokens:
            out["tokens"].append(token.token)
            out["token_logprobs"].append(_finite(token.logprob))
            # Two tokens may have the same text; the likelier one comes first and stays.
            out["top_logprobs"].append({top.token: _finite(top.logprob) for top in reversed(token.top)})
            out["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(token.raw))
        return out


def _finite(logprob: float) -> float:
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB
