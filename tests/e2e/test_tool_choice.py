"""Who decides about calls, on a model too small to decide for itself: whatever is asked for, it is what comes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.e2e.server import MODEL

MESSAGES: Any = [{"role": "user", "content": "What is the weather in Paris, and what time is it there?"}]
CITY = {"type": "string", "enum": ["Paris", "Rome"]}
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": CITY}, "required": ["city"]},
}
TIME = {
    "name": "get_time",
    "description": "The time of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": CITY, "hours": {"enum": [12, 24]}},
        "required": ["city", "hours"],
    },
}
FUNCTIONS = {function["name"]: function for function in (WEATHER, TIME)}
TOOLS: Any = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
FORM = {
    "type": "json_schema",
    "json_schema": {"name": "mood", "schema": {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}},  # noqa: E501
}  # fmt: skip


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> Any:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


def asked(sdk: openai.OpenAI, **more: Any) -> Any:
    body = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS, "max_tokens": 200, "temperature": 1.2, **more}
    return sdk.chat.completions.create(**body).choices[0]


def names_of(choice: Any) -> list[str]:
    """Of the functions that are called, with arguments that meet their schemas."""
    assert choice.finish_reason == "tool_calls", choice
    for call in choice.message.tool_calls:
        schema = FUNCTIONS[call.function.name]["parameters"]
        jsonschema.validate(json.loads(call.function.arguments), schema)
    return [call.function.name for call in choice.message.tool_calls]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("choice", "may_be"),
    [
        ("required", {"get_weather", "get_time"}),
        (named("get_time"), {"get_time"}),
        (allowed("required", "get_time"), {"get_time"}),
        (allowed("required", "get_weather", "get_time"), {"get_weather", "get_time"}),
    ],
)
def test_what_must_be_called_is(sdk: openai.OpenAI, choice: Any, may_be: set[str], seed: int) -> None:
    found = asked(sdk, tool_choice=choice, parallel_tool_calls=False, seed=seed)
    (name,) = names_of(found)
    assert name in may_be
    assert found.message.content is None


@pytest.mark.parametrize("seed", range(3))
def test_what_may_not_be_called_is_not(sdk: openai.OpenAI, seed: int) -> None:
    found = asked(sdk, tool_choice=allowed("auto", "get_time"), seed=seed)
    if found.finish_reason == "tool_calls":
        assert set(names_of(found)) == {"get_time"}
    assert not asked(sdk, tool_choice="none", seed=seed).message.tool_calls


def test_a_function_as_it_was_asked_for(sdk: openai.OpenAI) -> None:
    found = asked(sdk, tools=openai.omit, functions=[WEATHER, TIME], function_call={"name": "get_time"})
    assert (found.finish_reason, found.message.function_call.name) == ("function_call", "get_time")
    jsonschema.validate(json.loads(found.message.function_call.arguments), TIME["parameters"])


def test_streamed_calls_are_the_same(sdk: openai.OpenAI) -> None:
    body: Any = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS, "tool_choice": named("get_time"), "seed": 1}
    with sdk.chat.completions.stream(**body, max_tokens=200) as stream:
        streamed = stream.get_final_completion().choices[0]
    whole = sdk.chat.completions.create(**body, max_tokens=200).choices[0]
    assert names_of(streamed) == names_of(whole) == ["get_time"]
    arguments = [choice.message.tool_calls[0].function.arguments for choice in (streamed, whole)]  # type: ignore[index]
    assert arguments[0] == arguments[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_form_beside_tools(sdk: openai.OpenAI, seed: int) -> None:
    """It calls, or its words have the form; where it must call, the form has nothing to hold."""
    found = asked(sdk, response_format=FORM, seed=seed)
    if found.finish_reason == "tool_calls":
        assert names_of(found)
    else:
        assert json.loads(found.message.content) in ({"mood": "good"}, {"mood": "bad"})
        assert found.message.refusal is None
    must = asked(sdk, response_format=FORM, tool_choice="required", parallel_tool_calls=False, seed=seed)
    assert len(names_of(must)) == 1
