"""Texts to tokens and back, and conversations to prompts, by the model's own vocabulary and template."""

from __future__ import annotations

from janflask.errors import InvalidRequestError, JanflaskError
from janflask.inference.requests import DetokenizeRequest, LaidOut, TemplateRequest, TokenizeRequest
from janflask.inference.sampling import template_kwargs
from janflask.inference.templates import ChatTemplates
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import engine_text, engine_tokens
from janflask.ipc.messages.engine import MAX_TEXT, Tokenize, Tokens
from janflask.services.engine_access import EngineAccess
from janflask.services.models import Endpoint, ModelService
from janflask.settings import Settings


class TokenService:
    """Asks engines for tokens; a model that is not running is started. Thread-safe.

    Every method raises ModelNotFoundError, ConflictError, what the start of a model fails with, EngineCrashedError,
    TimeoutExceededError and ClientDisconnectedError. ``tries`` are those of the request that a question is a step of.
    """

    def __init__(self, settings: Settings, models: ModelService, templates: ChatTemplates) -> None:
        self._settings = settings
        self._models = models
        self._templates = templates
        self._engines = EngineAccess(settings, models)

    def tokenize(self, request: TokenizeRequest, waiter: Waiter, tries: Tries | None = None) -> Tokens:
        """The tokens of a text. Raises InvalidRequestError when it cannot be tokenized."""
        question = Tokenize(request.content, request.add_special, request.parse_special, request.with_pieces)
        return self._engines.ask(
            request.model, waiter, lambda endpoint: self._tokens(endpoint, question, "content"), tries
        )

    def detokenize(self, request: DetokenizeRequest, waiter: Waiter) -> str:
        """The text of tokens. Raises InvalidRequestError for an id that is not in the vocabulary."""

        def ask(endpoint: Endpoint) -> str:
            return engine_text(endpoint.socket, request.tokens, self._settings.request_timeout)

        return self._engines.ask(request.model, waiter, ask)

    def apply_template(self, request: TemplateRequest, waiter: Waiter, tries: Tries | None = None) -> LaidOut:
        """The prompt that a chat of these messages has, with exactly its tokens.

        Raises InvalidRequestError when the template refuses the messages, ConflictError for an unusable ``model.json``.
        """
        card = self._models.card(request.model)
        jan_template = card.settings.get("prompt_template")
        further = template_kwargs(card, request.template_kwargs)

        def ask(endpoint: Endpoint) -> LaidOut:
            prompt = self._templates.prompt(
                request.messages,
                endpoint.info,
                jan_template if isinstance(jan_template, str) else None,
                further,
                ask=request.add_generation_prompt,
                go_on=request.continue_final_message,
            )
            if not request.tokenize:
                return LaidOut(prompt.text, prompt.stop)
            question = Tokenize(prompt.text, prompt.add_special, parse_special=True)
            return LaidOut(prompt.text, prompt.stop, tuple(self._tokens(endpoint, question, "messages").ids))

        return self._engines.ask(request.model, waiter, ask, tries)

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
