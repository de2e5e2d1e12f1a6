"""Requests as the bodies that an upstream understands: nothing that was asked for is left out in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from janflask.errors import ConflictError, InvalidRequestError, JanflaskError
from janflask.inference.forms.constrained import FormKind
from janflask.inference.requests import (
    CallChoice,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    InferenceRequest,
    TemplateRequest,
)
from janflask.inference.sampling import (
    chosen_sampling,
    model_cache_prompt,
    model_max_tokens,
    model_stop,
    template_kwargs,
    thought_tokens,
)
from janflask.inference.upstream.forms import Spelling
from janflask.inference.upstream.kinds import (
    OPENAI_SAMPLING,
    THOUGHT_LIMIT,
    TRAITS,
    Continues,
    Traits,
    Unsplit,
    asks_nothing,
)
from janflask.inference.upstream.messages import begun_with, openai_messages
from janflask.inference.upstream.tools import NotKnownError, told_tools, tool_fields
from janflask.models.card import ModelCard
from janflask.models.catalog import MODEL_FILE
from janflask.models.parameters import NO_LIMIT
from janflask.models.upstream import Upstream

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for the legacy completions; not every server has it
EFFORT = "reasoning_effort"

encode = msgspec.json.Encoder().encode


class Bodies:
    """Makes the bodies for one model.

    Raises InvalidRequestError for what a request asks for and this kind of server does not know, ConflictError where
    the model's own ``parameters`` do, and for an unusable ``model.json``.
    """

    def __init__(self, card: ModelCard, upstream: Upstream) -> None:
        self._card = card
        self._upstream = upstream
        self._traits: Traits = TRAITS[upstream.kind]

    def chat(self, request: ChatRequest) -> bytes:
        """The body of POST /chat/completions."""
        most = model_max_tokens(self._card) if request.max_tokens is None else request.max_tokens
        body = {
            **self._common(request, most),
            **self.conversation(request),
            **self._tools(request),
            **self._form(request, self._traits.forms),
            **self._thoughts(request),
        }
        top = request.sampling.get("top_logprobs")
        if top is not None:
            body |= {"logprobs": True, "top_logprobs": top}
        return encode({**body, **self._prediction(request, body)})

    def completion(self, request: CompletionRequest, prompt: str | tuple[int, ...]) -> bytes:
        """The body of POST /completions for one of the prompts."""
        if not isinstance(prompt, str) and not self._traits.token_prompts:
            raise self._unknown("prompt", "token ids as a prompt: send text", "prompt")
        most = COMPLETION_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        body = {**self._common(request, most), **self._form(request, self._traits.text_forms), "prompt": prompt}
        if "top_logprobs" in request.sampling:
            body["logprobs"] = request.sampling["top_logprobs"]
        if request.backend_echoes(prompt):
            if not self._traits.echo:
                raise self._unknown("echo", "`echo` with log-probabilities or token ids", "echo")
            body["echo"] = True
        return encode(body)

    def conversation(self, request: ChatRequest | TemplateRequest) -> dict[str, Any]:
        """The fields that say what a prompt is laid out from; the answer goes on behind what was begun."""
        messages, continued = request.messages, request.continue_final_message
        if isinstance(request, ChatRequest) and request.begun:
            self._check_begun(request)
            messages = begun_with(messages, request.begun, request.begun_reasoning, in_last=continued)
            continued = True
        ask = request.add_generation_prompt and not continued
        return {
            "messages": openai_messages(messages, self._traits),
            **told_tools(request.tools),
            **self._ending(messages, ask, continued),
            **self._template_fields(request.template_kwargs),
        }

    def _tools(self, request: ChatRequest) -> dict[str, Any]:
        try:
            return tool_fields(request, self._traits)
        except NotKnownError as error:
            raise self._unknown(error.param, error.what, error.param) from None

    def _form(self, request: InferenceRequest, forms: Mapping[FormKind, Spelling]) -> dict[str, Any]:
        """What an answer must look like; one that is nothing but calls has words of its own nowhere."""
        if request.constraint is None:
            return {}
        name = request.constraint.constraint.name.split(".")[0]
        if isinstance(request, ChatRequest) and request.tools:
            if request.call_choice is CallChoice.REQUIRED:
                return {}
            if not self._traits.form_or_call:
                raise self._unknown(name, "a form for the answer beside tools: send one of them", name)
        form = request.constraint.form
        if form.kind not in forms:
            raise self._unknown(name, form.kind.value, name)
        return forms[form.kind](form)

    def _prediction(self, request: ChatRequest, body: Mapping[str, Any]) -> dict[str, Any]:
        """Only where it is taken: without it the answer takes longer, and says the same."""
        refused = self._traits.beside_prediction
        if not request.prediction or refused is None or any(body.get(name) for name in refused):
            return {}
        return {"prediction": {"type": "content", "content": request.prediction}}

    def _thoughts(self, request: ChatRequest) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if not request.splits_reasoning and self._traits.unsplit is not Unsplit.ALWAYS:
            if self._traits.unsplit is Unsplit.NO:
                what = "thoughts that are left in the text (`reasoning_format` none)"
                raise self._unknown("reasoning_format", what, "reasoning_format")
            fields["reasoning_format"] = "none"
        most = thought_tokens(self._card, request.thought_tokens)
        if most is not None:
            if self._traits.thought_limit is None:
                asked = request.thought_tokens is not None
                raise self._unknown(THOUGHT_LIMIT, "a limit for thoughts", THOUGHT_LIMIT, asked=asked)
            fields[self._traits.thought_limit] = most
        return fields

    def _common(self, request: InferenceRequest, max_tokens: int | None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._upstream.model, "stream": True}
        if self._traits.stream_usage:
            body["stream_options"] = {"include_usage": True}
        if request.n > 1:
            if not self._traits.many:
                raise self._unknown("n", "more than one answer at once: set `n` to 1", "n")
            body["n"] = request.n
        if max_tokens is not None and max_tokens != NO_LIMIT:
            body["max_tokens"] = max_tokens
        stop = model_stop(self._card) if request.stop is None else request.stop
        if stop:
            body["stop"] = stop
        return {**body, **self._sampling(request), **self._cache_prompt(request)}

    def _sampling(self, request: InferenceRequest) -> dict[str, Any]:
        values = chosen_sampling(self._card, request.sampling)
        out: dict[str, Any] = {}
        for name, value in values.items():
            if name == "top_logprobs":
                continue
            theirs = name if name in OPENAI_SAMPLING else self._traits.samplers.get(name)
            if theirs is not None:
                out[theirs] = value
            elif not asks_nothing(name, values):
                raise self._unknown(name, f"`{name}`", name, asked=name in request.sampling)
        if out.get("top_k", 1) <= 0:
            out["top_k"] = self._traits.top_k_off
        if out.get("seed", 0) is None:  # any
            del out["seed"]
        elif "seed" in out:
            out["seed"] %= self._traits.most_seed + 1
        if "logit_bias" in out and not self._traits.bias_pairs:
            out["logit_bias"] = {str(token): bias for token, bias in out["logit_bias"]}
        return out

    def _cache_prompt(self, request: InferenceRequest) -> dict[str, Any]:
        asked = request.cache_prompt
        value = model_cache_prompt(self._card) if asked is None else asked
        if value:
            return {}
        if not self._traits.cache_prompt:
            raise self._unknown("cache_prompt", "`cache_prompt` false", "cache_prompt", asked=asked is not None)
        return {"cache_prompt": False}

    def _template_fields(self, requested: Mapping[str, Any]) -> dict[str, Any]:
        values = template_kwargs(self._card, requested)
        if not values:
            return {}
        effort = {name: value for name, value in values.items() if name == EFFORT}
        if self._traits.template_fields:
            return {"chat_template_kwargs": values, **(effort if self._traits.effort_field else {})}
        if self._traits.effort_field:
            if values == {"enable_thinking": False}:
                return {EFFORT: "none"}
            if values == effort:
                return effort
        name = next(name for name in values if name != EFFORT or not self._traits.effort_field)
        told = name if name in (EFFORT, "enable_thinking") else "chat_template_kwargs"
        raise self._unknown(told, f"`{name}` for its chat template", told, asked=name in requested)

    def _ending(self, messages: tuple[ChatMessage, ...], ask: bool, continued: bool) -> dict[str, Any]:
        """The fields that say where the answer begins."""
        way = self._traits.continues
        if continued:
            if way is Continues.NO:
                raise self._unknown("continue_final_message", "that an answer is continued", "continue_final_message")
            return {"add_generation_prompt": False, "continue_final_message": True} if way is Continues.BY_FLAG else {}
        if way is Continues.ALWAYS and messages and messages[-1].role == "assistant":
            raise InvalidRequestError(
                "messages: this model's server always continues an assistant's message that comes last: set "
                "continue_final_message, or add a user's message",
                param="messages",
            )
        if ask:
            return {}
        if not self._traits.template_fields:
            raise self._unknown("add_generation_prompt", "`add_generation_prompt` false", "add_generation_prompt")
        return {"add_generation_prompt": False}

    def _check_begun(self, request: ChatRequest) -> None:
        if request.constraint is not None:
            raise InvalidRequestError(
                f"an answer that has a form cannot be continued by {self._server()}: it would begin the form anew",
                param="messages",
            )
        if self._traits.continues is Continues.NO:
            raise InvalidRequestError(
                f"an answer that was begun cannot be continued: {self._server()} does not know how", param="messages"
            )
        if not request.add_generation_prompt and not request.continue_final_message:
            raise InvalidRequestError(
                f"an answer that was begun without add_generation_prompt cannot be continued by {self._server()}",
                param="add_generation_prompt",
            )

    def _server(self) -> str:
        return f"the server that runs {self._card.id} (kind {self._upstream.kind})"

    def _unknown(self, name: str, what: str, param: str, *, asked: bool = True) -> JanflaskError:
        if asked:
            return InvalidRequestError(f"{name} is not supported: {self._server()} does not know {what}", param=param)
        return ConflictError(
            f"parameters.{name} in {MODEL_FILE} of {self._card.id} is not supported: {self._server()} does not know "
            f"{what}. Correct the file",
            param="model",
        )
