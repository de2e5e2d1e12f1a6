"""Calls that are cut: by a limit or a stop string, in their arguments or in the marker behind them."""

from __future__ import annotations

import pytest

from janflask.inference.deltas import Event, Finished
from janflask.inference.local.reading import Reading, begun_words, read
from janflask.ipc.messages.generation import FinishReason
from janflask.parsing.calls import GENERIC, CallRules, Kind
from janflask.parsing.deltas import TextDelta, ToolCallDelta
from janflask.parsing.rules import AnswerRules, Reasoning

SECTION = CallRules(
    Kind.NAMED, section="<calls>", section_end="</calls>", start="<call>", end="</call>", name_end="<args>"
)
TAGGED = CallRules(
    Kind.TAGGED, start="<call name=", name_end=">", key="<arg name=", key_end=">", value_end="</arg>", end="</call>"
)
ARGUMENTS = '{"a": 1}'
CALLS = {
    "JSON": (GENERIC, '<tool_call>\n{"name": "go", "arguments": {"a": 1}}', "\n</tool_call>"),
    "a section": (SECTION, '<calls><call>go<args>{"a": 1}', "</call>\n</calls>"),
    "tags": (TAGGED, "<call name=go><arg name=a>1</arg>", "\n</call>"),
}


def ended(rules: CallRules, text: str, reason: str) -> tuple[str, str, str]:
    """The words beside calls, the arguments of the last call, and why it ended."""
    reading = Reading(AnswerRules(calls=rules), "", tools={"go": {"properties": {"a": {"type": "integer"}}}})
    batches: list[list[Event]] = [[TextDelta(0, text)], [Finished(0, reason)]]
    events = [event for batch in read(batches, reading) for event in batch]
    words = "".join(event.text for event in events if isinstance(event, TextDelta))
    arguments = "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))
    (end,) = (event.reason for event in events if isinstance(event, Finished))
    return words, arguments, end


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.STOP])
def test_half_the_marker_behind_a_call_is_no_text(case: str, reason: FinishReason) -> None:
    rules, call, end = CALLS[case]
    for size in range(len(end) + 1):
        words, arguments, why = ended(rules, call + end[:size], reason)
        assert (words, arguments) == ("", ARGUMENTS), end[:size]
        assert why == (FinishReason.TOOL_CALLS if reason == FinishReason.STOP else reason), end[:size]


def test_what_is_no_marker_behind_a_call_is_text() -> None:
    _, call, _ = CALLS["JSON"]
    assert ended(GENERIC, f"{call} </b>", FinishReason.STOP)[0] == "</b>"


@pytest.mark.parametrize("cut", ['{"a', '{"a": 1', ""])
def test_a_call_that_a_stop_string_has_cut_is_not_one_to_carry_out(cut: str) -> None:
    text = '<tool_call>\n{"name": "go", "arguments": '
    assert ended(GENERIC, text + (cut or "{"), FinishReason.STOP)[2] == FinishReason.STOP
    assert ended(GENERIC, text + "{}", FinishReason.STOP)[1:] == ("{}", FinishReason.STOP)
    assert ended(GENERIC, text + "{}}", FinishReason.STOP)[1:] == ("{}", FinishReason.TOOL_CALLS)


def test_what_was_begun_is_checked_without_its_thoughts() -> None:
    rules = AnswerRules(Reasoning("<think>", "</think>"))
    assert begun_words(Reading(rules, "", '<think>Hm</think>\n{"a":')) == '{"a":'
    assert begun_words(Reading(rules, "a<think>", 'Hm</think>{"a":')) == '{"a":'
    assert begun_words(Reading(rules, "", "<think>Hm")) == ""
    assert begun_words(Reading(rules.for_calls, "", "<think>Hm")) == "<think>Hm"


def test_a_call_between_tags_that_is_cut_in_an_argument() -> None:
    for cut in ("<call name=go><arg name=a>1</ar", "<call name=go><arg name=a>1", "<call name=go><arg name=a"):
        assert ended(TAGGED, cut, FinishReason.STOP)[2] == FinishReason.STOP
