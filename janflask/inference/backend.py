"""The one door to a model, whatever runs it: what the API, the runs and everything above know of models that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from janflask.inference.deltas import Events
from janflask.inference.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    LaidOut,
    TemplateRequest,
    TokenizeRequest,
)
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Tokens


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What has to be known of a model to show it a conversation."""

    ctx_len: int | None  # tokens of prompt and answer together; None: nobody can tell
    continues: bool = True  # whether an answer that was begun can be continued
    continues_thoughts: bool = True  # and one of which nothing is there but what was thought before it


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector an input, in order: little-endian 32-bit floats, of length 1; and the tokens of all inputs."""

    vectors: list[bytes]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How long a prompt is; and the prompt itself, to be sent in its place, where that had to be made to count."""

    tokens: int
    laid_out: LaidOut | None = None
    is_estimate: bool = False


class Backend(Protocol):
    """One model, wherever it runs. Thread-safe.

    Every method waits for the model: a local one that does not run is started. Besides what it says, each raises
    ConflictError for an unusable ``model.json``, InvalidRequestError for what the model cannot do, QueueFullError,
    EngineCrashedError and UnavailableError when the model is gone (a moment later it may be back: ``Tries``),
    TimeoutExceededError, and ClientDisconnectedError. ``tries`` are those of the request that a call is a step of.
    """

    def info(self, waiter: Waiter, overrides: Mapping[str, Any] | None = None) -> BackendInfo:
        """``overrides`` are the settings of a start that is needed."""
        ...

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        """The answer, with an empty list after each ``beat`` seconds of silence."""
        ...

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        """The continuations of all prompts, as ``chat``."""
        ...

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        """The vectors of a request's inputs. Raises ContextLengthExceededError naming the input."""
        ...

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Tokens:
        """The tokens of a text."""
        ...

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        """The text of tokens."""
        ...

    def lay_out(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None = None) -> LaidOut:
        """The prompt that a chat of these messages has, with exactly its tokens if they are asked for."""
        ...

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Counted:
        """How many tokens the prompt of such a chat, or a text, has."""
        ...
