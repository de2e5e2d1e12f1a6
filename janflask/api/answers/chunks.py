"""The ``data:`` lines of a streamed answer.

This is the API's hot path, once a token and client: the JSON around the text is put together once for each choice, and
only the text itself is encoded anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from janflask.api.answers.inference import (
    Heading,
    LegacyLogprobs,
    chat_logprobs,
    echoed,
    finish_reason,
    not_as_asked,
    timings_object,
    usage_object,
)
from janflask.inference.deltas import Done, Finished, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from janflask.inference.requests import ChatRequest, CompletionRequest, InferenceRequest
from janflask.parsing.deltas import TokenLogprob

DONE = b"data: [DONE]\n\n"

encode_json = msgspec.json.Encoder().encode


def data_line(content: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encode_json(content) + b"\n\n"


class ChunkWriter(ABC):
    """Bytes for each event of one streamed answer."""

    TEXT_FIELD: bytes  # what stands between a choice's index and its text
    AFTER_TEXT: bytes

    def __init__(self, heading: Heading, request: InferenceRequest) -> None:
        self._heading = heading
        self._include_usage = request.include_usage
        self._starts: dict[int, bytes] = {}
        # With include_usage every chunk has a usage field, and only the last one's holds it.
        usage = b',"usage":null' if request.include_usage else b""
        self._plain_end = self.AFTER_TEXT + b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._after_logprobs = b',"finish_reason":null}]' + usage + b"}\n\n"

    def text(self, delta: TextDelta) -> bytes:
        """Text of one choice, with its log-probabilities if there are any; nothing when there is neither."""
        if not delta.text and not delta.logprobs:
            return b""
        start = self._starts.get(delta.index) or self._start(delta.index)
        if not delta.logprobs:
            return start + encode_json(delta.text) + self._plain_end
        logprobs = encode_json(self._logprobs(delta.index, delta.logprobs))
        return start + encode_json(delta.text) + self.AFTER_TEXT + b',"logprobs":' + logprobs + self._after_logprobs

    def finish(self, finished: Finished, done: Done | None) -> bytes:
        """The end of one choice; with ``done``, of the answer, and then the timings are in the last chunk."""
        content = self._object([self._last_choice(finished)])
        if done is None:
            return data_line(content)
        usage, timings = self._costs(done)
        if not self._include_usage:
            return data_line({**content, **timings})
        return data_line(content) + data_line({**self._object([]), **usage, **timings})

    def _costs(self, done: Done) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields that say what the answer took: tokens, and time."""
        return {"usage": usage_object(done.usage)}, {"timings": timings_object(done.timings)}

    @abstractmethod
    def aside(self, delta: ReasoningDelta | ToolCallDelta | RefusalDelta) -> bytes:
        """What is no text of the answer."""

    @abstractmethod
    def opening(self) -> bytes:
        """What comes before the first text."""

    @abstractmethod
    def _logprobs(self, index: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any]: ...

    @abstractmethod
    def _last_choice(self, finished: Finished) -> dict[str, Any]: ...

    def _object(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {**self._heading.fields(), "choices": choices}
        return {**content, "usage": None} if self._include_usage else content

    def _start(self, index: int) -> bytes:
        fields = encode_json(self._heading.fields()).removesuffix(b"}")
        start = b"data: " + fields + b',"choices":[{"index":' + str(index).encode() + self.TEXT_FIELD
        self._starts[index] = start
        return start


class ChatChunks(ChunkWriter):
    """``chat.completion.chunk`` objects: the role first, then the content, then the reason for the end."""

    TEXT_FIELD = b',"delta":{"content":'
    AFTER_TEXT = b"}"

    def __init__(self, heading: Heading, request: ChatRequest) -> None:
        super().__init__(heading, request)
        self._request = request

    def opening(self) -> bytes:
        """The assistant's role, for each choice."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(data_line(self._object([_choice(index, delta)])) for index in range(self._request.n))

    def aside(self, delta: ReasoningDelta | ToolCallDelta | RefusalDelta) -> bytes:
        """``reasoning_content``, a piece of one of the ``tool_calls`` (or a ``function_call``), or a ``refusal``."""
        said: dict[str, Any]
        if isinstance(delta, ReasoningDelta):
            said = {"reasoning_content": delta.text}
        elif isinstance(delta, RefusalDelta):
            said = {"refusal": delta.text}
        elif self._request.calls_function:
            said = {"function_call": _call(delta)["function"]}
        else:
            said = {"tool_calls": [_call(delta)]}
        return data_line(self._object([_choice(delta.index, said)]))

    def _logprobs(self, index: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        return chat_logprobs(tokens)

    def _last_choice(self, finished: Finished) -> dict[str, Any]:
        return _choice(finished.index, {}, finish_reason(finished.reason, self._request))


class CompletionChunks(ChunkWriter):
    """``text_completion`` objects with a piece of the text each."""

    TEXT_FIELD = b',"text":'
    AFTER_TEXT = b""

    def __init__(self, heading: Heading, request: CompletionRequest) -> None:
        super().__init__(heading, request)
        self._request = request
        self._legacy: dict[int, LegacyLogprobs] = {}

    def opening(self) -> bytes:
        """The prompts, if they are to be echoed."""
        texts = [echoed(self._request, index) for index in range(len(self._request.prompts) * self._request.n)]
        return b"".join(self.text(TextDelta(index, text)) for index, text in enumerate(texts))

    def aside(self, delta: ReasoningDelta | ToolCallDelta | RefusalDelta) -> bytes:
        """Raises EngineError for an answer that is not what was asked for: a completion has no place for saying so.

        Raises RuntimeError for the others: a text that is continued has none of them.
        """
        if isinstance(delta, RefusalDelta):
            raise not_as_asked(delta)
        raise RuntimeError(f"a completion has no {type(delta).__name__}")

    def _logprobs(self, index: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        return self._legacy.setdefault(index, LegacyLogprobs()).take(tokens)

    def _last_choice(self, finished: Finished) -> dict[str, Any]:
        return {"index": finished.index, "text": "", "logprobs": None, "finish_reason": finished.reason}


def _choice(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _call(delta: ToolCallDelta) -> dict[str, Any]:
    """The first piece of a call has all that names it."""
    function: dict[str, Any] = {"arguments": delta.arguments}
    if delta.id is None:
        return {"index": delta.call, "function": function}
    return {"index": delta.call, "id": delta.id, "type": "function", "function": {"name": delta.name, **function}}
