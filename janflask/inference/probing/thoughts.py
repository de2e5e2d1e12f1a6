"""How a chat template's model writes its thoughts, found out by rendering answers with and without them.

As llama.cpp's server does: words that occur nowhere else stand for what was thought and what was said, and what the
template puts around them is what the model was trained to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.layout.template_messages import entries
from janflask.inference.layout.template_probe import Forms
from janflask.inference.layout.template_process import TemplateRenderer
from janflask.inference.parts import ToolCallPart
from janflask.inference.probing.calls import ARGUMENTS, IDS, NAMES, SCHEMAS, Shown, call_rules
from janflask.inference.probing.families import completed, with_known_calls
from janflask.inference.probing.texts import prefix
from janflask.inference.requests import ChatMessage
from janflask.parsing.calls import CallRules
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning

ASKED, THOUGHT, SAID = "Qz7asked7zQ", "Qz7thought7zQ", "Qz7said7zQ"
THINKING = {"enable_thinking": True, "thinking": True}  # the two names of the switch
_TAG_ENDS = re.compile(r"[>\]\s]")
_LAST_TAG = re.compile(r"(<[^<>\s]{1,40}>|\[[A-Z_]{1,40}\])\s*$")

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]

Render = Callable[..., str]


def answer_rules(renderer: TemplateRenderer, variables: Mapping[str, Any], forms: Forms) -> AnswerRules:
    """A few small renderings. A template that refuses them all, or has to be killed, is read by its names alone."""

    def render(*messages: ChatMessage, **more: Any) -> str:
        entered = entries(messages, forms)
        context = {**variables, **THINKING, "messages": entered, "add_generation_prompt": False, **more}
        return renderer.render([context])[0].text

    rules = PLAIN
    try:
        rules = completed(_shown(render), renderer.source)
        calls = _calls(render, rules) if forms.calls.calls else None
    except InvalidRequestError:
        return with_known_calls(rules if rules is not PLAIN else completed(PLAIN, renderer.source), renderer.source)
    return with_known_calls(rules if calls is None else replace(rules, calls=calls), renderer.source)


def _calls(render: Render, rules: AnswerRules) -> CallRules | None:
    """How calls are written, if the template shows them in a way that can be read."""
    user = ChatMessage.of("user", ASKED)
    calls = [ToolCallPart(call_id, name, json.dumps(ARGUMENTS)) for call_id, name in zip(IDS, NAMES, strict=True)]
    said = render(user, ChatMessage.of("assistant", SAID), tools=TOOLS)
    one, two = (render(user, ChatMessage(role="assistant", parts=tuple(calls[:n])), tools=TOOLS) for n in (1, 2))
    header, found, turn_end = said.partition(SAID)
    if not found:
        header, turn_end = render(user, tools=TOOLS), ""
    return call_rules(Shown(_behind(header, one, rules), _behind(header, two, rules), turn_end))


def _behind(header: str, text: str, rules: AnswerRules) -> str:
    """What stands behind the assistant's header and thoughts."""
    rest = text[_tag_start(text, len(prefix(header, text))) :]
    for marker in () if rules.reasoning is None else (rules.reasoning.start, rules.reasoning.end):
        rest = rest.strip().removeprefix(marker)
    return rest


def _shown(render: Render) -> AnswerRules:
    """What the renderings show; PLAIN where the thoughts are not in them."""
    user = ChatMessage.of("user", ASKED)
    before, found, rest = render(user, ChatMessage.of("assistant", SAID, reasoning=THOUGHT)).partition(THOUGHT)
    between, said, after = rest.partition(SAID)
    without = render(user, ChatMessage.of("assistant", SAID))
    if not (found and said) or SAID not in without:
        return PLAIN
    opening = _opening(before, without, render(user, add_generation_prompt=True))
    lead = _lead(without[: without.index(SAID)], before.removesuffix(opening), between)
    start, end = opening.strip(), between.strip().removesuffix(lead).strip()
    if not start or not end:
        return PLAIN
    wraps, ends = ((lead,), (after.strip(),)) if lead else ((), ())
    return AnswerRules(Reasoning(start, end, opening, between), wraps, ends)


def _opening(before: str, without: str, asked: str) -> str:
    """What stands before the first thought.

    It begins where the prompt ended; where that opens the block itself, at the tag from which on an answer without
    thoughts goes another way; where there is no such way, it is the last tag.
    """
    if before.startswith(asked) and before[len(asked) :].strip():
        return before[len(asked) :]
    same = _tag_start(before, len(prefix(before, without)))
    if before[same:].strip():
        return before[same:]
    tag = _LAST_TAG.search(before)
    return "" if tag is None else tag.group()


def _tag_start(text: str, place: int) -> int:
    """Where the tag begins that ``place`` is in the middle of; ``place`` itself if it is in none."""
    tag = max(text.rfind("<", 0, place), text.rfind("[", 0, place))
    return tag if tag >= 0 and not _TAG_ENDS.search(text, tag, place) else place


def _lead(without: str, header: str, between: str) -> str:
    """What leads the text of an answer without thoughts, if the same stands behind thoughts, too."""
    lead = without[len(header) :].strip() if without.startswith(header) else ""
    closing = between.strip()
    return lead if closing.endswith(lead) and closing != lead else ""
