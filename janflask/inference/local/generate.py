"""What an engine is asked: a request with the model's own parameters behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from janflask.errors import InvalidRequestError
from janflask.inference.layout.templates import Prompt, needs_special
from janflask.inference.requests import COMPLETION_MAX_TOKENS, ChatRequest, CompletionRequest, InferenceRequest
from janflask.inference.sampling import model_cache_prompt, model_max_tokens, model_stop, sampling_params
from janflask.ipc.messages.constraint import Constraint
from janflask.ipc.messages.engine import MAX_TEXT
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.card import ModelCard
from janflask.models.catalog import MODEL_FILE
from janflask.models.engine_info import EngineInfo
from janflask.models.parameters import NO_LIMIT

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """All of a request but its prompts, which are known once it is known which engine runs them."""

    template: GenerateRequest

    def chat(self, prompt: Prompt, begun: str) -> GenerateRequest:
        """For a conversation that was laid out; the answer goes on behind ``begun``."""
        return replace(self._of(prompt.text + begun, prompt.stop, prompt.add_special), cuts=prompt.cuts)

    def chat_tokens(self, tokens: Tokens, stop: tuple[str, ...]) -> GenerateRequest:
        """For one that was cut into tokens, too; ``stop`` ends a turn in its layout."""
        return self._of(tokens, stop, add_special=False)

    def completions(self, request: CompletionRequest, info: EngineInfo) -> list[GenerateRequest]:
        """For each prompt. Raises InvalidRequestError for token ids that the model does not have."""
        for number, prompt in enumerate(request.prompts):
            _check_tokens(prompt, number, info)
        return [
            replace(
                self._of(prompt, (), add_special=isinstance(prompt, str) and needs_special(prompt, info)),
                echo=request.backend_echoes(prompt),
            )
            for prompt in request.prompts
        ]

    def _of(self, prompt: str | Tokens, stop: tuple[str, ...], add_special: bool) -> GenerateRequest:
        stops = tuple(dict.fromkeys(self.template.stop + stop))
        return replace(self.template, prompt=prompt, stop=stops, add_special=add_special)


def asked(card: ModelCard, request: ChatRequest | CompletionRequest) -> Asked:
    """Raises ConflictError for an unusable ``model.json``."""
    max_tokens = _max_tokens(card, request)
    template = GenerateRequest(
        prompt="",
        n=request.n,
        max_tokens=None if max_tokens == NO_LIMIT else max_tokens,
        stop=model_stop(card) if request.stop is None else request.stop,
        sampling=sampling_params(card, request.sampling),
        cache_prompt=model_cache_prompt(card) if request.cache_prompt is None else request.cache_prompt,
        conversation=request.conversation if isinstance(request, ChatRequest) else None,
        keep_state=isinstance(request, ChatRequest) and request.keep_state,  # who completes a text seldom comes back
        prompt_name="messages" if isinstance(request, ChatRequest) else "prompt",
        constraint=_constraint(request),
        prediction=request.prediction[:MAX_TEXT] if isinstance(request, ChatRequest) else "",
        bias_name="logit_bias" if "logit_bias" in request.sampling else f"logit_bias in {MODEL_FILE} of {card.id}",
    )
    return Asked(template)


def _constraint(request: ChatRequest | CompletionRequest) -> Constraint | None:
    """What holds from the first token on; that of a chat's answer holds behind its thoughts."""
    if isinstance(request, ChatRequest) or request.constraint is None:
        return None
    return request.constraint.constraint


def _max_tokens(card: ModelCard, request: InferenceRequest) -> int | None:
    if request.max_tokens is not None:
        return request.max_tokens
    return model_max_tokens(card) if isinstance(request, ChatRequest) else COMPLETION_MAX_TOKENS


def _check_tokens(prompt: str | Tokens, number: int, info: EngineInfo) -> None:
    """The engine checks every prompt; of many it would get to the last ones only after it has answered the first."""
    if not isinstance(prompt, str) and max(prompt) >= info.n_vocab:
        raise InvalidRequestError(
            f"prompt {number}: {max(prompt)} is no token of this model, its ids go from 0 to {info.n_vocab - 1}",
            param="prompt",
        )
