"""One chat or completion request, from its model to its events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace

from janflask.errors import EngineCrashedError, InvalidRequestError, JanflaskError, UnavailableError
from janflask.services.generation import Event, Generations
from janflask.services.models import Endpoint, ModelService
from janflask.services.sampling import model_max_tokens, model_stop, sampling_params
from janflask.services.templates import ChatTemplates, needs_special
from janflask.services.waiting import Waiter
from janflask.settings import Settings
from janflask.types import ChatRequest, CompletionRequest, EngineInfo, GenerateRequest, InferenceRequest, ModelCard

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for the legacy completions
ATTEMPTS = 5  # to hand a request over to an engine that has just died and is being started again
PAUSE = 0.1  # seconds between them: as long as the supervisor may take to notice


@dataclass(frozen=True, slots=True)
class Job:
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

    def chat(self, request: ChatRequest) -> Job:
        """Raises ModelNotFoundError, and ConflictError for an unusable ``model.json``."""
        card = self._models.card(request.model)
        generate = _common(card, request, model_max_tokens(card))

        def prepare(info: EngineInfo) -> list[GenerateRequest]:
            jan_template = card.settings.get("prompt_template")
            prompt = self._templates.prompt(
                request.messages,
                info,
                jan_template if isinstance(jan_template, str) else None,
                request.template_kwargs,
            )
            _check_bias(request, info)
            return [generate(prompt.text + request.begun, prompt.add_special, prompt.stop)]

        return Job(card.id, prepare, "messages")

    def completion(self, request: CompletionRequest) -> Job:
        """Raises ModelNotFoundError, and ConflictError for an unusable ``model.json``."""
        card = self._models.card(request.model)
        generate = _common(card, request, COMPLETION_MAX_TOKENS)

        def prepare(info: EngineInfo) -> list[GenerateRequest]:
            _check_bias(request, info)
            for number, prompt in enumerate(request.prompts):
                _check_tokens(prompt, number, info)
            asked = [
                generate(prompt, isinstance(prompt, str) and needs_special(prompt, info), ())
                for prompt in request.prompts
            ]
            return [replace(each, echo=engine_echoes(request, each.prompt)) for each in asked]

        return Job(card.id, prepare, "prompt")

    def events(self, job: Job, waiter: Waiter, beat: float) -> Generator[list[Event], None, None]:
        """The job's events as they come; an empty list after each ``beat`` seconds of silence.

        Nothing happens before the first ``next``. What can be refused without loading a model is raised by it, before
        any event; when the model has to be loaded first, it gives an empty list at once. Closing the generator cancels.

        Raises everything the engine, the supervisor and the template can, and ClientDisconnectedError.
        """
        try:
            for attempt in range(ATTEMPTS):
                heard = False
                try:
                    with closing(self._attempt(job, waiter, beat, again=attempt > 0)) as events:
                        for batch in events:
                            heard = heard or bool(batch)
                            yield batch
                    return
                except EngineCrashedError:
                    # Before its first word a request can be asked again without harm: what was remembered of the engine
                    # is out of date, it is gone or about to come back.
                    if heard or attempt == ATTEMPTS - 1:
                        raise
                waiter.wait(PAUSE)
        except JanflaskError as error:
            if error.param == "prompt":
                error.param = job.prompt_field
            raise

    def _attempt(self, job: Job, waiter: Waiter, beat: float, *, again: bool) -> Generator[list[Event], None, None]:
        endpoint = None if again else self._models.endpoint(job.model_id)
        if endpoint is None:
            endpoint = yield from self._load(job.model_id, waiter, beat)
        generations = Generations(endpoint.socket, job.prepare(endpoint.info), waiter)
        yield from generations.events(beat, self._settings.request_timeout)

    def _load(self, model_id: str, waiter: Waiter, beat: float) -> Generator[list[Event], None, Endpoint]:
        self._models.forget(model_id)
        self._models.may_start(model_id)
        yield []
        for state in self._models.starting(model_id, waiter, beat):
            endpoint = None if state is None else self._models.remember(state)
            if endpoint is not None:
                return endpoint
            yield []
        raise UnavailableError(f"{model_id} started and is gone again; try once more", retry_after=1)


def engine_echoes(request: CompletionRequest, prompt: str | tuple[int, ...]) -> bool:
    """Whether an echoed prompt comes from the engine: one that is token ids, or has log-probabilities."""
    return request.echo and (not isinstance(prompt, str) or "top_logprobs" in request.sampling)


def _common(
    card: ModelCard, request: InferenceRequest, default_max_tokens: int | None
) -> Callable[[str | tuple[int, ...], bool, tuple[str, ...]], GenerateRequest]:
    sampling = sampling_params(card, request.sampling)
    stop = model_stop(card) if request.stop is None else request.stop
    max_tokens = default_max_tokens if request.max_tokens is None else request.max_tokens

    def generate(prompt: str | tuple[int, ...], add_special: bool, further_stop: tuple[str, ...]) -> GenerateRequest:
        return GenerateRequest(
            prompt=prompt,
            n=request.n,
            max_tokens=max_tokens,
            stop=tuple(dict.fromkeys(stop + further_stop)),
            sampling=sampling,
            add_special=add_special,
            parse_special=True,
            cache_prompt=request.cache_prompt,
            conversation=request.conversation if isinstance(request, ChatRequest) else None,
        )

    return generate


def _check_bias(request: InferenceRequest, info: EngineInfo) -> None:
    for token, _ in request.sampling.get("logit_bias", ()):
        if token >= info.n_vocab:
            raise InvalidRequestError(
                f"logit_bias: {token} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
                param="logit_bias",
            )


def _check_tokens(prompt: str | tuple[int, ...], number: int, info: EngineInfo) -> None:
    if not isinstance(prompt, str) and max(prompt) >= info.n_vocab:
        raise InvalidRequestError(
            f"prompt {number}: {max(prompt)} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
            param="prompt",
        )
