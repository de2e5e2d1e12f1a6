"""Messages of Anthropic's form in a conversation of the store, with the real runner over a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from janflask.errors import EngineError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.ipc.messages.generation import FinishReason
from tests.fakes.scripted import DONE, Conversation, Script, say
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app

ASKED: dict[str, Any] = {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def app(world: World) -> Iterator[Flask]:
    with running_app(world) as app:
        yield app


@pytest.fixture
def conversation(client: FlaskClient) -> str:
    made = client.post("/v1/conversations", json={"items": [{"role": "user", "content": "Before"}]}).json
    assert made is not None
    return str(made["id"])


def ends(text: str, *, stop: str | None) -> Script:
    def script(scripted: Conversation) -> None:
        scripted.send(Started(7), Chunk(0, text), Finished(0, FinishReason.STOP, stop), DONE)

    return script


def ending_in(answer: TestResponse) -> tuple[str, str | None]:
    """How a message ended, whole or streamed."""
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    told = next(event["delta"] for event in events if event["type"] == "message_delta") if events else answer.json
    return told["stop_reason"], told["stop_sequence"]


def said_in(client: FlaskClient, conversation: str) -> list[tuple[str, str]]:
    listed = client.get(f"/v1/conversations/{conversation}/items?order=asc").json
    assert listed is not None
    return [(item["role"], item["content"][0]["text"]) for item in listed["data"]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begins", [False, True])
def test_one_that_fails_before_a_word_leaves_nothing_to_be_said_twice(
    client: FlaskClient, world: World, conversation: str, stream: bool, begins: bool
) -> None:
    def fails(scripted: Conversation) -> None:
        if begins:
            scripted.send(Started(3))
        scripted.fail(EngineError("out of luck"))

    asked = {**ASKED, "conversation": conversation, "stream": stream}
    world.engine.script = fails
    assert "out of luck" in client.post("/v1/messages", json=asked).text
    assert said_in(client, conversation) == [("user", "Before")]
    world.engine.script = say("Hello")
    assert "Hello" in client.post("/v1/messages", json=asked).text
    assert said_in(client, conversation) == [("user", "Before"), ("user", "Hi"), ("assistant", "Hello")]


def test_one_that_fails_later_keeps_its_words(client: FlaskClient, world: World, conversation: str) -> None:
    def breaks(scripted: Conversation) -> None:
        scripted.send(Started(3), Chunk(0, "Hel"))
        scripted.fail(EngineError("out of luck"))

    world.engine.script = breaks
    told = client.post("/v1/messages", json={**ASKED, "conversation": conversation, "stream": True})
    assert "event: error" in told.text
    assert said_in(client, conversation) == [("user", "Before"), ("user", "Hi"), ("assistant", "Hel")]


@pytest.mark.parametrize("stream", [False, True])
def test_which_stop_sequence_ended_it_is_told_as_of_one_that_is_not_stored(
    client: FlaskClient, world: World, conversation: str, stream: bool
) -> None:
    asked = {**ASKED, "stop_sequences": ["four", "three"], "stream": stream}
    for stop, told in (
        ("three", ("stop_sequence", "three")),
        ("<end>", ("end_turn", None)),
        (None, ("end_turn", None)),
    ):
        world.engine.script = ends("one, two, ", stop=stop)
        for where in ({}, {"conversation": conversation}):
            assert ending_in(client.post("/v1/messages", json={**asked, **where})) == told


def test_a_call_that_waits_for_its_result_is_told_in_the_words_of_messages(client: FlaskClient) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
    items = [{"role": "user", "content": "Look"}, call]
    made = client.post("/v1/conversations", json={"items": items}).json or {}
    refused = client.post("/v1/messages", json={**ASKED, "conversation": made["id"]})
    error = (refused.json or {})["error"]
    assert (refused.status_code, error["details"]["param"]) == (400, "messages")
    assert "call_1" in error["message"]
    assert "tool_result" in error["message"]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sea"}
    asked = {**ASKED, "messages": [{"role": "user", "content": [result]}], "conversation": made["id"]}
    assert client.post("/v1/messages", json=asked).status_code == 200


def test_what_is_in_a_conversation_is_not_counted(client: FlaskClient, conversation: str) -> None:
    refused = client.post("/v1/messages/count_tokens", json={**ASKED, "conversation": conversation})
    assert refused.status_code == 400
    assert "conversation is not counted" in refused.text
    assert client.post("/v1/messages/count_tokens", json={**ASKED, "conversation": None}).status_code == 200
