"""Calls without their markers, as small models write them: an answer that begins with a tool's name is one."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.inference.deltas import Delta, TextDelta, ToolCallDelta
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC
from janflask.parsing.rules import AnswerRules, Reasoning

RULES = AnswerRules(Reasoning("<think>", "</think>", "<think>\n", "\n</think>\n\n"), calls=GENERIC)
TOOLS: dict[str, dict[str, Any]] = {"look": {}, "go": {}}
CALL = '{"name": "look", "arguments": {"city": "Paris"}}'
SECOND = '{"name": "go", "arguments": {}}'


def parsed(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    """What was said, and the calls."""
    parser = AnswerParser(RULES, tools=TOOLS)
    parser.begin("")
    deltas: list[Delta] = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            name, arguments = calls.setdefault(delta.call, ["", ""])
            calls[delta.call] = [name or delta.name or "", arguments + delta.arguments]
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    return text, [(name, arguments) for name, arguments in calls.values()]


LOOKED = ("look", '{"city": "Paris"}')


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (CALL, "", [LOOKED]),
        (f"\n{CALL}\n{SECOND}", "", [LOOKED, ("go", "{}")]),
        (f"<think>\nHm\n</think>\n\n{CALL}", "", [LOOKED]),
        (f"<tool_call>\n{CALL}\n</tool_call>", "", [LOOKED]),
        (f"I call {CALL}", f"I call {CALL}", []),  # it speaks of one
        (f"```json\n{CALL}\n```", f"```json\n{CALL}\n```", []),
        (CALL.replace("look", "cook"), CALL.replace("look", "cook"), []),
        ('{"city": "Paris", "name": "look"}', '{"city": "Paris", "name": "look"}', []),  # an answer that is JSON
        ('{"name": "look", "arguments": "[1]"}', '{"name": "look", "arguments": "[1]"}', []),  # no object: no call
        ('{"name": "look", "arguments": "{\\"a\\": 1}"}', "", [("look", '{"a": 1}')]),
        ("{x", "{x", []),
        ("{", "{", []),
    ],
)
def test_wherever_it_is_cut(answer: str, text: str, calls: list[tuple[str, str]]) -> None:
    assert parsed(answer) == (text, calls)
    assert parsed(*answer) == (text, calls)


def test_arguments_nested_without_an_end_are_no_object() -> None:
    deep = '{"name": "look", "arguments": "' + "[" * 100_000 + '"}'
    assert parsed(deep) == (deep, [])


def test_an_answer_that_is_json_is_not_held_back_for_long() -> None:
    parser = AnswerParser(RULES, tools=TOOLS)
    parser.begin("")
    assert parser.feed('{"city"') == []
    assert parser.feed(": ") == [TextDelta(0, "{"), TextDelta(0, '"city":')]
