"""Responses with the real store and runner over a scripted engine: stored ones say what others say, and again."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask import create_app
from janflask.container import Services
from janflask.errors import ContextLengthExceededError, EngineError, InvalidRequestError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.ipc.messages.runner import RUNNER_SOCKET
from janflask.parsing.deltas import TokenLogprob
from janflask.runner.runner import Runner
from janflask.runner.server import runner_server
from janflask.storage import open_repository
from tests.fakes.scripted import DONE, Conversation, Script, say
from tests.unit.api.conftest import World
from tests.unit.api.responses import CALLED, FUNCTION, LINE, THINKING, THOUGHT, checked, kinds, layout, strict, told

ASKED: dict[str, Any] = {"model": "tiny", "input": "Hi"}
FORM = {
    "format": {
        "type": "json_schema",
        "name": "thing",
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    }
}
CUSTOM = {"type": "custom", "name": "patch", "description": "A patch."}
SPACE = {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [{**FUNCTION, "name": "spawn"}]}
TWICE = ("I look.\n", CALLED, "\n", LINE % ("get_weather", "place", "Rome"))


def with_logprobs(conversation: Conversation) -> None:
    token = TokenLogprob(" caf", b" caf", -0.5, 5, ())
    conversation.send(Started(7), Chunk(0, " caf", (token,)), Finished(0, "stop"), DONE)


def breaks(conversation: Conversation) -> None:
    conversation.send(Started(7), Chunk(0, "Hel"))
    conversation.fail(EngineError("it broke"))


# What the engine does, what is asked for, and whether the model thinks or calls.
ANSWERS: dict[str, tuple[Script, dict[str, Any], str]] = {
    "words": (say("Hello", " world"), {}, ""),
    "nothing": (say(""), {}, ""),
    "thoughts": (say(*THOUGHT), {"include": ["reasoning.encrypted_content"]}, "thinks"),
    "one call": (say(CALLED), {"tools": [FUNCTION]}, "calls"),
    "two calls": (say(*TWICE), {"tools": [FUNCTION]}, "calls"),
    "a custom tool": (say(LINE % ("patch", "input", "*** Begin")), {"tools": [CUSTOM]}, "calls"),
    "a namespace": (say(LINE % ("agents__spawn", "place", "x")), {"tools": [SPACE]}, "calls"),
    "a form": (say('{"a": 1}'), {"text": FORM}, ""),
    "a refusal": (say('{"a": "x"}'), {"text": FORM}, ""),
    "a cut": (say("Hello", reason="length"), {"max_output_tokens": 1}, ""),
    "a form that is cut": (say('{"a"', reason="length"), {"text": FORM}, ""),
    "log-probabilities": (with_logprobs, {"include": ["message.output_text.logprobs"], "top_logprobs": 1}, ""),
    "an error": (breaks, {}, ""),
}


@pytest.fixture
def app(world: World) -> Iterator[Flask]:
    """With a runner of its own; the first silence is longer than it takes to fail."""
    world.settings = replace(world.settings, keepalive=20.0)
    repository = open_repository(world.settings)
    runner = Runner(world.settings, Services.of(world.settings, repository), repository)
    with runner_server(world.folder / RUNNER_SOCKET, runner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield create_app(world.settings)
        finally:
            server.shutdown()
            thread.join()
            runner.close()


def plays(world: World, name: str, templates: Path) -> dict[str, Any]:
    """Has the engine play an answer; gives the request for it."""
    script, fields, needs = ANSWERS[name]
    if needs:
        qwen = (templates / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text()
        layout(world, THINKING if needs == "thinks" else qwen)
    world.engine.script = script
    return {**ASKED, **fields}


def same(told: Any) -> str:
    """Without what differs between any two answers."""
    text = re.sub(r'"(resp|msg|rs|fc|call|thread)_[a-z0-9_]{20,}"', r'"\1"', json.dumps(told, sort_keys=True))
    text = re.sub(r'"(created_at|completed_at)": \d+(\.0)?', r'"\1": 0', text)
    text = re.sub(r'"(thread_id)": (null|"thread")', r'"\1": 0', text)
    text = re.sub(r'"(encrypted_content)": "[^"]*"', r'"\1": ""', text)
    text = re.sub(r'"(id|call_id)": "[A-Za-z0-9]{9,10}"', r'"\1": ""', text)
    return text.replace('"store": false', '"store": true')


@pytest.mark.parametrize("name", ANSWERS)
def test_stored_or_not_streamed_or_not_replayed_or_asked_for_again(
    sdk: openai.OpenAI, world: World, llama_templates: Path, name: str
) -> None:
    asked = plays(world, name, llama_templates)
    stored = checked(sdk.responses.create(**asked, stream=True))
    unstored = checked(sdk.responses.create(**asked, stream=True, store=False))
    last, other = stored[-1].response, unstored[-1].response
    assert same(last.to_dict()) == same(other.to_dict())
    calls = "call" in name or "tool" in name or "namespace" in name
    if calls:  # pieces of arguments come as they are said where nothing is stored
        assert kinds(stored)[-1] == kinds(unstored)[-1] == "completed"
    else:
        assert same(told(stored)) == same(told(unstored))
    again = strict(sdk.responses.retrieve(last.id))
    assert again.to_dict() == last.to_dict()
    for number in range(len(stored)):
        rest = list(sdk.responses.retrieve(last.id, stream=True, starting_after=number))
        assert told(rest) == told(stored[number + 1 :])
    assert told(checked(sdk.responses.retrieve(last.id, stream=True))) == told(stored)
    if name != "an error":
        whole = strict(sdk.responses.create(**asked))
        assert same(whole.to_dict()) == same(last.to_dict())
        whole = strict(sdk.responses.create(**asked, store=False))
        assert same(whole.to_dict()) == same(last.to_dict())


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in ("a cut", "a form that is cut", "an error")])
@pytest.mark.parametrize("store", [True, False])
def test_the_stream_helper(sdk: openai.OpenAI, world: World, llama_templates: Path, name: str, store: bool) -> None:
    with sdk.responses.stream(**plays(world, name, llama_templates), store=store) as stream:
        checked(stream)
        assert strict(stream.get_final_response()).status == "completed"


@pytest.mark.parametrize(
    "error", [ContextLengthExceededError("too long"), InvalidRequestError("bad", param="messages")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_before_a_word_has_never_been(
    sdk: openai.OpenAI, world: World, error: InvalidRequestError, stream: bool
) -> None:
    world.engine.script = lambda conversation: conversation.fail(error)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**ASKED, stream=stream)
    assert caught.value.param == "input"
    assert error.message in str(caught.value)
    assert list((world.settings.data_dir / "threads").glob("thread_*")) == []


@pytest.mark.parametrize("where", ["conversation", "previous_response_id"])
def test_what_fails_before_a_word_leaves_nothing_in_its_conversation(
    sdk: openai.OpenAI, world: World, where: str
) -> None:
    first = sdk.responses.create(**ASKED)
    name = first.id
    if where == "conversation":
        name = sdk.conversations.create(items=[{"type": "message", "role": "user", "content": "Before"}]).id
    behind: dict[str, Any] = {"model": "tiny", where: name}
    world.engine.script = lambda conversation: conversation.fail(ContextLengthExceededError("too long"))
    with pytest.raises(openai.BadRequestError):
        sdk.responses.create(**behind, input="Lost")
    world.engine.script = say("Hello")
    second = sdk.responses.create(**behind, input="Again")
    texts = [
        json.loads(line)["content"][0]["text"]["value"]
        for line in (world.settings.data_dir / "threads" / str(second.to_dict()["thread_id"]) / "messages.jsonl")
        .read_text()
        .splitlines()
    ]
    expected = ["Before"] if where == "conversation" else ["Hi", "Hello world"]
    assert texts == [*expected, "Again", "Hello"]


def test_in_the_background(sdk: openai.OpenAI, world: World) -> None:
    go = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "Hel"))
        go.wait(10)
        conversation.send(Chunk(0, "lo"), Finished(0, "stop"), DONE)

    world.engine.script = script
    answer = strict(sdk.responses.create(**ASKED, background=True))
    assert answer.status in ("queued", "in_progress")
    with sdk.responses.stream(response_id=answer.id) as stream:
        events = []
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta" and not go.is_set():
                polled = strict(sdk.responses.retrieve(answer.id))
                assert (polled.status, polled.output_text) == ("in_progress", "Hel")
                go.set()
        checked(events)
    assert strict(sdk.responses.retrieve(answer.id)).output_text == "Hello"


def test_a_response_that_is_cancelled(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "Hel"))
        conversation.is_closed_by_peer()

    world.engine.script = script
    answer = sdk.responses.create(**ASKED, background=True, stream=True)
    events = [next(answer)]
    while events[-1].type != "response.output_text.delta":
        events.append(next(answer))
    name = events[0].response.id  # type: ignore[union-attr]
    cancelled = strict(sdk.responses.cancel(name))
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hel")
    checked([*events, *answer])
    assert sdk.responses.cancel(name).to_dict() == cancelled.to_dict()


def test_branches(sdk: openai.OpenAI, world: World) -> None:
    first = sdk.responses.create(**ASKED)
    left = sdk.responses.create(model="tiny", input="Left", previous_response_id=first.id)
    right = sdk.responses.create(model="tiny", input="Right", previous_response_id=first.id)
    prompts = [str(request.prompt) for request in world.engine.requests[-2:]]
    told = [
        bytes(token for token in request.prompt if isinstance(token, int) and token < 256).decode()
        for request in world.engine.requests[-2:]
    ]
    assert "Left" in told[0]
    assert "Left" not in told[1], prompts
    assert len({item.to_dict()["thread_id"] for item in (left, right)}) == 2
    assert [item.to_dict()["content"][0]["text"] for item in sdk.responses.input_items.list(right.id)] == ["Right"]  # type: ignore[index,call-overload]
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(**ASKED, previous_response_id=first.id)


@pytest.mark.parametrize("store", [True, False])
def test_thoughts_and_calls_go_back(sdk: openai.OpenAI, world: World, llama_templates: Path, store: bool) -> None:
    asked = plays(world, "two calls", llama_templates)
    first = sdk.responses.create(**asked, store=store)
    outputs: Any = [
        {"type": "function_call_output", "call_id": item.call_id, "output": item.arguments}
        for item in first.output
        if item.type == "function_call"
    ]
    world.engine.script = say("Done.")
    more: dict[str, Any] = {**asked, "store": store}
    if store:
        more |= {"input": outputs, "previous_response_id": first.id}
    else:
        more["input"] = [{"role": "user", "content": "Hi"}, *[item.to_dict() for item in first.output], *outputs]
    assert sdk.responses.create(**more).output_text == "Done."
    told = world.engine.requests[-1].prompt
    shown = told if isinstance(told, str) else bytes(token for token in told if token < 256).decode()
    assert shown.count("<tool_response>") == 2
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**{**more, "input": [*more["input"], outputs[0]]})
    assert caught.value.param is not None
    assert caught.value.param.startswith(f"input.{len(more['input'])}")


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_nothing"}, "previous_response_id"),
        ({"previous_response_id": "../../x"}, "previous_response_id"),
        ({"conversation": "conv_nothing"}, "conversation"),
        ({"conversation": "../x"}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_nothing"}]}, "input.0"),
        ({"model": "nobody"}, "model"),
    ],
)
def test_what_is_not_there(client: FlaskClient, world: World, fields: dict[str, Any], param: str, store: bool) -> None:
    answer = client.post("/v1/responses", json={**ASKED, **fields, "store": store})
    assert answer.status_code == 404, answer.json
    error = answer.get_json()["error"]
    assert error["param"] == param, error
    threads = world.settings.data_dir / "threads"
    assert not threads.is_dir() or list(threads.glob("thread_*")) == []
    assert world.engine.requests == []


def test_schemas_of_tools_are_named_at_their_place(client: FlaskClient, world: World, llama_templates: Path) -> None:
    plays(world, "one call", llama_templates)
    broken = {**FUNCTION, "parameters": {"properties": 5}}
    for store in (True, False):
        body = {**ASKED, "tools": [{"type": "web_search"}, broken], "store": store}
        answer = client.post("/v1/responses", json=body)
        assert answer.status_code == 400, answer.json
        assert answer.get_json()["error"]["param"] == "tools.1.parameters.properties", answer.json
