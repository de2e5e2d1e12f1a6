"""Which form of a message a chat template reads, found out by rendering small conversations with it.

A message's ``content`` is a text for most templates and a list of parts for some, or for the messages of one role only;
given the other form, many render without an error and without the words. What an assistant thought before it answered
has several names. As other engines do, we put a word that occurs nowhere else where we want to know, and look for it in
what comes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from janflask.errors import InvalidRequestError
from janflask.inference.layout.template_process import TemplateRenderer

BLOCK = "thinking block"  # what was thought is a part of the content: {"type": "thinking", "thinking": ...}
REASONING = ("reasoning_content", "reasoning", "thinking")  # a message's field for it, the usual one first
ROLES = ("user", "system", "assistant", "tool")
CALL_IDS = ("call_0123456789abcdef", "call00001")
NEEDLE = "Qz7needle7zQ"
LIST_AS_TEXT = re.compile(rf"""["'](?:text|thinking)["']:\s*["']{NEEDLE}""")  # it printed the list, and read no part

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallForms:
    """How a template reads tools and calls of them: whether it shows the tools, and the calls.

    ``as_text``: a call's arguments are a string, and no object. ``null_content``: beside calls, no words are null.
    ``short_ids``: ids have nine letters and digits, as Mistral's have.
    """

    tools: bool = False
    calls: bool = False
    as_text: bool = False
    null_content: bool = False
    short_ids: bool = False


@dataclass(frozen=True, slots=True)
class Forms:
    """What a template reads: the roles whose content has to be a list of parts, and where an answer's reasoning is.

    ``answers`` is false if it shows nothing that the assistant said: some models only translate or judge.
    """

    parts: frozenset[str] = frozenset()
    reasoning: str = REASONING[0]
    answers: bool = True
    calls: CallForms = CallForms()


def text_parts(text: str) -> list[Message]:
    """A text as OpenAI's list of parts."""
    return [{"type": "text", "text": text}]


def probe(renderer: TemplateRenderer, variables: Mapping[str, Any]) -> Forms:
    """Some forty small renderings in five frames. A template that has to be killed for them is taken as the usual."""
    try:
        parts, answers = _contents(renderer, variables)
        forms = Forms(parts, _reasoning(renderer, variables, parts), answers)
    except InvalidRequestError:
        return Forms()
    try:
        return replace(forms, calls=_calls(renderer, variables, parts))
    except InvalidRequestError:
        return forms


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


def _calls(renderer: TemplateRenderer, variables: Mapping[str, Any], parts: frozenset[str]) -> CallForms:
    """Objects and an empty text are asked for first: that is what most templates read."""
    user = {"role": "user", "content": text_parts("Hi") if "user" in parts else "Hi"}
    tools = bool(_shown(renderer, {**variables, "tools": [_tool(NEEDLE)]}, {"tools": [user]}))
    questions = {
        (as_text, null, call_id): [user, _caller(as_text, null, call_id)]
        for as_text in (False, True)
        for null in (False, True)
        for call_id in CALL_IDS
    }
    shown = _shown(renderer, {**variables, "tools": [_tool("Asks.")], "add_generation_prompt": False}, questions)
    for as_text, null, call_id in questions:
        if (as_text, null, call_id) in shown:
            short = (as_text, null, CALL_IDS[0]) not in shown
            return CallForms(tools, True, as_text, null, short)
    return CallForms(tools)


def _tool(description: str) -> Message:
    properties = {"words": {"type": "string", "description": "What to ask."}}
    parameters = {"type": "object", "properties": properties, "required": ["words"]}
    return {"type": "function", "function": {"name": "ask", "description": description, "parameters": parameters}}


def _caller(as_text: bool, null: bool, call_id: str) -> Message:
    arguments = {"words": NEEDLE}
    function = {"name": "ask", "arguments": json.dumps(arguments) if as_text else arguments}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return {"role": "assistant", "content": None if null else "", "tool_calls": calls}


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
