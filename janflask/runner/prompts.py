"""What the model is shown of a run's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from janflask.errors import ContextLengthExceededError, InvalidRequestError, UnavailableError
from janflask.ipc.protocol import MAX_TEXT
from janflask.parameters import NO_LIMIT
from janflask.records import Message, Run
from janflask.services.container import Services
from janflask.services.history import Window, fitting
from janflask.services.inherited import run_parameters
from janflask.services.sampling import model_max_tokens
from janflask.services.waiting import Waiter
from janflask.types import ChatMessage, ChatRequest, SamplingParams, TemplateRequest, TokenizeRequest

LEAST_ROOM = 512  # tokens that are left for an answer of any length, or a quarter of the context if that is less
BEAT = 5.0  # seconds between two looks at a model that starts
_SAMPLING = frozenset(item.name for item in fields(SamplingParams))


class PromptTooLongError(ContextLengthExceededError):
    """The run's own ``max_prompt_tokens`` is too little for the newest turn."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """``request`` is to be sent; its ``max_tokens`` may be 0: nothing is left to say.

    ``said_tokens`` of what the engine calls the prompt are the beginning of the answer.
    """

    request: ChatRequest
    left_out: tuple[str, ...]
    said_tokens: int


class Prompts:
    """Makes prompts of runs. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._models = services.models
        self._tokens = services.tokens

    def of(self, run: Run, messages: Sequence[Message], begun: str, waiter: Waiter) -> Prompt:
        """Of ``messages`` as many as fit; the answer goes on behind ``begun``.

        Raises PromptTooLongError, ContextLengthExceededError, InvalidRequestError when there is nothing to answer or
        something that the run takes over cannot be used, and what TokenService raises.
        """
        given = run_parameters(run)
        said = self._count(run, begun, waiter)
        most = run.max_completion_tokens or given.get("max_tokens")
        if most is None:
            most = model_max_tokens(self._models.card(run.model))
        limit = None if most == NO_LIMIT else most
        window = self._window(run, messages, limit, said, waiter)
        shown = _chat(run, window.shown)
        if not shown:
            raise InvalidRequestError("the thread has no message that could be answered: add one", param="thread_id")
        rest = most if limit is None else max(0, limit - said)
        return Prompt(_request(run, given, shown, begun, rest), window.left_out, said)

    def _window(self, run: Run, messages: Sequence[Message], most: int | None, said: int, waiter: Waiter) -> Window:
        texts = [message for message in messages if message.text or message.role != "assistant"]
        if not texts and not run.instructions:
            return Window(())
        context = self._context(run, waiter)
        room = min(most, context // 2) if most else min(LEAST_ROOM, context // 4)
        limit = context - max(room, said + 1)

        def fits(within: int, part: Sequence[Message]) -> bool:
            chat = _chat(run, part)
            if sum(len(message.content) for message in chat) > MAX_TEXT:
                return False
            return self._length(run, chat, waiter) <= within

        budget = limit if run.max_prompt_tokens is None else min(limit, run.max_prompt_tokens)
        try:
            return fitting(texts, lambda part: fits(budget, part), run.last_messages)
        except ContextLengthExceededError as error:
            if run.max_prompt_tokens is not None and run.max_prompt_tokens <= limit:
                raise PromptTooLongError(
                    f"the instructions and the newest message are more than max_prompt_tokens, {run.max_prompt_tokens}"
                ) from error
        # A short answer to the newest turn is better than none.
        budget = context - said - 1
        return fitting(texts, lambda part: fits(budget, part), most=1)

    def _context(self, run: Run, waiter: Waiter) -> int:
        """The model's context in tokens; a model that does not run is started with the run's settings."""
        endpoint = self._models.endpoint(run.model)
        if endpoint is None:
            self._models.may_start(run.model)
            for state in self._models.starting(run.model, waiter, BEAT, run.settings):
                endpoint = None if state is None else self._models.remember(state)
        if endpoint is None:
            raise UnavailableError(f"{run.model} started and is gone again; try once more", retry_after=1)
        return endpoint.info.ctx_len

    def _length(self, run: Run, chat: tuple[ChatMessage, ...], waiter: Waiter) -> int:
        kwargs = run_parameters(run)["chat_template_kwargs"]
        request = TemplateRequest(model=run.model, messages=chat, template_kwargs=kwargs, tokenize=True)
        return len(self._tokens.apply_template(request, waiter).tokens or ())

    def _count(self, run: Run, text: str, waiter: Waiter) -> int:
        if not text:
            return 0
        request = TokenizeRequest(model=run.model, content=text, parse_special=False)
        return len(self._tokens.tokenize(request, waiter).ids)


def _chat(run: Run, messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The instructions lead."""
    leading = (ChatMessage(role="system", content=run.instructions),) if run.instructions else ()
    return (*leading, *[ChatMessage(role=message.role, content=message.text) for message in messages])


def _request(
    run: Run, given: Mapping[str, Any], chat: tuple[ChatMessage, ...], begun: str, max_tokens: int | None
) -> ChatRequest:
    return ChatRequest(
        model=run.model,
        messages=chat,
        stream=True,
        max_tokens=max_tokens,
        stop=given.get("stop"),
        sampling={name: value for name, value in given.items() if name in _SAMPLING},
        cache_prompt=given.get("cache_prompt"),
        template_kwargs=given["chat_template_kwargs"],
        begun=begun,
        conversation=run.thread_id,
    )
