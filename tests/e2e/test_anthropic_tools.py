"""Tools through Anthropic's own SDK, called by a model that was trained to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.server import LIMIT, Server
from tests.e2e.tool_model import MODEL, QUESTION, TALK

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
EARLIER: list[Any] = [
    {"role": "user", "content": QUESTION.format("Oslo")},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "call00001", "name": "get_weather", "input": {"city": "Oslo"}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call00001", "content": "rain, 8 degrees"}],
    },
    {"role": "assistant", "content": "It is raining in Oslo, and it is 8 degrees."},
]
MESSAGES: list[Any] = [*EARLIER, {"role": "user", "content": TALK["question"]}]
GIVEN: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "tools": [TOOL], "extra_body": {"temperature": 0}}
CHOICES = pytest.mark.parametrize(
    "choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["auto", "any", "tool"]
)


@pytest.fixture
def claude(tool_server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=tool_server.url, api_key="none", max_retries=0, timeout=LIMIT) as client:
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


def test_what_the_sdk_runs_by_itself(claude: anthropic.Anthropic) -> None:
    """The SDK's own loop: it calls the function, and sends back what it said."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return str(TALK["weather"][city])

    given = {**GIVEN, "tools": [get_weather]}
    runner = claude.beta.messages.tool_runner(**given, messages=MESSAGES, max_iterations=3)
    *_, last = list(runner)
    assert any(block.type == "text" and "snow" in block.text for block in last.content)


def test_a_tool_that_is_found_first(claude: anthropic.Anthropic) -> None:
    """As Claude Code's: the definition of a deferred tool stands where a reference names it, and costs no prefix."""
    search = {"name": "tool_search", "description": "Finds tools.", "input_schema": {"type": "object"}}
    found = [
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
    first = claude.messages.create(**{**GIVEN, "tools": tools, "max_tokens": 1}, messages=found[:1])  # type: ignore[arg-type]
    message = claude.messages.create(**{**GIVEN, "tools": tools}, messages=found)  # type: ignore[arg-type]
    prefix = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    assert (message.usage.cache_read_input_tokens or 0) >= prefix - 8
    (call,) = claude.messages.create(**{**GIVEN, "tools": tools}, messages=found, tool_choice=choice).content  # type: ignore[arg-type]
    assert call.type == "tool_use"
    assert "city" in dict(call.input)
