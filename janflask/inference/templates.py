"""From messages to the prompt that a model was trained to see.

Which layout is used, in this order:

1. Jan's ``prompt_template`` (``{system_message}``, ``{prompt}``) when the model's settings hold one,
2. the chat template inside the GGUF, a Jinja2 program (rendered in a process of its own, see ``gguf_template``),
3. ChatML, where the model's vocabulary has its words,
4. plain text.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.gguf_template import GgufTemplate
from janflask.inference.requests import ChatMessage, Tool
from janflask.inference.response_template import overruled
from janflask.inference.template_layouts import CHATML_STOPS, PLAIN_STOPS, render_chatml, render_jan, render_plain
from janflask.inference.template_messages import as_given, with_told_tools
from janflask.inference.template_process import refusal
from janflask.models.engine_info import EngineInfo
from janflask.parsing.rules import PLAIN, AnswerRules

MAX_RENDERERS = 4  # processes of one worker: one for each model's template that is in use
RESERVED = frozenset({"messages", "add_generation_prompt", "bos_token", "eos_token"})
HERE = "Qz-go-on-here-zQ"  # stands behind the last message's words while they are laid out, if they are to be gone on


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation laid out as text.

    ``add_special`` is false when the text already starts with the model's BOS token: a second one would confuse it.
    ``stop`` are strings that end a turn in a layout the model's own end-of-turn token may not know.
    """

    text: str
    add_special: bool
    stop: tuple[str, ...] = ()


class ChatTemplates:
    """Lays out conversations. Thread-safe; one renderer process for each Jinja2 template in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._templates: OrderedDict[str, GgufTemplate] = OrderedDict()

    def prompt(
        self,
        messages: Sequence[ChatMessage],
        info: EngineInfo,
        jan_template: str | None,
        variables: Mapping[str, Any] | None = None,
        tools: Sequence[Tool] = (),
        *,
        ask: bool = True,
        go_on: bool = False,
    ) -> Prompt:
        """The prompt that asks for the next assistant message; without ``ask`` only what was said so far.

        (Jan's template cannot say the user's words without asking for an answer.) ``tools`` are told where the layout
        has a place for them, else by the system. With ``go_on`` it ends in the middle of the last message, behind its
        words.

        Raises InvalidRequestError with the template's own words when it refuses the conversation (or fails), or when it
        would leave out what was said, and ConflictError when the model's ``prompt_template`` has no ``{prompt}``.
        """
        for name in RESERVED & set(variables or ()):
            raise InvalidRequestError(
                f"chat_template_kwargs can't set {name}: the server does", param=f"chat_template_kwargs.{name}"
            )
        if go_on:
            ask, messages = False, [*messages[:-1], messages[-1].saying(messages[-1].text + HERE)]
        text, stop = self._laid_out(messages, info, jan_template, variables or {}, tools, ask)
        if go_on:
            text, found, _ = text.rpartition(HERE)
            if not found:
                raise refusal("it leaves out the message that is to be continued")
        return Prompt(text, needs_special(text, info), stop)

    def _laid_out(
        self,
        messages: Sequence[ChatMessage],
        info: EngineInfo,
        jan_template: str | None,
        variables: Mapping[str, Any],
        tools: Sequence[Tool],
        ask: bool,
    ) -> tuple[str, tuple[str, ...]]:
        """The text, and what ends a turn in it."""
        if info.chat_template and not jan_template:
            return self._template(info.chat_template).text(messages, _tokens(info), variables, tools, ask=ask), ()
        if tools or any(message.calls for message in messages):
            messages = with_told_tools(messages, tools)
        given = as_given(messages)
        if jan_template:
            return render_jan(jan_template, given, ask=ask), ()
        if info.knows_chatml:
            return render_chatml(given, ask=ask), CHATML_STOPS
        return render_plain(given, ask=ask), PLAIN_STOPS

    def answer_rules(self, info: EngineInfo, response_template: object = None) -> AnswerRules:
        """How the model's answers are to be read: as its own chat template has them, whatever layout is used.

        What its ``response_template`` says goes over that; raises ConflictError for one that cannot be used.
        """
        rules = self._template(info.chat_template).answer_rules(_tokens(info)) if info.chat_template else PLAIN
        return rules if response_template is None else overruled(rules, response_template)

    def close(self) -> None:
        """Ends the renderer processes."""
        with self._lock:
            templates = list(self._templates.values())
            self._templates.clear()
        for template in templates:
            template.close()

    def _template(self, source: str) -> GgufTemplate:
        with self._lock:
            template = self._templates.get(source) or GgufTemplate(source)
            self._templates[source] = template
            self._templates.move_to_end(source)
            oldest = self._templates.popitem(last=False)[1] if len(self._templates) > MAX_RENDERERS else None
        if oldest is not None:
            oldest.close()
        return template


def _tokens(info: EngineInfo) -> dict[str, str]:
    return {"bos_token": info.bos_token, "eos_token": info.eos_token}


def needs_special(text: str, info: EngineInfo) -> bool:
    """Whether the tokenizer should add its special tokens: not when ``text`` brings the BOS token itself."""
    return not (info.add_bos and info.bos_token and text.startswith(info.bos_token))
