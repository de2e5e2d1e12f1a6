"""What upstreams answer, as far as it is read: unknown fields are passed over, wrong types are an error."""

from __future__ import annotations

from typing import Any

import msgspec

NULL = msgspec.Raw(b"null")


class Candidate(msgspec.Struct, frozen=True):
    """A token that was likely at a place."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    id: int | None = None  # llama-server's


class Chosen(msgspec.Struct, frozen=True):
    """The token that was chosen at a place."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    id: int | None = None
    top_logprobs: list[Candidate] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """A chat's have ``content``, the legacy completions' the lists (llama-server's: ``content``)."""

    content: list[Chosen] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None
    text_offset: list[int] | None = None


class FunctionPiece(msgspec.Struct, frozen=True):
    """A piece of a call's function."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of a tool call; servers that tell calls as a whole may leave ``index`` out."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class ChatPiece(msgspec.Struct, frozen=True):
    """What a choice of a chat goes on with; ``reasoning`` has two names, and calls an older form."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: FunctionPiece | None = None


class Choice(msgspec.Struct, frozen=True):
    """A piece of a choice: ``delta`` of a chat, ``text`` of a completion."""

    index: int = 0
    delta: ChatPiece | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's: the stop string that ended it, or the token
    matched_stop: Any = None  # SGLang's name of the same

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return next((told for told in (self.stop_reason, self.matched_stop) if isinstance(told, str)), None)


class CachedTokens(msgspec.Struct, frozen=True):
    """OpenAI's ``prompt_tokens_details``."""

    cached_tokens: int | None = None


class CompletionTokens(msgspec.Struct, frozen=True):
    """OpenAI's ``completion_tokens_details``."""

    reasoning_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True):
    """OpenAI's ``usage``."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: CompletionTokens | None = None


class Times(msgspec.Struct, frozen=True):
    """llama.cpp's ``timings``, with janflask's ``queue_ms``."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    queue_ms: float = 0.0


class Chunk(msgspec.Struct, frozen=True):
    """An event of a stream; ``error`` is what went wrong in the middle of it."""

    choices: list[Choice] | None = None
    usage: Tokens | None = None
    timings: Times | None = None
    error: msgspec.Raw = NULL
    object: str | None = None


class Vector(msgspec.Struct, frozen=True):
    """An input's vector: numbers, or the base64 of little-endian 32-bit floats."""

    embedding: list[float] | str
    index: int | None = None


class Vectors(msgspec.Struct, frozen=True):
    """The answer of POST /embeddings."""

    data: list[Vector]
    usage: Tokens | None = None


class ModelMeta(msgspec.Struct, frozen=True):
    """llama-server's ``meta``."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None


class ListedModel(msgspec.Struct, frozen=True):
    """An entry of GET /models."""

    id: str
    max_model_len: int | None = None  # vLLM's
    meta: ModelMeta | None = None


class ModelList(msgspec.Struct, frozen=True):
    """The answer of GET /models."""

    data: list[ListedModel]


class Runtime(msgspec.Struct, frozen=True):
    """How a janflask runs a model."""

    ctx_len: int | None = None


class JanModel(msgspec.Struct, frozen=True):
    """janflask's answer of GET /models/{id}."""

    runtime: Runtime | None = None
    settings: dict[str, Any] = {}


class GenerationSettings(msgspec.Struct, frozen=True):
    """How llama-server runs its model."""

    n_ctx: int | None = None


class Props(msgspec.Struct, frozen=True):
    """llama-server's answer of GET /props."""

    default_generation_settings: GenerationSettings | None = None
