"""The official SDK's own ways to have tools called, by a model that was trained to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.e2e.server import Server
from tests.e2e.tool_model import EARLIER, MODEL, TALK

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]

MESSAGES: Any = [*EARLIER, {"role": "user", "content": TALK["question"]}]
GIVEN: Any = {"model": MODEL, "temperature": 0, "max_tokens": 100}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
CHOICES: Any = pytest.mark.parametrize("choice", ["auto", "required", NAMED], ids=["auto", "required", "named"])


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str = Field(max_length=20)


class Weather(BaseModel):
    """What the weather is."""

    city: str = Field(max_length=20)
    weather: str = Field(max_length=40)


TOOLS: Any = [openai.pydantic_function_tool(GetWeather, name="get_weather")]


@pytest.fixture
def client(tool_server: Server) -> Iterator[openai.OpenAI]:
    with tool_server.sdk() as client:
        yield client


def with_result(message: Any) -> Any:
    """The conversation with the model's call and what came of it."""
    (call,) = message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    weather = TALK["weather"][json.loads(call.function.arguments)["city"]]
    return [*MESSAGES, message, {"role": "tool", "tool_call_id": call.id, "content": weather}]


def final(events: Any) -> Any:
    with events as stream:
        return stream.get_final_completion().choices[0]


@CHOICES
def test_a_loop(client: openai.OpenAI, choice: Any) -> None:
    called = client.chat.completions.create(messages=MESSAGES, tools=TOOLS, tool_choice=choice, **GIVEN).choices[0]
    assert called.finish_reason == "tool_calls"
    answer = client.chat.completions.create(messages=with_result(called.message), tools=TOOLS, **GIVEN).choices[0]
    assert answer.finish_reason == "stop"
    assert "snow" in (answer.message.content or "").lower()
    assert answer.message.tool_calls is None


@CHOICES
def test_a_streamed_loop_is_the_same(client: openai.OpenAI, choice: Any) -> None:
    given = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": choice, **GIVEN}
    whole = client.chat.completions.create(**given).choices[0].message.tool_calls[0].function
    called = final(client.chat.completions.stream(**given))
    assert called.finish_reason == "tool_calls"
    assert (called.message.tool_calls[0].function.name, called.message.tool_calls[0].function.arguments) == (
        whole.name,
        whole.arguments,
    )
    answer = final(client.chat.completions.stream(messages=with_result(called.message), tools=TOOLS, **GIVEN))
    assert answer.finish_reason == "stop"
    assert "snow" in answer.message.content.lower()


@CHOICES
def test_arguments_are_parsed(client: openai.OpenAI, choice: Any) -> None:
    given = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": choice, **GIVEN}
    (call,) = client.chat.completions.parse(**given).choices[0].message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Paris")


@CHOICES
def test_events_of_a_stream(client: openai.OpenAI, choice: Any) -> None:
    deltas, done = [], []
    given = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": choice, **GIVEN}
    with client.chat.completions.stream(**given) as events:
        for event in events:
            if event.type == "tool_calls.function.arguments.delta":
                deltas.append(event.arguments_delta)
            elif event.type == "tool_calls.function.arguments.done":
                done.append(event)
    (call,) = done
    assert call.name == "get_weather"
    assert call.parsed_arguments == GetWeather(city="Paris")
    assert "".join(deltas) == call.arguments


def test_one_function_of_several(client: openai.OpenAI) -> None:
    class GetTime(BaseModel):
        """The time in a city."""

        city: str = Field(max_length=20)
        seconds: bool

    tools: Any = [*TOOLS, openai.pydantic_function_tool(GetTime, name="get_time")]
    named: Any = {"type": "function", "function": {"name": "get_time"}}
    given = {"messages": MESSAGES, "tools": tools, "tool_choice": named, **GIVEN}
    (call,) = client.chat.completions.parse(**given).choices[0].message.tool_calls
    assert call.function.name == "get_time"
    assert isinstance(call.function.parsed_arguments, GetTime)


def test_none_calls_nothing(client: openai.OpenAI) -> None:
    given = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": "none", **GIVEN}
    answer = client.chat.completions.create(**given).choices[0]
    assert answer.message.tool_calls is None
    assert answer.finish_reason != "tool_calls"


def test_a_tool_and_a_form_for_the_answer_in_one_request(client: openai.OpenAI) -> None:
    given = {"tools": TOOLS, "response_format": Weather, **GIVEN}
    called = client.chat.completions.parse(messages=MESSAGES, tool_choice="required", **given).choices[0].message
    assert called.parsed is None
    answer = client.chat.completions.parse(messages=with_result(called), **given).choices[0].message
    assert answer.parsed is not None
    assert "snow" in answer.parsed.weather.lower()
    assert final(client.chat.completions.stream(messages=with_result(called), **given)).message.parsed == answer.parsed


def test_the_beta_names_work_too(client: openai.OpenAI) -> None:
    given = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", **GIVEN}
    (call,) = client.beta.chat.completions.parse(**given).choices[0].message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Paris")
