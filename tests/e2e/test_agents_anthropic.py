"""The official Anthropic SDK's own tool loop, by a model that was trained to call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.server import LIMIT, Server
from tests.e2e.tool_model import EARLIER, MODEL, TALK

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]


@pytest.fixture
def client(tool_server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=tool_server.url, api_key="none", max_retries=0, timeout=LIMIT) as client:
        yield client


@anthropic.beta_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return str(TALK["weather"].get(city, "unknown"))


def earlier() -> list[Any]:
    """The earlier turn as messages of the Messages API."""
    asked, called, result, answered = EARLIER
    call = called["tool_calls"][0]
    use = {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}
    return [
        asked,
        {"role": "assistant", "content": [{**use, "input": json.loads(call["function"]["arguments"])}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": result["content"]}],
        },
        answered,
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_tool_runner(client: anthropic.Anthropic, stream: bool) -> None:
    runner: Any = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=100,
        tools=[get_weather],
        messages=[*earlier(), {"role": "user", "content": TALK["question"]}],
        stream=stream,
        extra_body={"temperature": 0},
    )
    called, answered = [turn.get_final_message() if stream else turn for turn in runner]
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert (use.name, use.input, called.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    assert answered.stop_reason == "end_turn"
    assert "snow" in "".join(block.text for block in answered.content if block.type == "text").lower()
    assert answered.usage.input_tokens + (answered.usage.cache_read_input_tokens or 0) > called.usage.output_tokens
