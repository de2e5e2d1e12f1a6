"""Tools through Anthropic's own SDK, called by a model that was trained to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.server import Server
from tests.e2e.tool_model import EARLIER, MODEL, TALK

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]

TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
}


def earlier() -> list[Any]:
    """The earlier turn as messages of the Messages API."""
    asked, called, result, answered = EARLIER
    call = called["tool_calls"][0]
    use = {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}
    told = {"type": "tool_result", "tool_use_id": call["id"], "content": result["content"]}
    return [
        asked,
        {"role": "assistant", "content": [{**use, "input": json.loads(call["function"]["arguments"])}]},
        {"role": "user", "content": [told]},
        answered,
    ]


MESSAGES: list[Any] = [*earlier(), {"role": "user", "content": TALK["question"]}]
GIVEN: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "tools": [TOOL], "extra_body": {"temperature": 0}}
CHOICES = pytest.mark.parametrize(
    "choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["auto", "any", "tool"]
)


@pytest.fixture
def claude(tool_server: Server) -> Iterator[anthropic.Anthropic]:
    with tool_server.claude() as client:
        yield client


def final(claude: anthropic.Anthropic, **asked: Any) -> anthropic.types.Message:
    with claude.messages.stream(**{**GIVEN, **asked}) as stream:
        return stream.get_final_message()


@CHOICES
def test_a_loop(claude: anthropic.Anthropic, choice: Any) -> None:
    asked = claude.messages.create(**GIVEN, messages=MESSAGES, tool_choice=choice)
    streamed = final(claude, messages=MESSAGES, tool_choice=choice)
    calls = [block for message in (asked, streamed) for block in message.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("get_weather", {"city": "Paris"})] * 2
    assert (asked.stop_reason, streamed.stop_reason) == ("tool_use", "tool_use")
    result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": TALK["weather"]["Paris"]}
    told = [*MESSAGES, asked.to_param(), {"role": "user", "content": [result]}]
    answer = final(claude, messages=told)
    assert answer.stop_reason == "end_turn"
    assert any(block.type == "text" and "snow" in block.text for block in answer.content)


@anthropic.beta_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return str(TALK["weather"][city])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_tool_runner(claude: anthropic.Anthropic, stream: bool) -> None:
    """The SDK's own loop: it calls the function, and sends back what it said."""
    given = {**GIVEN, "tools": [get_weather]}
    runner: Any = claude.beta.messages.tool_runner(**given, messages=MESSAGES, max_iterations=3, stream=stream)
    called, answered = [turn.get_final_message() if stream else turn for turn in runner]
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert (use.name, use.input, called.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    assert answered.stop_reason == "end_turn"
    assert "snow" in "".join(block.text for block in answered.content if block.type == "text").lower()
    assert prompt_tokens(answered) > prompt_tokens(called), "it was shown the call and its result, too"


def prompt_tokens(message: Any) -> int:
    return int(message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0))


def test_a_tool_that_is_found_first(claude: anthropic.Anthropic) -> None:
    """As Claude Code's: the definition of a deferred tool stands where a reference names it, and costs no prefix."""
    search = {"name": "tool_search", "description": "Finds tools.", "input_schema": {"type": "object"}}
    found: list[Any] = [
        {"role": "user", "content": "Find a tool for the weather."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call00001", "name": "tool_search", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call00001",
                    "content": [{"type": "tool_reference", "tool_name": "get_weather"}],
                },
                {"type": "text", "text": TALK["question"]},
            ],
        },
    ]
    tools: Any = [search, {**TOOL, "defer_loading": True}]
    choice: Any = {"type": "tool", "name": "get_weather"}
    first = claude.messages.create(**{**GIVEN, "tools": tools, "max_tokens": 1}, messages=found[:1])
    message = claude.messages.create(**{**GIVEN, "tools": tools}, messages=found)
    assert (message.usage.cache_read_input_tokens or 0) >= prompt_tokens(first) - 8
    (call,) = claude.messages.create(**{**GIVEN, "tools": tools}, messages=found, tool_choice=choice).content
    assert call.type == "tool_use"
    assert "city" in dict(call.input)
