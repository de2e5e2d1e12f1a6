"""Calls of the starter model, which has never seen a tool: once one begins it is valid, whatever is drawn."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.e2e.server import MODEL

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": SCHEMA}}
OTHER: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
QUESTION: Any = {"role": "user", "content": "What is the weather in Oslo?"}


def ask(sdk: openai.OpenAI, begun: str = "", **how: Any) -> Any:
    messages = [QUESTION, *([{"role": "assistant", "content": begun}] if begun else [])]
    extra = {"continue_final_message": True, "add_generation_prompt": False} if begun else {}
    fields = {"max_tokens": 100, "tools": [TOOL, OTHER], **how}
    return sdk.chat.completions.create(model=MODEL, messages=messages, extra_body=extra, **fields)


def check(choice: Any) -> None:
    assert choice.finish_reason == "tool_calls", choice
    for call in choice.message.tool_calls:
        assert call.function.name in ("get_weather", "get_time")
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            jsonschema.validate(arguments, SCHEMA)


@pytest.mark.parametrize("begun", ["<tool_call>", 'I shall ask.\n<tool_call>\n{"name": "get_w'])
def test_a_call_that_begins_is_valid(sdk: openai.OpenAI, begun: str) -> None:
    answer = ask(sdk, begun, n=4, temperature=1.6, seed=1, parallel_tool_calls=False)
    for choice in answer.choices:
        check(choice)


def test_a_call_as_it_grows_is_the_same(sdk: openai.OpenAI) -> None:
    whole = ask(sdk, "<tool_call>", temperature=0, parallel_tool_calls=False)
    check(whole.choices[0])
    call, reason = "", None
    for chunk in ask(sdk, "<tool_call>", temperature=0, parallel_tool_calls=False, stream=True):
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for delta in choice.delta.tool_calls or []:
                call += delta.function.arguments or ""
    assert (call, reason) == (whole.choices[0].message.tool_calls[0].function.arguments, "tool_calls")


def test_a_model_that_has_to_call_does(sdk: openai.OpenAI) -> None:
    for choice in ask(sdk, n=3, temperature=1.4, seed=2, tool_choice="required", parallel_tool_calls=False).choices:
        check(choice)
        assert choice.message.content is None
    named: Any = {"type": "function", "function": {"name": "get_time"}}
    (choice,) = ask(sdk, temperature=1.0, tool_choice=named).choices
    assert {call.function.name for call in choice.message.tool_calls} == {"get_time"}


def test_a_form_beside_tools_holds_where_nothing_is_called(sdk: openai.OpenAI) -> None:
    form = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 9}}, "required": ["word"]}
    asked: Any = {"type": "json_schema", "json_schema": {"name": "word", "schema": form}}
    for choice in ask(sdk, n=3, temperature=1.2, seed=3, response_format=asked, parallel_tool_calls=False).choices:
        if choice.message.tool_calls:
            check(choice)
        else:
            assert choice.finish_reason == "stop"
            jsonschema.validate(json.loads(choice.message.content), form)
