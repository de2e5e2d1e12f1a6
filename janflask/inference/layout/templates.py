"""From messages to the prompt that a model was trained to see.

Which layout is used, in this order:

1. Jan's ``prompt_template`` (``{system_message}``, ``{prompt}``) when the model's settings hold one,
2. the chat template inside the GGUF, a Jinja2 program (rendered in a process of its own, see ``gguf_template``),
3. ChatML, where the model's vocabulary has its words,
4. plain text.

In each of them what comes from outside stays text, whatever it looks like (``words/``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from janflask.errors import InvalidRequestError
from janflask.inference.layout.gguf_template import GgufTemplate
from janflask.inference.layout.template_layouts import (
    CHATML_STOPS,
    PLAIN_STOPS,
    render_chatml,
    render_jan,
    render_plain,
    told_result,
    told_tools,
)
from janflask.inference.layout.template_messages import as_given, with_told_tools
from janflask.inference.layout.template_process import refusal
from janflask.inference.probing.response_template import overruled
from janflask.inference.requests import ChatMessage, Segment, Tool
from janflask.inference.words.plain import laid_out
from janflask.inference.words.special import NO_SPECIALS, NO_WORDS, SpecialWords, special_words
from janflask.inference.words.told import Told
from janflask.ipc.messages.engine import Specials
from janflask.models.engine_info import EngineInfo
from janflask.parsing.rules import PLAIN, AnswerRules

MAX_RENDERERS = 4  # processes of one worker: one for each model's template that is in use
RESERVED = frozenset({"messages", "add_generation_prompt", "bos_token", "eos_token"})
HERE = "Qz-go-on-here-zQ"  # stands behind the last message's words while they are laid out, if they are to be gone on


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation laid out as text.

    ``add_special`` is false when the text already starts with the model's BOS token: a second one would confuse it.
    ``stop`` are strings that end a turn in a layout the model's own end-of-turn token may not know. ``cuts`` are places
    in the text over which no token may stretch: there a word from outside looks like a special token.
    """

    text: str
    add_special: bool
    stop: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    words: SpecialWords = field(default=NO_WORDS, repr=False, compare=False)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its special tokens, and the plain text between them."""
        return tuple(self.words.segments(self.text, self.cuts))


class Render(Protocol):
    """Lays out messages in words alone."""

    def __call__(self, messages: Sequence[ChatMessage], *, ask: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class _Layout:
    """How what was told becomes text (with or without asking for an answer), and what ends a turn in it."""

    text: Callable[[Told, bool], str]
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
        specials: Specials = NO_SPECIALS,
        response_template: object = None,
    ) -> Prompt:
        """The prompt that asks for the next assistant message; without ``ask`` only what was said so far.

        (Jan's template cannot say the user's words without asking for an answer.) ``tools`` are told where the layout
        has a place for them, else by the system. With ``go_on`` it ends in the middle of the last message, behind its
        words. ``specials`` are those of the model's vocabulary; for ``response_template`` see ``answer_rules``.

        Raises InvalidRequestError with the template's own words when it refuses the conversation (or fails), or when it
        would leave out what was said, and ConflictError when the model's ``prompt_template`` has no ``{prompt}``.
        """
        for name in RESERVED & set(variables or ()):
            raise InvalidRequestError(
                f"chat_template_kwargs can't set {name}: the server does", param=f"chat_template_kwargs.{name}"
            )
        layout = self._layout(info, jan_template)

        def lay_out(told: Told) -> str:
            return _begun(told, layout.text) if go_on else layout.text(told, ask)

        source = jan_template or info.chat_template or ""
        words = special_words(specials, source, self._markers(info, response_template))
        text, cuts = laid_out(Told(messages, tools, variables or {}), words, source, lay_out)
        return Prompt(text, needs_special(text, info, cuts), layout.stop, cuts, words)

    def _layout(self, info: EngineInfo, jan_template: str | None) -> _Layout:
        if jan_template:
            return _Layout(_in_words(partial(render_jan, jan_template)))
        if info.chat_template:
            template, tokens = self._template(info.chat_template), _tokens(info)
            return _Layout(lambda told, ask: template.text(told.messages, tokens, told.variables, told.tools, ask=ask))
        if info.knows_chatml:
            return _Layout(_in_words(render_chatml), CHATML_STOPS)
        return _Layout(_in_words(render_plain), PLAIN_STOPS)

    def _markers(self, info: EngineInfo, response_template: object) -> str:
        """What is looked for in answers, and what tools are told with: markers, though no template shows them."""
        rules = self.answer_rules(info, response_template)
        return "\n".join((*rules.markers, *rules.calls.markers, told_tools(()), told_result("")))

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


def _in_words(render: Render) -> Callable[[Told, bool], str]:
    """A layout that has no place for tools."""

    def text(told: Told, ask: bool) -> str:
        messages = told.messages
        if told.tools or any(message.calls for message in messages):
            messages = with_told_tools(messages, told.tools)
        return render(as_given(messages), ask=ask)

    return text


def _begun(told: Told, lay_out: Callable[[Told, bool], str]) -> str:
    """Up to the last message's last word."""
    *before, last = told.messages
    text, found, _ = lay_out(replace(told, messages=[*before, last.saying(last.text + HERE)]), False).rpartition(HERE)
    if not found:
        raise refusal("it leaves out the message that is to be continued")
    return text


def needs_special(text: str, info: EngineInfo, cuts: Sequence[int] = ()) -> bool:
    """Whether the tokenizer should add its special tokens: not when ``text`` brings the BOS token itself."""
    bos = info.bos_token
    return not (info.add_bos and bos and text.startswith(bos) and not any(cut < len(bos) for cut in cuts[:1]))
