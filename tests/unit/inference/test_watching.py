"""What an engine is asked to see in a chat's answers."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.calls.grammar import of_calls
from janflask.inference.deltas import Finished, RefusalDelta, TextDelta
from janflask.inference.forms.constrained import (
    Constrained,
    checked,
    of_any_object,
    of_choice,
    of_grammar,
    of_regex,
    of_schema,
)
from janflask.inference.local.reading import Reading
from janflask.inference.local.watching import PROMPT_END, watch_of
from janflask.inference.requests import CallChoice, ChatMessage, ChatRequest, Tool
from janflask.ipc.frames import FrameReader, encode
from janflask.ipc.messages.engine import Generate
from janflask.ipc.messages.generation import FinishReason, GenerateRequest, Watch
from janflask.parsing.calls import CallRules, Kind
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning
from tests.fakes.walks import Vocabulary

TOOLS = (Tool("f"), Tool("g"))
FORM = of_schema({"type": "object", "properties": {"a": {"type": "integer"}}}, "response_format")
THINKS = AnswerRules(Reasoning("<think>", "</think>"))


def watched(
    rules: AnswerRules = PLAIN, prompt: str = "", begun: str = "", variables: Any = None, **fields: Any
) -> Watch:
    found = asked(rules, prompt, begun, variables, **fields)
    assert found is not None
    return found


def asked(
    rules: AnswerRules = PLAIN, prompt: str = "", begun: str = "", variables: Any = None, **fields: Any
) -> Watch | None:
    request = ChatRequest(model="m", messages=(ChatMessage.of("user", "Hi"),), **fields)
    return watch_of(rules, request, Reading(rules, prompt, begun), variables or {})


def test_most_chats_have_nothing_to_see() -> None:
    assert asked() is None
    assert asked(THINKS) is None
    assert asked(thought_tokens=9) is None, "the model does not think"


def test_calls_that_may_come_and_those_that_must() -> None:
    free = watched(tools=TOOLS)
    assert (free.tools, free.answer) == (("f", "g"), None)
    assert free.calls == of_calls(PLAIN.calls, TOOLS, parallel=True, or_bare=True)
    forced = watched(
        tools=TOOLS, call_choice=CallChoice.REQUIRED, callable_tools=frozenset({"g"}), parallel_calls=False
    )
    assert (forced.tools, forced.calls) == (("g",), None)
    assert forced.answer == of_calls(PLAIN.calls, TOOLS[1:], parallel=False)


def test_a_form_is_held_to_as_it_stands_where_nothing_else_may_come() -> None:
    assert watched(THINKS, constraint=FORM).answer == FORM.constraint
    lead = watched(AnswerRules(wraps=("<response>",)), constraint=FORM).answer
    assert lead is not None
    assert lead.markers == ("<response>",)
    assert 'start: (" "? marker_0)? form\n' in lead.text


def test_a_prompt_that_leads_the_answer_itself_is_not_led_again() -> None:
    assert watched(AnswerRules(wraps=("<response>",)), "<response>\n", constraint=FORM).answer == FORM.constraint


def test_a_form_beside_tools_is_one_of_two_ways() -> None:
    answer = watched(tools=TOOLS, constraint=FORM).answer
    assert answer is not None
    assert "start: form | calls\n" in answer.text
    assert answer.name == "response_format"
    must = watched(tools=TOOLS, constraint=FORM, call_choice=CallChoice.REQUIRED).answer
    assert must == of_calls(PLAIN.calls, TOOLS, parallel=True)


@pytest.mark.parametrize(
    ("prompt", "variables", "may"),
    [
        ("assistant\n", {}, True),
        ("assistant\n<think>\n", {}, True),
        ("assistant\n<think>\n\n</think>\n\n", {}, False),
        ("assistant\n", {"enable_thinking": False}, False),
        ("assistant\n", {"thinking": False}, False),
        ("assistant\n", {"enable_thinking": True}, True),
    ],
)
def test_who_may_think_before_the_answer(prompt: str, variables: dict[str, Any], may: bool) -> None:
    assert watched(THINKS, prompt, variables=variables, constraint=FORM).may_think is may


def test_a_header_that_ends_thoughts_is_in_every_prompt() -> None:
    rules = AnswerRules(Reasoning("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"))
    assert watched(rules, "user<|message|>Hi<|end|><|start|>assistant", constraint=FORM).may_think


def test_only_the_prompts_end_is_sent_and_all_that_was_begun() -> None:
    watch = watched(THINKS, "x" * 1000 + "<think>", "Hm.", thought_tokens=7)
    assert watch.prompt_end == ("x" * 1000 + "<think>")[-PROMPT_END:]
    assert (watch.begun, watch.thought_tokens, watch.rules) == ("Hm.", 7, THINKS)


def test_a_schema_that_no_call_can_be_held_to_is_refused_by_name() -> None:
    tool = Tool("f", parameters={"type": "object", "properties": {"a": {"not": {}}}})
    with pytest.raises(InvalidRequestError, match=r"tools\.0\.function\.parameters\.properties\.a\.not"):
        asked(tools=(tool,))
    with pytest.raises(InvalidRequestError, match=r"functions\.0\.parameters"):
        asked(tools=(tool,), calls_function=True)


def test_a_watch_crosses_to_the_engine() -> None:
    rules = AnswerRules(
        Reasoning("a", "b", "c", "d"), ("w",), ("e",), CallRules(Kind.TAGGED, start="<x>", others=("y",))
    )
    watch = watched(rules, "p", "q", tools=TOOLS, thought_tokens=3)
    reader = FrameReader()
    reader.feed(encode(Generate(GenerateRequest(prompt="", watch=watch))))
    message = reader.next()
    assert isinstance(message, Generate)
    assert message.request.watch == watch


@pytest.mark.parametrize(
    ("begun", "said", "is_refused"),
    [
        ("", '{"a": 1}', False),
        ('{"a"', ": 1}", False),
        ("Here it is: ", '{"a": 1}', False),
        ('{"a"', ': "x"}', True),
        ("Here it is: ", "no", True),
    ],
)
def test_what_was_begun_of_an_answer_is_checked_with_it(begun: str, said: str, is_refused: bool) -> None:
    """Or it stands before what was asked for."""
    events: Any = ([event] for event in (TextDelta(0, said), Finished(0, FinishReason.STOP)))
    told = [event for batch in checked(events, FORM, lambda: begun) for event in batch]
    assert any(isinstance(event, RefusalDelta) for event in told) is is_refused


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (FORM, ['{"a":1}', "{}"], ['{"a": 1}', "1"]),
        (of_any_object("response_format"), ['{"b": [1, 2]}', "{}"], ["[]"]),
        (of_regex("a/b|[0-9]{2}", "regex"), ["a/b", "17"], ["a", "171"]),
        (of_choice(["yes {", "no\n}"], "choice"), ["yes {", "no\n}"], ["no"]),
        (of_grammar('root ::= "x" [}{]+ | "y"', "grammar"), ["x}{", "y"], ["x"]),
        (of_grammar('start: a "}"\na: /[0-9]+/', "grammar"), ["1}"], ["}"]),
    ],
)
def test_every_kind_of_form_goes_beside_calls(form: Constrained, good: list[str], bad: list[str]) -> None:
    """And behind what leads an answer, which may be left out."""
    vocabulary = Vocabulary()
    answer = watched(AnswerRules(wraps=("<r>",)), tools=TOOLS, constraint=form).answer
    assert answer is not None
    for text in (*good, *(f"<r>{text}" for text in good), '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'):
        assert vocabulary.takes(answer, text) is None, text
    for text in (*bad, "<tool_call>", "<r>"):
        assert vocabulary.takes(answer, text) is not None, text
