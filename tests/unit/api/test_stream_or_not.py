"""Who asks for a stream gets one or an error with its status, and nobody else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask.ipc.messages.engine import Chunk, Echo, Finished, Started
from janflask.parsing.deltas import TokenLogprob
from tests.fakes.scripted import DONE, Conversation
from tests.unit.api.conftest import World

TOKEN = TokenLogprob("x", b"x", -0.5, 5)
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat": ("/v1/chat/completions", CHAT),
    "several choices": ("/v1/chat/completions", {**CHAT, "n": 3}),
    "log-probabilities": ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    "a completion": ("/v1/completions", {"prompt": "x"}),
    "several prompts": ("/v1/completions", {"prompt": ["x"] * 20}),
    "an echo": ("/v1/completions", {"prompt": "x", "echo": True}),
    "an echo of token ids": ("/v1/completions", {"prompt": [1], "echo": True}),
    "nothing to say": ("/v1/completions", {"prompt": "x", "max_tokens": 0}),
    "an echo alone": ("/v1/completions", {"prompt": "x", "echo": True, "max_tokens": 0}),
    "a prompt's scores": ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1, "max_tokens": 0}),
}


def script(conversation: Conversation) -> None:
    """Nothing but what was asked for."""
    request = conversation.request
    logprobs = () if request.sampling.top_logprobs is None else (TOKEN,)
    said = [Chunk(index, "x", logprobs) for index in range(request.n)] if request.max_tokens != 0 else []
    echo = [Echo("x", logprobs)] if request.echo else []
    conversation.send(Started(1), *echo, *said, *[Finished(index, "length") for index in range(request.n)], DONE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", None])
def test_the_body_decides(client: FlaskClient, world: World, kind: str, accept: str | None) -> None:
    world.engine.script = script
    path, body = KINDS[kind]
    headers = {} if accept is None else {"Accept": accept}
    streamed = client.post(path, json={"model": "tiny", "stream": True, **body}, headers=headers)
    assert (streamed.status_code, streamed.mimetype) == (200, "text/event-stream")
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert streamed.text.count('"finish_reason":"length"') == body.get("n", 1) * (
        20 if kind == "several prompts" else 1
    )
    for no in ({}, {"stream": False}, {"stream": None}):
        whole = client.post(path, json={"model": "tiny", **no, **body}, headers=headers)
        assert (whole.status_code, whole.mimetype) == (200, "application/json")
        assert whole.json["choices"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "x"}), ("/v1/embeddings", {"input": "x"})],
    ids=["chat", "completion", "embedding"],
)
@pytest.mark.parametrize("stream", ["true", "yes", 1, {}, []])
def test_what_only_resembles_a_yes_is_refused(
    client: FlaskClient, path: str, body: dict[str, Any], stream: Any
) -> None:
    response = client.post(path, json={"model": "tiny", **body, "stream": stream})
    assert (response.status_code, response.json["error"]["param"]) == (400, "stream")


def test_a_model_whose_own_parameters_say_stream_streams_on_request_only(client: FlaskClient, world: World) -> None:
    """Jan writes ``"stream": true`` into each ``model.json``."""
    world.write_model(parameters={"stream": True})
    world.engine.script = script
    assert client.post("/v1/chat/completions", json={"model": "tiny", **CHAT}).mimetype == "application/json"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_engine_that_says_nothing_is_no_success(client: FlaskClient, world: World, path: str) -> None:
    """It ends before its first word, whenever it is asked: the stream ends with the error, not as if it were whole."""
    world.engine.script = lambda conversation: None
    response = client.post(path, json={"model": "tiny", "prompt": "x", **CHAT, "stream": True})
    assert response.mimetype == "text/event-stream"
    last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))  # comments come before it
    assert last["error"]["code"] == "engine_crashed"
    assert client.post(path, json={"model": "tiny", "prompt": "x", **CHAT}).status_code == 503
