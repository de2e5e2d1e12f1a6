"""What is on the wire while an answer is streamed, and what happens when the client leaves."""

from __future__ import annotations

import json
import logging
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server

from janflask import create_app
from janflask.errors import ModelLoadError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from tests.fakes.scripted import DONE, PATIENCE, Conversation, Script, say
from tests.unit.api.conftest import World

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
COMPLETION: dict[str, Any] = {"model": "tiny", "prompt": "Hi", "stream": True}


def pieces(client: FlaskClient, path: str, body: dict[str, Any]) -> tuple[Any, Iterator[bytes]]:
    response = client.post(path, json=body, buffered=False)
    return response, iter(response.response)  # type: ignore[arg-type]


def events(text: str) -> list[Any]:
    """The JSON of each event; comments left out."""
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(":"))
    blocks = [block for block in text.split("\n\n") if block]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def test_the_bytes_of_a_chat(client: FlaskClient, world: World) -> None:
    world.engine.script = say('a "quote"\n', "é🙂</s>")
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert response.content_type.startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert response.text.endswith("data: [DONE]\n\n")
    head = {key: chunks[0][key] for key in ("id", "object", "created", "model", "system_fingerprint")}
    assert head["object"] == "chat.completion.chunk"
    assert head["id"].startswith("chatcmpl-")
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": 'a "quote"\n'}, None),
        ({"content": "é🙂</s>"}, None),
        ({}, "stop"),
    ]
    expected = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    timings = chunks[-1].pop("timings")
    assert timings["cache_n"] == 4
    assert chunks == expected


def test_the_bytes_of_a_completion(client: FlaskClient, world: World) -> None:
    response = client.post("/v1/completions", json={**COMPLETION, "stream_options": {"include_usage": True}})
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": " world", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None, None, None]
    assert chunks[-1]["usage"]["total_tokens"] == 10
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_what_comes_together_is_written_together(client: FlaskClient, world: World) -> None:
    _, body = pieces(client, "/v1/chat/completions", CHAT)
    written = list(body)
    assert b"".join(written).count(b"data: ") == 5
    assert len(written) <= 2


@pytest.mark.usefixtures("impatient")
def test_comments_while_nothing_is_said(client: FlaskClient, world: World) -> None:
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        go_on.wait(PATIENCE)
        conversation.send(Chunk(0, "x"), Finished(0, "stop"), DONE)

    world.engine.script = script
    _, body = pieces(client, "/v1/chat/completions", CHAT)
    assert next(body).startswith(b'data: {"id":"chatcmpl-')
    assert [next(body), next(body)] == [b": keep-alive\n"] * 2
    go_on.set()
    rest = b"".join(body)
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.usefixtures("impatient")
def test_comments_from_the_start_while_the_model_loads(client: FlaskClient, world: World) -> None:
    world.supervisor.states.clear()
    world.supervisor.may_start.clear()
    response, body = pieces(client, "/v1/chat/completions", CHAT)
    assert response.status_code == 200
    assert [next(body), next(body)] == [b": loading the model\n"] * 2
    world.supervisor.may_start.set()
    rest = b"".join(body).decode()
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events(rest)[:-1]) == "Hello world"


def test_a_load_that_fails_in_a_stream(client: FlaskClient, world: World) -> None:
    world.supervisor.states.clear()
    world.supervisor.refusal = ModelLoadError("the file is truncated")
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert events(response.text) == [
        {
            "error": {
                "message": "the file is truncated",
                "type": "server_error",
                "param": None,
                "code": "model_load_failed",
            }
        }
    ]


def test_a_load_that_fails_without_a_stream_is_a_status(client: FlaskClient, world: World) -> None:
    world.supervisor.states.clear()
    world.supervisor.refusal = ModelLoadError("the file is truncated")
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": False})
    assert response.status_code == 500


def test_an_unexpected_error_in_mid_stream(
    client: FlaskClient, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> bytes:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("janflask.api.answers.chunks.ChatChunks.finish", broken)
    with caplog.at_level(logging.ERROR):
        response = client.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": "abc-2"})
    last = events(response.text)[-1]
    assert last["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert any("abc-2" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("impatient")
def test_a_silent_engine_is_given_up(world: World) -> None:
    left: queue.Queue[bool] = queue.Queue()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        left.put(conversation.is_closed_by_peer())

    world.engine.script = script
    client = create_app(replace(world.settings, request_timeout=0.2)).test_client()
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": False})
    assert response.status_code == 503
    assert response.json is not None
    assert response.json["error"]["code"] == "timeout"
    assert left.get(timeout=PATIENCE)


def test_a_response_that_is_not_read_to_its_end_cancels(client: FlaskClient, world: World) -> None:
    left: queue.Queue[bool] = queue.Queue()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "x"))
        left.put(conversation.is_closed_by_peer())

    world.engine.script = script
    response, body = pieces(client, "/v1/chat/completions", CHAT)
    next(body)
    response.close()
    assert left.get(timeout=PATIENCE)


# --- a client that leaves, over real sockets; the keep-alive is so rare that it can't be what notices ---------------


class KeepAliveHandler(WSGIRequestHandler):
    """Leaves a connection open after an answer: closing it over unread bytes could take the answer back."""

    protocol_version = "HTTP/1.1"


@pytest.fixture
def quiet_server(world: World) -> Iterator[tuple[str, int]]:
    app: Flask = create_app(replace(world.settings, keepalive=3600.0))
    httpd = make_server("127.0.0.1", 0, app, threaded=True, request_handler=KeepAliveHandler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield "127.0.0.1", httpd.server_port
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def send_request(address: tuple[str, int], path: str, body: dict[str, Any]) -> socket.socket:
    payload = json.dumps(body).encode()
    head = f"POST {urlsplit(path).path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(address, timeout=PATIENCE)
    connection.sendall(head.encode() + f"Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
    return connection


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to and with ``end``, or to the end of the stream."""
    received = b""
    while end not in received and (data := connection.recv(65536)):
        received += data
    return received


@pytest.mark.parametrize("first", [[Started(7)], [Started(7), Chunk(0, "x")], []], ids=["queued", "running", "sent"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_a_client_that_leaves_in_silence_cancels(
    world: World, quiet_server: tuple[str, int], path: str, body: dict[str, Any], stream: bool, first: list[Any]
) -> None:
    entered = threading.Event()
    left: queue.Queue[bool] = queue.Queue()

    def script(conversation: Conversation) -> None:
        if first:
            conversation.send(*first)
        entered.set()
        left.put(conversation.is_closed_by_peer())

    world.engine.script = script
    connection = send_request(quiet_server, path, {**body, "stream": stream})
    assert entered.wait(PATIENCE)
    connection.close()
    assert left.get(timeout=PATIENCE)


def test_a_client_that_leaves_cancels_all_its_prompts(world: World, quiet_server: tuple[str, int]) -> None:
    entered: queue.Queue[bool] = queue.Queue()
    left: queue.Queue[bool] = queue.Queue()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        entered.put(True)
        left.put(conversation.is_closed_by_peer())

    world.engine.script = script
    connection = send_request(quiet_server, "/v1/completions", {**COMPLETION, "stream": False, "prompt": ["a"] * 5})
    for _ in range(5):
        assert entered.get(timeout=PATIENCE)
    connection.close()
    assert [left.get(timeout=PATIENCE) for _ in range(5)] == [True] * 5


def test_a_client_that_leaves_while_the_model_loads(world: World, quiet_server: tuple[str, int]) -> None:
    """The start goes on; the request is not sent to the engine."""
    world.supervisor.states.clear()
    world.supervisor.may_start.clear()
    connection = send_request(quiet_server, "/v1/chat/completions", CHAT)
    assert b": loading the model" in read_until(connection, b": loading the model")
    connection.close()
    with send_request(quiet_server, "/v1/chat/completions", {**CHAT, "stream": False}) as second:
        world.supervisor.may_start.set()
        assert b"Hello world" in read_until(second, b'"finish_reason"')
    assert len(world.engine.requests) == 1


def test_a_client_that_stops_reading_is_given_up(
    world: World, quiet_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays connected: only that it takes nothing tells that it must not hold a thread any longer."""
    monkeypatch.setattr("janflask.api.plumbing.context.STALLED", 0.5)
    left: queue.Queue[bool] = queue.Queue()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        try:
            while True:
                conversation.send(Chunk(0, "x" * 1_000_000))
        except OSError as error:
            left.put(isinstance(error, ConnectionError))

    world.engine.script = script
    with send_request(quiet_server, "/v1/chat/completions", CHAT):
        assert left.get(timeout=PATIENCE)


def test_a_pipelined_request_is_no_lost_client(world: World, quiet_server: tuple[str, int]) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        entered.set()
        go_on.wait(PATIENCE)
        say("done")(conversation)

    world.engine.script = script
    with send_request(quiet_server, "/v1/chat/completions", {**CHAT, "stream": False}) as connection:
        assert entered.wait(PATIENCE)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        go_on.set()
        answer = read_until(connection, b'"finish_reason"')
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"done" in answer


SCRIPTS: dict[str, Script] = {"whole": say("Hello", " world"), "one": say("x")}


@pytest.mark.parametrize("name", SCRIPTS)
def test_streamed_and_whole_answers_say_the_same(client: FlaskClient, world: World, name: str) -> None:
    world.engine.script = SCRIPTS[name]
    whole = client.post("/v1/chat/completions", json={**CHAT, "stream": False}).json
    streamed = events(client.post("/v1/chat/completions", json=CHAT).text)[:-1]
    assert whole is not None
    assert whole["choices"][0]["message"]["content"] == "".join(
        event["choices"][0]["delta"].get("content", "") for event in streamed
    )
    assert streamed[-1]["timings"] == whole["timings"]
