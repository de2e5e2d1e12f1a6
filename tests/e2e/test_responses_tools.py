"""Responses that call functions, by the SDK's own ways, on a model that was trained to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.server import Server
from tests.e2e.tool_model import EARLIER, MODEL, TALK
from tests.unit.api.responses import checked, kinds, strict

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
TOOLS: Any = [
    {"type": "function", "name": "get_weather", "description": "The weather of a city.", "parameters": PARAMETERS}
]
SPACE: Any = [{"type": "namespace", "name": "weather", "description": "Weather.", "tools": TOOLS}]
CUSTOM: Any = [{"type": "custom", "name": "shell", "description": "Runs a shell command."}]
ASKED: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 200}
NAMED: Any = {"type": "function", "name": "get_weather"}


def items() -> list[Any]:
    """What was said before, in items, and the question."""
    told: list[Any] = []
    for message in EARLIER:
        if message["role"] == "tool":
            told.append(
                {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}
            )
            continue
        if message["content"] is not None:
            told.append({"role": message["role"], "content": message["content"]})
        for call in message.get("tool_calls", ()):
            told.append({"type": "function_call", "call_id": call["id"], **call["function"]})
    return [*told, {"role": "user", "content": TALK["question"]}]


@pytest.fixture
def sdk(tool_server: Server) -> Iterator[openai.OpenAI]:
    with tool_server.sdk() as client:
        yield client


@pytest.mark.parametrize("store", [True, False])
def test_a_call_and_its_output(sdk: openai.OpenAI, store: bool) -> None:
    asked: dict[str, Any] = {**ASKED, "tools": TOOLS, "store": store}
    with sdk.responses.stream(**asked, input=items()) as stream:
        events = checked(stream)
        first = strict(stream.get_final_response())
    call = next(item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    assert "function_call_arguments.done" in kinds(events)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": TALK["weather"]["Paris"]}
    if store:
        second = strict(sdk.responses.create(**asked, input=[output], previous_response_id=first.id))
        replayed = checked(sdk.responses.retrieve(first.id, stream=True))
        assert replayed[-1].response.to_dict() == sdk.responses.retrieve(first.id).to_dict()
    else:
        told = [item.to_dict() for item in first.output]
        second = strict(sdk.responses.create(**asked, input=[*items(), *told, output]))
    assert "Paris" in second.output_text
    assert "snow" in second.output_text


@pytest.mark.parametrize("store", [True, False])
def test_what_has_to_be_called(sdk: openai.OpenAI, store: bool) -> None:
    asked: dict[str, Any] = {**ASKED, "tools": TOOLS, "store": store, "input": TALK["question"]}
    answer = strict(sdk.responses.create(**asked, tool_choice=NAMED))
    assert [item.type for item in answer.output] == ["function_call"]
    answer = strict(sdk.responses.create(**asked, tool_choice="none"))
    assert [item.type for item in answer.output] == ["message"]


@pytest.mark.parametrize("store", [True, False])
def test_a_namespace(sdk: openai.OpenAI, store: bool) -> None:
    choice: Any = {"type": "function", "name": "get_weather", "namespace": "weather"}
    answer = strict(sdk.responses.create(**ASKED, input=TALK["question"], tools=SPACE, tool_choice=choice, store=store))
    call = answer.output[0]
    assert call.type == "function_call"
    assert (call.name, call.namespace) == ("get_weather", "weather")
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "snow"}
    asked: Any = [{"role": "user", "content": TALK["question"]}, call.to_dict(), output]
    again = strict(sdk.responses.create(**ASKED, input=asked, tools=SPACE, store=store))
    assert again.status in ("completed", "incomplete"), "how long a small model goes on is its own affair"


@pytest.mark.parametrize("store", [True, False])
def test_a_custom_tool(sdk: openai.OpenAI, store: bool) -> None:
    asked: dict[str, Any] = {**ASKED, "tools": CUSTOM, "store": store, "input": "List the files in this folder."}
    choice: Any = {"type": "custom", "name": "shell"}
    with sdk.responses.stream(**asked, tool_choice=choice) as stream:
        events = checked(stream)
        answer = strict(stream.get_final_response())
    call = answer.output[0]
    assert call.type == "custom_tool_call"
    assert call.input
    assert "custom_tool_call_input.done" in kinds(events)
