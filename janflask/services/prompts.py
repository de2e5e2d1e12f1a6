"""What the model is shown of a run's thread, or of a conversation that is answered without being stored."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from janflask.errors import ConflictError, ContextLengthExceededError, InvalidRequestError, TemplateGivenUpError
from janflask.inference import leftovers
from janflask.inference.backend import BackendInfo, Counted
from janflask.inference.backends import Backends
from janflask.inference.calls.functions import tools_of
from janflask.inference.forms.answer_forms import constraint_of
from janflask.inference.requests import CallChoice, ChatMessage, ChatRequest, TemplateRequest, TokenizeRequest, Tool
from janflask.inference.sampling import model_max_tokens
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.inference.window import Window, conversation, fitting
from janflask.ipc.messages.engine import MAX_TEXT
from janflask.models.parameters import NO_LIMIT, thought_tokens
from janflask.models.sampling import SamplingParams
from janflask.services.inherited import run_parameters
from janflask.services.models import ModelService
from janflask.services.turns import chat
from janflask.storage.records import Message, Run

LEAST_ROOM = 512  # tokens that are left for an answer of any length, or a quarter of the context if that is less
_TOO_LONG = (
    "Not even the instructions and the newest message fit with room for an answer: shorten them, or start the model "
    "with a larger ctx_len"
)
_ALL_TOO_LONG = "Shorten the input, let the oldest turns be left out, or start the model with a larger ctx_len"
UNKNOWN = sys.maxsize  # tokens of a context that nobody can tell: whoever answers says when it is full
_SAMPLING = frozenset(item.name for item in fields(SamplingParams))


@dataclass(frozen=True, slots=True)
class Begun:
    """What an answer that is gone on with had said, and thought before that."""

    text: str = ""
    reasoning: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning)


class PromptTooLongError(ContextLengthExceededError):
    """The run's own ``max_prompt_tokens`` is too little for the newest turn."""


@dataclass(frozen=True, slots=True)
class RunPrompt:
    """``request`` is to be sent; its ``max_tokens`` may be 0: nothing is left to say.

    ``said_tokens`` of what the engine calls the prompt are what the run itself has said so far, ``thought_tokens`` of
    them what was thought before it. ``context_tokens`` are all that the model has, None: nobody can tell.
    """

    request: ChatRequest
    left_out: tuple[str, ...]
    said_tokens: int
    thought_tokens: int
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class _Space:
    """Tokens: the whole context, the most that the answer may have, what it has said, and what was there before it."""

    context: int
    most: int | None
    said: int
    before: int

    @property
    def free(self) -> int:
        """What prompt and answer share."""
        return self.context - self.before

    def exceeded(self, prompt: int, advice: str, param: str) -> ContextLengthExceededError:
        """That they do not fit."""
        return ContextLengthExceededError.of(prompt + self.said + self.before, self.context, advice, param=param)


class Prompts:
    """Makes the prompts of one run, whose ``tries`` they share."""

    def __init__(self, backends: Backends, models: ModelService, tries: Tries) -> None:
        self._tries = tries
        self._backends = backends
        self._models = models

    def of(self, run: Run, messages: Sequence[Message], begun: Begun, waiter: Waiter) -> RunPrompt:
        """Of ``messages`` as many as fit; the answer goes on behind ``begun``.

        What was laid out and cut into tokens to see whether it fits goes to the engine as it is, not once more.

        Raises PromptTooLongError, ContextLengthExceededError, InvalidRequestError when there is nothing to answer or
        something in them that the model could not be shown, or something that the run takes over cannot be used, and
        what a backend does.
        """
        given = run_parameters(run)
        most = _most(run, given)
        if most is None:
            most = model_max_tokens(self._models.card(run.model))
        limit = None if most == NO_LIMIT else most
        texts = conversation(messages)
        if not texts and not run.instructions:
            raise InvalidRequestError("the thread has no message that could be answered: add one", param="thread_id")
        # First of all that asks the model: one that does not run is started with the run's settings.
        info = self._backends.of(run.model).info(waiter, overrides=run.settings)
        _check_continues(run, begun, info)
        thought, said = self._lengths(run, begun, waiter)
        thought_before, said_before = self._lengths(run, _before(run, begun), waiter)
        thought, said = max(0, thought - thought_before), max(0, said - said_before)
        space = _Space(info.ctx_len or UNKNOWN, limit, said, said_before)
        choose = self._window if run.truncates else self._whole
        window, counted = choose(run, texts, space, waiter)
        found = leftovers.of_messages(window.shown, {}, without_tools=run.tool_choice == leftovers.NO_TOOLS)
        leftovers.refuse(found, param="messages")
        out = set(window.left_out)
        left_out = tuple(message.id for message in messages if message.is_error or message.id in out)
        rest = most
        if limit is not None:  # some upstreams refuse more than fits, rather than stop there
            rest = max(0, min(limit, space.free - (counted.tokens if counted else 0)) - said)
        request = _request(run, given, chat(run, window.shown), begun, rest)
        if not begun and counted is not None:
            request = replace(request, laid_out=counted.laid_out)
        return RunPrompt(request, left_out, said, thought, info.ctx_len or None)

    def _whole(
        self, run: Run, texts: Sequence[Message], space: _Space, waiter: Waiter
    ) -> tuple[Window, Counted | None]:
        """All of ``texts``. Raises ContextLengthExceededError when they leave no room for a token."""
        turns = chat(run, texts)
        if is_too_long(turns):
            raise ContextLengthExceededError(
                f"prompt is too long: {sum(len(turn.text) for turn in turns)} characters > {MAX_TEXT} maximum. "
                "Shorten the input, or let the oldest turns be left out",
                param="input",
            )
        counted = self._lay_out(run, turns, waiter)
        if counted.tokens + space.said >= space.free:
            raise space.exceeded(counted.tokens, _ALL_TOO_LONG, param="input")
        return Window(tuple(texts)), counted

    def _window(
        self, run: Run, texts: Sequence[Message], space: _Space, waiter: Waiter
    ) -> tuple[Window, Counted | None]:
        """What of ``texts`` is shown, and its prompt unless that is too long to be laid out."""
        tried: dict[int, Counted] = {}  # by how many messages, always the newest ones
        room = min(space.most, space.free // 2) if space.most else min(LEAST_ROOM, space.free // 4)
        limit = space.free - max(room, space.said + 1)

        def fits(within: int, part: Sequence[Message]) -> bool:
            turns = chat(run, part)
            if is_too_long(turns):
                return False
            try:
                tried[len(part)] = self._lay_out(run, turns, waiter)
            except TemplateGivenUpError:  # the work of some grows with the square of the conversation
                return False
            return tried[len(part)].tokens <= within

        shown = None if run.max_prompt_tokens is None else run.max_prompt_tokens - space.before
        budget = limit if shown is None else min(limit, shown)
        try:
            window = fitting(texts, lambda part: fits(budget, part), run.last_messages)
            return window, tried.get(len(window.shown))
        except ContextLengthExceededError as error:
            if shown is not None and shown <= limit:
                raise PromptTooLongError(
                    f"the instructions and the newest message are more than max_prompt_tokens, {run.max_prompt_tokens}"
                ) from error
        # A short answer to the newest turn is better than none.
        newest = fitting(texts, lambda part: True, most=1)
        counted = tried.get(len(newest.shown))
        length = self._length(run, chat(run, newest.shown), waiter) if counted is None else counted.tokens
        if length + space.said >= space.free:
            raise space.exceeded(length, _TOO_LONG, param="messages")
        return newest, counted

    def _length(self, run: Run, turns: tuple[ChatMessage, ...], waiter: Waiter) -> int:
        """Tokens of the prompt; of its words alone, counted in parts, where these are too many to be laid out."""
        if is_too_long(turns):
            return sum(self._count(run, part, waiter) for turn in turns for part in pieces(turn.text))
        return self._lay_out(run, turns, waiter).tokens

    def _lengths(self, run: Run, begun: Begun, waiter: Waiter) -> tuple[int, int]:
        """Tokens of what was thought, and of all that was said with it."""
        thought = self._count(run, begun.reasoning, waiter)
        return thought, thought + self._count(run, begun.text, waiter)

    def _lay_out(self, run: Run, turns: tuple[ChatMessage, ...], waiter: Waiter) -> Counted:
        kwargs = run_parameters(run)["chat_template_kwargs"]
        request = TemplateRequest(
            model=run.model, messages=turns, template_kwargs=kwargs, tools=_tools(run), tokenize=True
        )
        return self._backends.of(run.model).count(request, waiter, self._tries)

    def _count(self, run: Run, text: str, waiter: Waiter) -> int:
        if not text:
            return 0
        request = TokenizeRequest(model=run.model, content=text, parse_special=False)
        return self._backends.of(run.model).count(request, waiter, self._tries).tokens


def _check_continues(run: Run, begun: Begun, info: BackendInfo) -> None:
    """Raises ConflictError for a model that would begin anew."""
    if begun.text and not info.continues:
        raise ConflictError(f"what runs {run.model} cannot continue an answer that was begun: make another run")
    if run.begins_with is not None and begun and not begun.text and not info.continues_thoughts:
        raise ConflictError(f"what runs {run.model} cannot continue thoughts: make another run")


def _before(run: Run, begun: Begun) -> Begun:
    """What of it the run did not say itself: it is a part of the prompt."""
    last = run.begins_with
    return Begun() if last is None else Begun(begun.text[: last.text], begun.reasoning[: last.reasoning])


def is_too_long(turns: Sequence[ChatMessage]) -> bool:
    """Whether they are more than can be laid out."""
    return sum(len(turn.text) for turn in turns) > MAX_TEXT


def uncounted(run: Run, messages: Sequence[Message]) -> ChatRequest:
    """All of ``messages``, whether they fit or not: whoever answers says so.

    Raises InvalidRequestError as ``Prompts.of`` does.
    """
    given = run_parameters(run)
    texts = conversation(messages)
    if not texts and not run.instructions:
        raise InvalidRequestError("there is nothing that could be answered: send input or instructions", param="input")
    found = leftovers.of_messages(texts, {}, without_tools=run.tool_choice == leftovers.NO_TOOLS)
    leftovers.refuse(found, param="input")
    return _request(run, given, chat(run, texts), Begun(), _most(run, given))


def pieces(text: str, most: int = MAX_TEXT) -> list[str]:
    """Of at most so many characters, by default what an engine takes at once."""
    return [text[start : start + most] for start in range(0, len(text), most)]


def _most(run: Run, given: Mapping[str, Any]) -> int | None:
    """Tokens that the answer may have; what the run itself says is the most for all of its rounds."""
    if run.max_completion_tokens is None:
        return given.get("max_tokens")
    return max(0, run.max_completion_tokens - sum(past.completion_tokens for past in run.rounds))


def _tools(run: Run) -> tuple[Tool, ...]:
    """Those that the model is shown."""
    return () if run.tool_choice == leftovers.NO_TOOLS else tools_of(run.tools, "tools")


def _calls(run: Run) -> dict[str, Any]:
    """What is asked for of calls; what has to be called is called in the first round."""
    plan, is_first = run.calls, not run.rounds
    names = plan.names if is_first or not plan.is_one else None
    return {
        "call_choice": CallChoice.REQUIRED if plan.required and is_first else CallChoice.AUTO,
        "callable_tools": None if names is None else frozenset(names),
        "parallel_calls": run.parallel_tool_calls and not (plan.is_one and is_first),
    }


def _sampling(run: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    sampling = {name: value for name, value in given.items() if name in _SAMPLING}
    return sampling if run.top_logprobs is None else {**sampling, "top_logprobs": run.top_logprobs}


def _request(
    run: Run, given: Mapping[str, Any], turns: tuple[ChatMessage, ...], begun: Begun, max_tokens: int | None
) -> ChatRequest:
    return ChatRequest(
        model=run.model,
        messages=turns,
        tools=_tools(run),
        **_calls(run),
        constraint=constraint_of({**run.form, "response_format": run.response_format}),
        stream=True,
        max_tokens=max_tokens,
        stop=given.get("stop"),
        sampling=_sampling(run, given),
        cache_prompt=given.get("cache_prompt"),
        template_kwargs=given["chat_template_kwargs"],
        thought_tokens=thought_tokens(given),
        begun=begun.text,
        begun_reasoning=begun.reasoning,
        conversation=run.thread_id,
    )
