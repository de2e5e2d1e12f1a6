"""One chat or completion request, from its model to its events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace

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
from janflask.inference.templates import ChatTemplates, needs_special
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.card import ModelCard
from janflask.models.catalog import MODEL_FILE
from janflask.models.engine_info import EngineInfo
from janflask.models.parameters import NO_LIMIT
from janflask.services.engine_access import EngineAccess, Tries
from janflask.services.models import Endpoint, ModelService
from janflask.settings import Settings

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for the legacy completions


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A checked request: ``prepare`` makes its generations once it is known which engine runs them."""

    model_id: str
    prepare: Callable[[EngineInfo], list[GenerateRequest]]
    prompt_field: str  # what the request calls its prompt, for error messages


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
            jan_template = card.settings.get("prompt_template")
            prompt = self._templates.prompt(
                request.messages,
                info,
                jan_template if isinstance(jan_template, str) else None,
                further,
                ask=request.add_generation_prompt,
                go_on=request.continue_final_message,
            )
            generation = generate(prompt.text + request.begun, prompt.add_special, prompt.stop)
            _check_bias(generation, request, card, info)
            return [generation]

        return PendingRequest(card.id, prepare, "messages")

    def completion(self, request: CompletionRequest) -> PendingRequest:
        """Raises ModelNotFoundError, and ConflictError for an unusable ``model.json``."""
        card = self._models.card(request.model)
        generate = _common(card, request, COMPLETION_MAX_TOKENS)

        def prepare(info: EngineInfo) -> list[GenerateRequest]:
            _check_bias(generate("", False, ()), request, card, info)
            for number, prompt in enumerate(request.prompts):
                _check_tokens(prompt, number, info)
            asked = [
                generate(prompt, isinstance(prompt, str) and needs_special(prompt, info), ())
                for prompt in request.prompts
            ]
            return [replace(each, echo=engine_echoes(request, each.prompt)) for each in asked]

        return PendingRequest(card.id, prepare, "prompt")

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


def _check_bias(generation: GenerateRequest, request: InferenceRequest, card: ModelCard, info: EngineInfo) -> None:
    where = "" if "logit_bias" in request.sampling else f" in {MODEL_FILE} of {card.id}"
    for token, _ in generation.sampling.logit_bias:
        if token >= info.n_vocab:
            raise InvalidRequestError(
                f"logit_bias{where}: {token} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
                param="logit_bias",
            )


def _check_tokens(prompt: str | tuple[int, ...], number: int, info: EngineInfo) -> None:
    if not isinstance(prompt, str) and max(prompt) >= info.n_vocab:
        raise InvalidRequestError(
            f"prompt {number}: {max(prompt)} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
            param="prompt",
        )
