"""What an engine has to see in a chat's answers: calls that begin, thoughts that are over, what holds from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from janflask.inference.calls.grammar import of_calls
from janflask.inference.forms.lark import json_within
from janflask.inference.local.reading import Reading
from janflask.inference.requests import CallChoice, ChatRequest
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.generation import Watch
from janflask.parsing.lark import expression, json_options
from janflask.parsing.markers import TAG
from janflask.parsing.rules import AnswerRules

PROMPT_END = 200  # characters of a prompt that tell whether it opens thoughts
_HEAD = "%llguidance {}\n"
_START = "start:"


def watch_of(rules: AnswerRules, request: ChatRequest, reading: Reading, variables: Mapping[str, Any]) -> Watch | None:
    """None: there is nothing to be seen.

    ``rules`` are the model's, whatever of them ``reading`` has; ``variables`` those of its template. Raises
    InvalidRequestError for a tool whose schema no call can be held to.
    """
    rules_held = replace(reading.rules, wraps=()) if reading.rules.opens_words(reading.prompt) else reading.rules
    calls, answer = _constraints(request, rules_held)
    limit = request.thought_tokens if rules.reasoning is not None else None
    if calls is None and answer is None and limit is None:
        return None
    return Watch(
        rules=reading.rules if limit is None else rules,
        prompt_end=reading.prompt[-PROMPT_END:],
        begun=reading.begun,
        tools=tuple(tool.name for tool in request.callables),
        calls=calls,
        answer=answer,
        may_think=_may_think(reading, variables),
        thought_tokens=limit,
    )


def _may_think(reading: Reading, variables: Mapping[str, Any]) -> bool:
    """Not where the template was told so, nor where the prompt ends with thoughts that are over."""
    reasoning = reading.rules.reasoning
    if reasoning is None or False in (variables.get("enable_thinking"), variables.get("thinking")):
        return False
    prompt = reading.prompt.rstrip()
    if not prompt.endswith(reasoning.end):
        return True
    # Some models end their thoughts with the header of another message, which every prompt ends with.
    is_empty = prompt.removesuffix(reasoning.end).rstrip().endswith(reasoning.start)
    return not (is_empty or TAG.fullmatch(reasoning.end))


def _constraints(request: ChatRequest, rules: AnswerRules) -> tuple[Constraint | None, Constraint | None]:
    """What holds from a call's beginning on, and what holds from the answer's."""
    form = None if request.constraint is None else request.constraint.constraint
    if not request.callables:
        return None, form if form is None or not rules.wraps else _either(None, form, rules)
    is_free = request.call_choice is CallChoice.AUTO and form is None
    parallel = request.parallel_calls
    calls = of_calls(rules.calls, request.callables, parallel=parallel, place=request.tools_field, or_bare=is_free)
    if is_free:
        return calls, None
    return None, calls if request.call_choice is CallChoice.REQUIRED or form is None else _either(calls, form, rules)


def _either(calls: Constraint | None, form: Constraint, rules: AnswerRules) -> Constraint:
    """What the model says in its own words, led as its layout has it where it likes, or calls."""
    markers = () if calls is None else calls.markers
    lead = ""
    if rules.wraps:
        markers = tuple(dict.fromkeys((*markers, rules.wraps[0])))
        lead = f'(" "? marker_{markers.index(rules.wraps[0])})? '
    text = f"{_HEAD}{_START} {lead}form{'' if calls is None else ' | calls'}\nform: {_within(form)}\n"
    text += "" if calls is None else _renamed(calls.text)
    return Constraint(kind=ConstraintKind.GRAMMAR, text=text, name=form.name, markers=markers)


def _within(form: Constraint) -> str:
    """A form as a part of a grammar."""
    if form.kind is ConstraintKind.REGEX:
        return expression(form.text) if form.text else '""'
    if form.kind is ConstraintKind.GRAMMAR:
        return _nested(form.text)
    return json_within(json.loads(form.text), json_options(form.text, form.whitespace))


def _nested(text: str) -> str:
    """A grammar whose rules are its own."""
    return f"%lark {{\n{text}\n}}"


def _renamed(calls: str) -> str:
    """The rules for calls, to be begun with by ``calls``."""
    return calls.removeprefix(_HEAD).replace(_START, "calls:", 1)
