"""One chat or completion request, from its model to its events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from janflask.errors import EngineCrashedError, InvalidRequestError, JanflaskError
from janflask.inference.generation import Event, Generations
from janflask.inference.requests import ChatRequest, CompletionRequest, InferenceRequest
from janflask.inference.sampling import (
    model_cache_prompt,
    model_max_tokens,
    model_stop,
    sampling_params,
    template_kwargs,
)
from janflask.inference.templates import ChatTemplates, Prompt, needs_special
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.card import ModelCard
from janflask.models.catalog import MODEL_FILE
from janflask.models.engine_info import EngineInfo
from janflask.models.parameters import NO_LIMIT
from janflask.services.engine_access import EngineAccess
from janflask.services.models import Endpoint, ModelService
from janflask.settings import Settings

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for the legacy completions


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A checked request: ``prepare`` makes its generations once it is known which engine runs them."""

    model_id: str
    prepare: Callable[[EngineInfo], list[GenerateRequest]]
    prompt_field: str  # what the request calls its prompt, for error messages
    bias: str = "logit_bias"  # what is to be called so in them: whose it is, if it is not the request's own


class ChatService:
    """Turns requests into events. Thread-safe."""

    def __init__(self, settings: Settings, models: ModelService, templates: ChatTemplates) -> None:
        self._settings = settings
        self._models = models
        self._templates = templates
        self._engines = EngineAccess(settings, models)

    def chat(self, request: ChatRequest) -> PendingRequest:
        """Raises ModelNotFoundError, and ConflictError for an unusable ``model.json``."""
        card = self._models.card(request.model)
        default = None if request.max_tokens is not None else model_max_tokens(card)
        generate = _common(card, request, default)
        further = template_kwargs(card, request.template_kwargs)

        def prepare(info: EngineInfo) -> list[GenerateRequest]:
            laid_out = request.laid_out
            if laid_out is not None and laid_out.tokens is not None:
                return [generate(laid_out.tokens, False, laid_out.stop)]
            prompt = self._prompt(request, card, further, info)
            return [generate(prompt.text + request.begun, prompt.add_special, prompt.stop)]

        return PendingRequest(card.id, prepare, "messages", _bias_of(request, card))

    def _prompt(self, request: ChatRequest, card: ModelCard, further: Mapping[str, Any], info: EngineInfo) -> Prompt:
        jan_template = card.settings.get("prompt_template")
        return self._templates.prompt(
            request.messages,
            info,
            jan_template if isinstance(jan_template, str) else None,
            further,
            ask=request.add_generation_prompt,
            go_on=request.continue_final_message,
        )

    def completion(self, request: CompletionRequest) -> PendingRequest:
        """Raises ModelNotFoundError, and ConflictError for an unusable ``model.json``."""
        card = self._models.card(request.model)
        generate = _common(card, request, COMPLETION_MAX_TOKENS)

        def prepare(info: EngineInfo) -> list[GenerateRequest]:
            for number, prompt in enumerate(request.prompts):
                _check_tokens(prompt, number, info)
            asked = [
                generate(prompt, isinstance(prompt, str) and needs_special(prompt, info), ())
                for prompt in request.prompts
            ]
            return [replace(each, echo=engine_echoes(request, each.prompt)) for each in asked]

        return PendingRequest(card.id, prepare, "prompt", _bias_of(request, card))

    def events(
        self, pending: PendingRequest, waiter: Waiter, beat: float, tries: Tries | None = None
    ) -> Generator[list[Event], None, None]:
        """The request's events as they come; an empty list after each ``beat`` seconds of silence.

        Nothing happens before the first ``next``. What can be refused without loading a model is raised by it, before
        any event; when the model has to be loaded first, it gives an empty list at once. Closing the generator cancels.
        ``tries`` are the request's own, if it has more steps than this.

        Raises everything the engine, the supervisor and the template can, and ClientDisconnectedError.
        """
        try:
            tries, heard, anew = tries or Tries(), False, False
            while True:
                try:
                    with closing(self._attempt(pending, waiter, beat, anew)) as events:
                        for batch in events:
                            heard = heard or bool(batch)
                            yield batch
                    return
                except EngineCrashedError as error:
                    # Before its first word a request can be asked again without harm: what was remembered of the engine
                    # is out of date, it is gone or about to come back.
                    if heard:
                        raise
                    tries.again(error, waiter)
                anew = True
        except JanflaskError as error:
            if error.param == "prompt":
                error.param = pending.prompt_field
            elif error.param == "logit_bias":
                error.message = error.message.replace("logit_bias", pending.bias, 1)
                error.args = (error.message,)
            raise

    def _attempt(
        self, pending: PendingRequest, waiter: Waiter, beat: float, anew: bool
    ) -> Generator[list[Event], None, None]:
        search = self._engines.finding(pending.model_id, waiter, beat, anew=anew)
        while True:
            try:
                next(search)
            except StopIteration as found:
                endpoint: Endpoint = found.value
                break
            yield []
        generations = Generations(endpoint.socket, pending.prepare(endpoint.info), waiter)
        yield from generations.events(beat, self._settings.request_timeout)


def engine_echoes(request: CompletionRequest, prompt: str | tuple[int, ...]) -> bool:
    """Whether an echoed prompt comes from the engine: one that is token ids, or has log-probabilities."""
    return request.echo and (not isinstance(prompt, str) or "top_logprobs" in request.sampling)


def _common(
    card: ModelCard, request: InferenceRequest, default_max_tokens: int | None
) -> Callable[[str | tuple[int, ...], bool, tuple[str, ...]], GenerateRequest]:
    sampling = sampling_params(card, request.sampling)
    stop = model_stop(card) if request.stop is None else request.stop
    cache_prompt = model_cache_prompt(card) if request.cache_prompt is None else request.cache_prompt
    max_tokens = default_max_tokens if request.max_tokens is None else request.max_tokens

    def generate(prompt: str | tuple[int, ...], add_special: bool, further_stop: tuple[str, ...]) -> GenerateRequest:
        return GenerateRequest(
            prompt=prompt,
            n=request.n,
            max_tokens=None if max_tokens == NO_LIMIT else max_tokens,
            stop=tuple(dict.fromkeys(stop + further_stop)),
            sampling=sampling,
            add_special=add_special,
            parse_special=True,
            cache_prompt=cache_prompt,
            conversation=request.conversation if isinstance(request, ChatRequest) else None,
        )

    return generate


def _bias_of(request: InferenceRequest, card: ModelCard) -> str:
    return "logit_bias" if "logit_bias" in request.sampling else f"logit_bias in {MODEL_FILE} of {card.id}"


def _check_tokens(prompt: str | tuple[int, ...], number: int, info: EngineInfo) -> None:
    """The engine checks every prompt; of many it would get to the last ones only after it has answered the first."""
    if not isinstance(prompt, str) and max(prompt) >= info.n_vocab:
        raise InvalidRequestError(
            f"prompt {number}: {max(prompt)} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
            param="prompt",
        )
