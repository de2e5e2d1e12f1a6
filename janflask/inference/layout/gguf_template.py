"""The chat template inside a GGUF, over any conversation: as it is where the template takes it, else as it needs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.layout.template_check import left_out, marked, unmarked
from janflask.inference.layout.template_messages import Conversation, as_given, entries, shapes, with_told_tools
from janflask.inference.layout.template_probe import Forms, probe
from janflask.inference.layout.template_process import Rendered, TemplateRenderer, refusal
from janflask.inference.probing.thoughts import answer_rules
from janflask.inference.requests import ChatMessage, Tool
from janflask.parsing.rules import AnswerRules


class GgufTemplate:
    """One template and what is known of it. Thread-safe."""

    def __init__(self, source: str) -> None:
        self._renderer = TemplateRenderer(source)
        self._lock = threading.Lock()
        self._forms: Forms | None = None
        self._rules: AnswerRules | None = None

    def text(
        self,
        messages: Sequence[ChatMessage],
        tokens: Mapping[str, str],
        variables: Mapping[str, Any],
        tools: Sequence[Tool] = (),
        *,
        ask: bool,
    ) -> str:
        """The prompt with every word of ``messages`` in it. ``tokens`` are the model's own, by the template's names.

        Raises InvalidRequestError with the template's reason, or naming the message that it would leave out.
        """
        forms = self._known_forms(tokens)
        common = {**variables, **tokens, "add_generation_prompt": ask}
        n_given = len(messages)
        if tools and forms.calls.tools:
            common["tools"] = [tool.as_told() for tool in tools]
        elif tools or (not forms.calls.calls and any(message.calls for message in messages)):
            messages = with_told_tools(messages, tools)
        first: InvalidRequestError | None = None
        before: Conversation | None = None
        # The marked conversation takes the same steps: what a shape is depends on no words.
        for shape, shape_marked in zip(shapes(messages, ask=ask), shapes(marked(messages), ask=ask), strict=True):
            if shape == before:
                continue
            before = shape
            rendered = self._render(common, shape, forms)
            refused = (
                refusal(rendered.error)
                if rendered.error is not None
                else self._lost(rendered.text, messages, common, shape_marked, forms, len(messages) - n_given)
            )
            if refused is None:
                return rendered.text
            first = first or refused
        raise first or refusal("there is nothing to lay out")

    def answer_rules(self, tokens: Mapping[str, str]) -> AnswerRules:
        """How its model's answers are to be read."""
        forms = self._known_forms(tokens)
        with self._lock:
            if self._rules is None:
                self._rules = answer_rules(self._renderer, tokens, forms)
            return self._rules

    def close(self) -> None:
        """Ends the template's process."""
        self._renderer.close()

    def _known_forms(self, tokens: Mapping[str, str]) -> Forms:
        with self._lock:
            if self._forms is None:
                self._forms = probe(self._renderer, {**tokens, "add_generation_prompt": True})
            return self._forms

    def _render(self, common: Mapping[str, Any], conversation: Conversation, forms: Forms) -> Rendered:
        return self._renderer.render([{**common, "messages": entries(conversation, forms)}])[0]

    def _lost(
        self,
        text: str,
        messages: Sequence[ChatMessage],
        common: Mapping[str, Any],
        shape_marked: Conversation,
        forms: Forms,
        n_added: int,
    ) -> InvalidRequestError | None:
        """What to say of the first message that is not in the prompt; ``n_added`` were put in front of those given."""
        number = left_out(text, as_given(messages))
        if number is None:
            number = self._unmarked(messages, common, shape_marked, forms)
        if number is None:
            return None
        role, place = messages[number].role, max(0, number - n_added)
        return InvalidRequestError(
            f"messages.{place}: the model's chat template leaves out what this {role} message says; "
            "give the model a settings.prompt_template, or leave the message out",
            param=f"messages.{place}",
            code="chat_template_error",
        )

    def _unmarked(
        self, messages: Sequence[ChatMessage], common: Mapping[str, Any], shape_marked: Conversation, forms: Forms
    ) -> int | None:
        try:
            rendered = self._render(common, shape_marked, forms)
        except InvalidRequestError:  # it ran too long with them
            return None
        # Where marks alone are refused they tell nothing: the words themselves were all found.
        return None if rendered.error is not None else unmarked(rendered.text, messages, answers=forms.answers)
