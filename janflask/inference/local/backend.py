"""``LocalBackend``: a model that this server runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from janflask.access.caller import working_for
from janflask.errors import EngineCrashedError, InvalidRequestError, JanflaskError
from janflask.inference.backend import BackendInfo, Counted, Embedded
from janflask.inference.calls.checked import calls_checked
from janflask.inference.deltas import Events
from janflask.inference.forms.constrained import checked
from janflask.inference.layout.templates import ChatTemplates, Prompt
from janflask.inference.local.embedding import embed
from janflask.inference.local.engines import Endpoint, Engines
from janflask.inference.local.generate import asked
from janflask.inference.local.generation import Generations
from janflask.inference.local.reading import Reading, begun_words, read
from janflask.inference.local.watching import watch_of
from janflask.inference.probing.response_template import NAME as RESPONSE_TEMPLATE
from janflask.inference.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    LaidOut,
    TemplateRequest,
    TokenizeRequest,
)
from janflask.inference.sampling import template_kwargs, thought_tokens
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import engine_text, engine_tokens
from janflask.ipc.messages.engine import MAX_TEXT, Tokenize, Tokens
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.card import ModelCard
from janflask.parsing.rules import PLAIN, AnswerRules
from janflask.settings import Settings

Prepare = Callable[[Endpoint], tuple[list[GenerateRequest], Reading]]


class LocalBackend:
    """See ``Backend``. Its engine is found, or started, at each call: making one costs nothing."""

    def __init__(self, settings: Settings, card: ModelCard, engines: Engines, templates: ChatTemplates) -> None:
        self._settings = settings
        self._card = card
        self._engines = engines
        self._templates = templates

    def info(self, waiter: Waiter, overrides: Mapping[str, Any] | None = None) -> BackendInfo:
        """See ``Backend``."""
        return BackendInfo(self._engines.find(self._card.id, waiter, overrides=overrides).info.ctx_len)

    # --- answers ------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest, waiter: Waiter, beat: float, tries: Tries | None = None) -> Events:
        """See ``Backend``; when the model has to be loaded first, an empty list comes at once."""
        request = replace(request, thought_tokens=thought_tokens(self._card, request.thought_tokens))
        ask = asked(self._card, request)
        further = template_kwargs(self._card, request.template_kwargs)

        readings: list[Reading] = []

        def prepare(endpoint: Endpoint) -> tuple[list[GenerateRequest], Reading]:
            rules = self._templates.answer_rules(endpoint.info, self._response_template)
            read_by = rules if request.splits_reasoning else rules.for_calls
            laid_out = request.laid_out
            if laid_out is not None and laid_out.tokens is not None:
                generation = ask.chat_tokens(laid_out.tokens, laid_out.stop)
                reading = _reading(read_by, request, laid_out.prompt)
            else:
                prompt = self._prompt(request, further, endpoint)
                reading = _reading(read_by, request, prompt.text)
                generation = ask.chat(prompt, "" if request.continue_final_message else reading.begun)
            markers = read_by.markers + (rules.calls.markers if request.tools else ())
            watch = watch_of(rules, request, reading, further)
            readings.append(reading)
            return [replace(generation, markers=markers, watch=watch)], reading

        events = self._events(prepare, waiter, beat, tries or Tries())
        events = checked(events, request.constraint, lambda: begun_words(readings[-1]))
        yield from calls_checked(events, request.tools, request.tools_field)

    def complete(self, request: CompletionRequest, waiter: Waiter, beat: float) -> Events:
        """See ``Backend``, and ``chat``."""
        ask = asked(self._card, request)
        reading = Reading(PLAIN, "")
        events = self._events(
            lambda endpoint: (ask.completions(request, endpoint.info), reading), waiter, beat, Tries()
        )
        yield from checked(events, request.constraint)

    def _events(self, prepare: Prepare, waiter: Waiter, beat: float, tries: Tries) -> Events:
        heard = anew = False
        while True:
            try:
                with closing(self._attempt(prepare, waiter, beat, anew)) as events:
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

    def _attempt(self, prepare: Prepare, waiter: Waiter, beat: float, anew: bool) -> Events:
        search = self._engines.finding(self._card.id, waiter, beat, anew=anew)
        while True:
            try:
                next(search)
            except StopIteration as found:
                endpoint: Endpoint = found.value
                break
            yield []
        requests, reading = prepare(endpoint)
        generations = Generations(endpoint.socket, [replace(each, owner=self._owner) for each in requests], waiter)
        with closing(generations.events(beat, self._settings.request_timeout)) as events:
            yield from read(events, reading)

    @property
    def _owner(self) -> str | None:
        """With whose requests the work at hand shares what an engine has computed."""
        return None if self._settings.share_prefixes else working_for.get()

    def embed(self, request: EmbeddingRequest, waiter: Waiter) -> Embedded:
        """See ``Backend``."""
        limit = self._settings.request_timeout
        return self._engines.ask(self._card.id, waiter, lambda endpoint: embed(endpoint, request, waiter, limit))

    # --- prompts and tokens -------------------------------------------------------------------------------------

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Tokens:
        """See ``Backend``."""
        question = Tokenize(request.content, request.add_special, request.parse_special, request.with_pieces)
        return self._engines.ask(
            self._card.id, waiter, lambda endpoint: self._tokens(endpoint, question, "content"), tries
        )

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        """See ``Backend``. Raises InvalidRequestError for an id that is not in the vocabulary."""

        def ask(endpoint: Endpoint) -> str:
            return engine_text(endpoint.socket, request.tokens, self._settings.request_timeout)

        return self._engines.ask(self._card.id, waiter, ask)

    def lay_out(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None = None) -> LaidOut:
        """See ``Backend``. Raises InvalidRequestError when the template refuses the messages."""
        further = template_kwargs(self._card, request.template_kwargs)

        def ask(endpoint: Endpoint) -> LaidOut:
            prompt = self._prompt(request, further, endpoint)
            segments = prompt.segments if request.with_segments or prompt.cuts else ()
            laid_out = LaidOut(prompt.text, prompt.stop, segments=segments)
            if not request.tokenize:
                return laid_out
            question = Tokenize(prompt.text, prompt.add_special, parse_special=True, cuts=prompt.cuts)
            return replace(laid_out, tokens=tuple(self._tokens(endpoint, question, "messages").ids))

        return self._engines.ask(self._card.id, waiter, ask, tries)

    def count(self, request: TemplateRequest | TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Counted:
        """See ``Backend``."""
        if isinstance(request, TokenizeRequest):
            return Counted(len(self.tokenize(request, waiter, tries).ids))
        laid_out = self.lay_out(request, waiter, tries)
        return Counted(len(laid_out.tokens or ()), laid_out)

    def _prompt(self, request: ChatRequest | TemplateRequest, further: Mapping[str, Any], endpoint: Endpoint) -> Prompt:
        jan_template = self._card.settings.get("prompt_template")
        return self._templates.prompt(
            request.messages,
            endpoint.info,
            jan_template if isinstance(jan_template, str) else None,
            further,
            [tool for tool in request.tools if tool.leading],
            ask=request.add_generation_prompt,
            go_on=request.continue_final_message,
            specials=self._engines.specials(endpoint),
            response_template=self._response_template,
        )

    @property
    def _response_template(self) -> object:
        return self._card.raw.get(RESPONSE_TEMPLATE)

    def _tokens(self, endpoint: Endpoint, question: Tokenize, param: str) -> Tokens:
        if len(question.text) > MAX_TEXT:
            raise InvalidRequestError(
                f"{param}: {len(question.text)} characters are too many to tokenize at once, the most is {MAX_TEXT}",
                param=param,
            )
        try:
            return engine_tokens(endpoint.socket, question, self._settings.request_timeout)
        except JanflaskError as error:
            if error.status == InvalidRequestError.status:
                error.param = param
            raise


def _reading(rules: AnswerRules, request: ChatRequest, prompt: str) -> Reading:
    """The beginning of the answer is what was said already, or the last message, which the prompt ends with."""
    tools = {tool.name: tool.parameters for tool in request.callables}
    bare = request.constraint is None  # else JSON is the answer, whatever it is like
    if request.continue_final_message:
        last = request.messages[-1].text
        return Reading(rules, prompt.removesuffix(last), last, tools, request.parallel_calls, bare)
    begun = rules.written(prompt, request.begun_reasoning, request.begun)
    return Reading(rules, prompt, begun, tools, request.parallel_calls, bare)
