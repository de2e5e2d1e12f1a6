"""A model's ``response_template``: it says how answers are read, streamed and not; one that cannot is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.scripted import say
from tests.unit.api.conftest import World

TEMPLATE = {
    "fields": {
        "reasoning_content": {"open": "(hm ", "close": ")"},
        "tool_calls": {
            "open_pattern": r"do:(?P<name>\w+)\s*",
            "close": ";",
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {},
    },
    "start_anchor": "<assistant>",
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}],
}


@pytest.fixture(autouse=True)
def _answer(world: World) -> None:
    world.write_model(response_template=TEMPLATE)
    world.engine.script = say("(hm", " it", "s sky) Let", " me look.\ndo:wea", 'ther {"city": "Ki', 'el"};')


def test_a_message(client: FlaskClient) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT)
    assert isinstance(answer.json, dict)
    [choice] = answer.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("its sky", "Let me look.")
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Kiel"}'}


def test_deltas(client: FlaskClient) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    deltas = [choice["delta"] for line in lines[:-1] for choice in json.loads(line)["choices"]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["it", "s sky"]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Let", " me look."]
    pieces = [call["function"].get("arguments") for delta in deltas for call in delta.get("tool_calls", [])]
    assert pieces == ["", '{"city": "Ki', 'el"}']


def test_one_that_cannot_be_rules(client: FlaskClient, world: World) -> None:
    world.write_model(response_template={"fields": {"tool_calls": {"open": "<c>", "content": "kv-lines"}}})
    answer = client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 409
    assert isinstance(answer.json, dict)
    assert answer.json["error"]["message"] == (
        "the response_template in the model's model.json cannot be used: fields.tool_calls.content 'kv-lines' cannot "
        "be read: json, xml-inline and python-call-list can"
    )
    assert world.engine.requests == []
