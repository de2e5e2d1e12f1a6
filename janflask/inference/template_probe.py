"""Which form of a message a chat template reads, found out by rendering small conversations with it.

A message's ``content`` is a text for most templates and a list of parts for some, or for the messages of one role only;
given the other form, many render without an error and without the words. What an assistant thought before it answered
has several names. As other engines do, we put a word that occurs nowhere else where we want to know, and look for it in
what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.template_process import TemplateRenderer

BLOCK = "thinking block"  # what was thought is a part of the content: {"type": "thinking", "thinking": ...}
REASONING = ("reasoning_content", "reasoning", "thinking")  # a message's field for it, the usual one first
ROLES = ("user", "system", "assistant", "tool")
NEEDLE = "Qz7needle7zQ"
LIST_AS_TEXT = re.compile(rf"""["'](?:text|thinking)["']:\s*["']{NEEDLE}""")  # it printed the list, and read no part

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forms:
    """What a template reads: the roles whose content has to be a list of parts, and where an answer's reasoning is.

    ``answers`` is false if it shows nothing that the assistant said: some models only translate or judge.
    """

    parts: frozenset[str] = frozenset()
    reasoning: str = REASONING[0]
    answers: bool = True


def text_parts(text: str) -> list[Message]:
    """A text as OpenAI's list of parts."""
    return [{"type": "text", "text": text}]


def probe(renderer: TemplateRenderer, variables: Mapping[str, Any]) -> Forms:
    """Some thirty small renderings in three frames. A template that has to be killed for them is taken as the usual."""
    try:
        parts, answers = _contents(renderer, variables)
        return Forms(parts, _reasoning(renderer, variables, parts), answers)
    except InvalidRequestError:
        return Forms()


def _contents(renderer: TemplateRenderer, variables: Mapping[str, Any]) -> tuple[frozenset[str], bool]:
    """The roles that need parts, and whether the assistant's words are shown."""
    questions = {
        (role, in_parts, user_in_parts): _conversation(role, in_parts, user_in_parts)
        for user_in_parts in (False, True)
        for role in ROLES
        for in_parts in (False, True)
    }
    shown = _shown(renderer, variables, questions)
    user_in_parts = ("user", False, False) not in shown and ("user", True, True) in shown
    by_form = {
        in_parts: {role for role in ROLES if (role, in_parts, user_in_parts) in shown} for in_parts in (False, True)
    }
    return frozenset(by_form[True] - by_form[False]), "assistant" in by_form[False] | by_form[True]


def _conversation(role: str, in_parts: bool, user_in_parts: bool) -> list[Message]:
    asked = {"role": role, "content": text_parts(NEEDLE) if in_parts else NEEDLE}
    user = {"role": "user", "content": text_parts("Hi") if user_in_parts else "Hi"}
    conversations: dict[str, list[Message]] = {
        "user": [asked],
        "system": [asked, user],
        "assistant": [user, asked, user],
        "tool": [user, {"role": "assistant", "content": "Yes"}, asked | {"tool_call_id": "call00001"}],
    }
    return conversations[role]


def _reasoning(renderer: TemplateRenderer, variables: Mapping[str, Any], parts: frozenset[str]) -> str:
    """Where a template looks for it; it may show it in the newest answer only, or not when the next is asked for."""
    user = {"role": "user", "content": text_parts("Hi") if "user" in parts else "Hi"}
    questions: dict[tuple[str, str], list[Message]] = {}
    for name in (*REASONING, BLOCK):
        answer: Message = {"role": "assistant", "content": text_parts("Yes") if "assistant" in parts else "Yes"}
        if name == BLOCK:
            answer["content"] = [{"type": "thinking", "thinking": NEEDLE}, *text_parts("Yes")]
        else:
            answer[name] = NEEDLE
        questions |= {(name, "last"): [user, answer], (name, "earlier"): [user, answer, user]}
    shown = _shown(renderer, variables, questions)
    shown |= _shown(renderer, {**variables, "add_generation_prompt": False}, questions)
    names = [name for name in (*REASONING, BLOCK) if {(name, "last"), (name, "earlier")} & shown]
    return names[0] if names else REASONING[0]


def _shown(
    renderer: TemplateRenderer, variables: Mapping[str, Any], questions: Mapping[Any, list[Message]]
) -> set[Any]:
    """The questions whose needle came out."""
    answers = renderer.render([{**variables, "messages": messages} for messages in questions.values()])
    return {
        question
        for question, answer in zip(questions, answers, strict=True)
        if NEEDLE in answer.text and not LIST_AS_TEXT.search(answer.text)
    }
