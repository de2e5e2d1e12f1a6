"""A model that an OpenAI-compatible server elsewhere runs, as a backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from janflask.errors import InvalidRequestError, JanflaskError, UpstreamSetupError
from janflask.inference.backend import BackendInfo, Counted, Embedded
from janflask.inference.calls.checked import calls_checked
from janflask.inference.deltas import Events
from janflask.inference.forms.constrained import checked
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
from janflask.inference.upstream import estimate
from janflask.inference.upstream.answers import JanModel, ModelList, Props, Vectors
from janflask.inference.upstream.bodies import Bodies, encode
from janflask.inference.upstream.call import Call
from janflask.inference.upstream.calls import Calls, ask
from janflask.inference.upstream.kinds import TRAITS, Continues
from janflask.inference.upstream.pool import UpstreamPool
from janflask.inference.upstream.problems import NO_ROUTE, nonsense
from janflask.inference.upstream.reading import Expected, StreamReader
from janflask.inference.upstream.tokens import BEAT, TokenRoutes, decoded
from janflask.inference.upstream.vectors import vectors_of
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Tokens
from janflask.models.card import ModelCard
from janflask.models.upstream import ServerKind, Upstream
from janflask.settings import Settings

INPUTS = 128  # of an embedding request that are sent at once
CONTEXT_LASTS = 60.0  # seconds for which what a server said of its context is believed


class UpstreamBackend:
    """See ``Backend``. Thread-safe; ``pool`` is shared by all backends of the model's entry."""

    def __init__(self, card: ModelCard, upstream: Upstream, pool: UpstreamPool, settings: Settings) -> None:
        self._card = card
        self._upstream = upstream
        self.pool = pool
        self._settings = settings
        self._traits = TRAITS[upstream.kind]
        self._bodies = Bodies(card, upstream)
        self._tokens = TokenRoutes(pool, self._bodies)
        self._lock = threading.Lock()
        self._context: tuple[float, int | None] | None = None  # when it was asked for, and what was said

    def info(self, waiter: Waiter, overrides: Mapping[str, Any] | None = None) -> BackendInfo:
        """``overrides`` say how a model is started; nothing is started there."""
        return BackendInfo(
            self._context_length(waiter), self._traits.continues is not Continues.NO, continues_thoughts=False
        )

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        """The answer, with an empty list after each ``beat`` seconds of silence."""
        tokens = estimate.tokens_of_messages(request.messages, request.tools) + estimate.tokens_of(request.begun)
        expected = Expected(
            n=request.n,
            prompt_tokens=tokens,
            parallel=request.parallel_calls,
            refuses=request.constraint is not None or bool(request.tools),
            hides_length=self._traits.hides_length,
        )
        call = Call(path="/chat/completions", reader=lambda: StreamReader(expected), body=self._bodies.chat(request))
        begun = request.messages[-1].text if request.continue_final_message else ""
        events = checked(self._events([call], waiter, beat, tries, "messages"), request.constraint, lambda: begun)
        yield from calls_checked(events, request.tools, request.tools_field)

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        """The continuations of all prompts: a call for each, as servers number the answers of several differently."""
        calls = [self._completion(request, prompt, number * request.n) for number, prompt in enumerate(request.prompts)]
        yield from checked(self._events(calls, waiter, beat, None, "prompt"), request.constraint)

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        """The vectors of a request's inputs, sent in parts."""
        if request.dimensions is not None and not self._traits.dimensions:
            raise self._unknown("dimensions")
        if not self._traits.token_prompts and not all(isinstance(item, str) for item in request.inputs):
            raise self._unknown("input", " of token ids")
        vectors: list[bytes] = []
        prompt_tokens = 0
        for first in range(0, len(request.inputs), INPUTS):
            inputs = request.inputs[first : first + INPUTS]
            some, tokens = self._embed(inputs, request.dimensions, waiter)
            vectors += some
            prompt_tokens += tokens
        return Embedded(vectors, prompt_tokens)

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Tokens:
        """The tokens of a text."""
        return self._tokens.tokenize(request, waiter, tries)

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        """The text of tokens."""
        return self._tokens.detokenize(request, waiter)

    def lay_out(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None = None) -> LaidOut:
        """The prompt that a chat of these messages has, with exactly its tokens if they are asked for."""
        return self._tokens.lay_out(request, waiter, tries)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Counted:
        """How many tokens the prompt of such a chat, or a text, has; an estimate for kinds that don't tell."""
        return self._tokens.count(request, waiter, tries)

    # --- how ----------------------------------------------------------------------------------------------------

    def _events(self, calls: list[Call], waiter: Waiter, beat: float, tries: Tries | None, param: str) -> Events:
        with _naming(param):
            yield from Calls(self.pool, calls, waiter, tries).events(beat)

    def _completion(self, request: CompletionRequest, prompt: str | tuple[int, ...], first_index: int) -> Call:
        tokens = estimate.tokens_of_prompt(prompt)
        expected = Expected(n=request.n, prompt_tokens=tokens, first_index=first_index)
        return Call(
            path="/completions",
            reader=lambda: StreamReader(expected),
            body=self._bodies.completion(request, prompt),
        )

    def _embed(
        self, inputs: tuple[str | tuple[int, ...], ...], dimensions: int | None, waiter: Waiter
    ) -> tuple[list[bytes], int]:
        """The vectors, and the tokens of all inputs."""
        body: dict[str, Any] = {"model": self._upstream.model, "input": inputs}
        if self._traits.base64:
            body["encoding_format"] = "base64"
        if dimensions is not None:
            body["dimensions"] = dimensions
        call = Call(path="/embeddings", body=encode(body))
        with _naming("input"):
            answer = ask(self.pool, call, waiter, BEAT)
        found = decoded(answer, Vectors, "/embeddings")
        try:
            vectors = vectors_of(found, len(inputs))
        except ValueError as error:
            raise nonsense("vectors", str(error).encode(), answer.where) from None
        told = found.usage.prompt_tokens if found.usage is not None else None
        return vectors, sum(map(estimate.tokens_of_prompt, inputs)) if told is None else told

    def _context_length(self, waiter: Waiter) -> int | None:
        if self._upstream.ctx_len is not None:
            return self._upstream.ctx_len
        with self._lock:
            known = self._context
        if known is not None and time.monotonic() - known[0] < CONTEXT_LASTS:
            return known[1]
        found = self._asked_context(waiter)
        with self._lock:
            self._context = time.monotonic(), found
        return found

    def _asked_context(self, waiter: Waiter) -> int | None:
        match self._upstream.kind:
            case ServerKind.JANFLASK:
                model = self._told(f"/models/{quote(self._upstream.model, safe='')}", JanModel, waiter)
                running = model.runtime.ctx_len if model.runtime is not None else None
                setting = model.settings.get("ctx_len")
                return running or (setting if isinstance(setting, int) else None)
            case ServerKind.LLAMA_SERVER:
                try:
                    props = self._told("/props", Props, waiter, at_root=True).default_generation_settings
                except UpstreamSetupError as error:
                    if error.code != NO_ROUTE:
                        raise
                    props = None
                return (props.n_ctx if props is not None else None) or self._listed_context(waiter)
            case ServerKind.LLAMA_CPP_PYTHON:
                return None  # it does not tell, and would answer only when it has nothing else to do
        return self._listed_context(waiter)

    def _listed_context(self, waiter: Waiter) -> int | None:
        for model in self._told("/models", ModelList, waiter).data:
            if model.id == self._upstream.model:
                meta = model.meta
                return model.max_model_len or (meta.n_ctx or meta.n_ctx_train if meta is not None else None)
        return None

    def _told(self, path: str, expected: type[Any], waiter: Waiter, *, at_root: bool = False) -> Any:
        call = Call(path=path, at_root=at_root, counted=False)
        return decoded(ask(self.pool, call, waiter, BEAT), expected, path)

    def _unknown(self, name: str, more: str = "") -> JanflaskError:
        return InvalidRequestError(
            f"{name}{more} is not supported: the server that runs {self._card.id} (kind {self._upstream.kind}) does "
            "not know it",
            param=name,
        )


@contextmanager
def _naming(param: str) -> Iterator[None]:
    """An error about what was asked names the client's own field for it."""
    try:
        yield
    except JanflaskError as error:
        if error.param in ("prompt", "messages"):
            error.param = param
        raise
