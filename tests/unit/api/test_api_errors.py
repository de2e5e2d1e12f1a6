"""Every exception class becomes OpenAI's error object with a true status; bad requests are told what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException, default_exceptions

from janflask import create_app, errors
from janflask.api.plumbing.errors import on_http_exception
from janflask.errors import ContextLengthExceededError, JanflaskError, QueueFullError
from janflask.ipc.messages.engine import Started
from janflask.settings import Settings
from tests.fakes.scripted import Conversation
from tests.unit.api.conftest import World

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION: dict[str, Any] = {"model": "tiny", "prompt": "Hi"}


def all_errors(base: type[JanflaskError] = JanflaskError) -> Iterator[type[JanflaskError]]:
    yield base
    for child in base.__subclasses__():
        yield from all_errors(child)


def check_error(body: Any) -> dict[str, Any]:
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def raising(world: World, error: Exception) -> FlaskClient:
    app = create_app(world.settings)

    @app.get("/raise")
    def view() -> str:
        raise error

    return app.test_client()


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
def test_our_errors(world: World, kind: type[JanflaskError]) -> None:
    response = raising(world, kind("what was wrong", param="field")).get("/raise")
    assert response.status_code == kind.status
    error = check_error(response.json)
    assert error == {"message": "what was wrong", "type": kind.type, "param": "field", "code": kind.code}
    assert ("Retry-After" in response.headers) == (kind.status in (429, 503))
    assert response.headers["X-Request-Id"]


def test_every_error_of_the_module_is_tested() -> None:
    named = {item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)}
    assert named <= set(all_errors())


def test_retry_after_is_the_errors_own(world: World) -> None:
    response = raising(world, QueueFullError("full", retry_after=7)).get("/raise")
    assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("kind", default_exceptions.values(), ids=lambda kind: kind.__name__)
def test_werkzeugs_errors(world: World, kind: type[HTTPException]) -> None:
    response = raising(world, kind()).get("/raise")
    assert response.status_code == kind.code
    error = check_error(response.json)
    assert error["type"] == ("server_error" if response.status_code >= 500 else "invalid_request_error")
    assert response.content_type == "application/json"


def test_an_unexpected_error_tells_nothing_but_its_id(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = raising(world, ZeroDivisionError("a secret path")).get("/raise", headers={"X-Request-Id": "abc-1"})
    assert response.status_code == 500
    error = check_error(response.json)
    assert error["code"] == "internal_error"
    assert "abc-1" in error["message"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    logged = next(record for record in caplog.records if record.exc_info)
    assert "abc-1" in logged.getMessage()
    assert logged.exc_info is not None
    assert logged.exc_info[0] is ZeroDivisionError


def test_a_redirect_stays_one(app: Flask) -> None:
    from werkzeug.routing import RequestRedirect

    with app.test_request_context("/"):
        response = on_http_exception(RequestRedirect("/elsewhere"))
    assert response.status_code == 308
    assert response.headers["Location"] == "/elsewhere"


@pytest.mark.parametrize("given", ["abc-1", "a" * 128])
def test_a_request_id_is_taken(client: FlaskClient, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "<script>"])
def test_a_bad_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    made = client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert made != given
    assert len(made) == 32


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/docs/assets/..%2f..%2fflask_swagger_ui.py", 404, "not_found"),
        ("GET", "/docs/assets/index.html", 404, "not_found"),
    ],
)
def test_unknown_routes_and_methods(client: FlaskClient, method: str, path: str, status: int, code: str) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert check_error(response.json)["code"] == code
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"model": NaN}', "application/json", 400, "invalid_json"),
        (b'{"model": "\xff"}', "application/json", 400, "invalid_json"),
        (b'{"model": "\\ud800"}', "application/json", 400, "invalid_json"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_value"),
        (b'"text"', "application/json", 400, "invalid_value"),
        (b"null", "application/json", 400, "invalid_value"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", None, 415, "unsupported_media_type"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_bodies_that_are_no_json_object(
    client: FlaskClient, path: str, body: bytes, content_type: str | None, status: int, code: str
) -> None:
    response = client.post(path, data=body, content_type=content_type)
    assert (response.status_code, check_error(response.json)["code"]) == (status, code)


def test_a_body_that_is_too_large(world: World) -> None:
    client = create_app(Settings(data_dir=world.folder, runtime_dir=world.folder, max_body_mb=1)).test_client()
    response = client.post("/v1/chat/completions", data=b" " * (1 << 20) + b"{}", content_type="application/json")
    assert response.status_code == 413
    assert "1 MiB" in check_error(response.json)["message"]


BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages.0"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": 1, "content": "Hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [5]}]}, "messages.1.content.0"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages.0.content.0.type",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages.0.tool_calls.0.id"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": 1.5}, "top_k"),
    ({"min_p": -1}, "min_p"),
    ({"mirostat": 3}, "mirostat"),
    ({"frequency_penalty": 3}, "frequency_penalty"),
    ({"presence_penalty": -3}, "presence_penalty"),
    ({"repeat_penalty": 0}, "repeat_penalty"),
    ({"dry_sequence_breakers": "x"}, "dry_sequence_breakers"),
    ({"dry_sequence_breakers": ["x", 5]}, "dry_sequence_breakers.1"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 1 << 64}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": "1"}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.0}, "max_tokens"),
    ({"max_completion_tokens": -5}, "max_completion_tokens"),
    ({"stop": 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop.1"),
    ({"stop": ["a"] * 65}, "stop"),
    ({"stream": "true"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": 5}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"logprobs": 5}, "logprobs"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x"),
    ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"1": "5"}}, "logit_bias.1"),
    ({"logit_bias": {"1000": 5}}, "logit_bias"),
    ({"ignore_eos": 1}, "ignore_eos"),
    ({"cache_prompt": "no"}, "cache_prompt"),
    ({"chat_template_kwargs": 5}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tools": [{"type": "function"}], "tool_choice": "auto"}, "tools.0.function"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [{"type": "function"}], "tool_choice": "required"}, "tools.0.function"),
    ({"function_call": {"name": "f"}, "functions": [{}]}, "functions.0.name"),
    ({"functions": [{}]}, "functions.0.name"),
    ({"response_format": {"type": "json"}}, "response_format.type"),
    ({"grammar": "root ::= x"}, "grammar"),
    ({"json_schema": {"not": {}}}, "json_schema.not"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"n_predict": -1}, "n_predict"),
    ({"dry_sequence_breakers": '["a", ""]'}, "dry_sequence_breakers.1"),
    ({"samplers": ["top_k"]}, "samplers"),
]


@pytest.mark.parametrize(("change", "param"), BAD_CHATS, ids=lambda item: str(item)[:60])
@pytest.mark.parametrize("stream", [False, True])
def test_bad_chats(client: FlaskClient, world: World, change: dict[str, Any], param: str, stream: bool) -> None:
    response = client.post("/v1/chat/completions", json={**CHAT, **({"stream": True} if stream else {}), **change})
    if stream and param == "stream_options" and change["stream_options"] == {"include_usage": True}:
        assert response.status_code == 200
        return
    assert response.status_code == 400
    error = check_error(response.json)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert world.engine.requests == []


BAD_COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt.0"),
    ({"prompt": ["a", 5]}, "prompt.1"),
    ({"prompt": [1, "a"]}, "prompt.1"),
    ({"prompt": [1, -1]}, "prompt.1"),
    ({"prompt": [[1], [2, True]]}, "prompt.1.1"),
    ({"prompt": [1, 1000]}, "prompt"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"suffix": "end"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"echo": 1}, "echo"),
    ({"n": 128, "prompt": ["a"] * 17}, "n"),
]


@pytest.mark.parametrize(("change", "param"), BAD_COMPLETIONS, ids=lambda item: str(item)[:60])
def test_bad_completions(client: FlaskClient, world: World, change: dict[str, Any], param: str) -> None:
    response = client.post("/v1/completions", json={**COMPLETION, **change})
    assert response.status_code == 400
    assert check_error(response.json)["param"] == param
    assert world.engine.requests == []


def test_a_message_names_every_mistake(client: FlaskClient) -> None:
    response = client.post("/v1/chat/completions", json={**CHAT, "temperature": 3, "n": 0})
    message = check_error(response.json)["message"]
    assert "temperature must be from 0 to 2" in message
    assert "n must be from 1 to 128" in message


HARMLESS: dict[str, Any] = {
    "tools": [{"type": "function"}],
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "grammar": None,
    "audio": None,
    "user": "me",
    "metadata": {"a": "b"},
    "a_field_of_tomorrow": [1, 2],
    "temperature": None,
    "stop": None,
    "stream_options": None,
    "logit_bias": None,
}


def test_what_asks_for_nothing_is_fine(client: FlaskClient) -> None:
    assert client.post("/v1/chat/completions", json={**CHAT, **HARMLESS}).status_code == 200


@pytest.mark.parametrize("model", ["nobody", "../tiny", "", "a/b", "tiny\n", "." * 5, "x" * 200])
@pytest.mark.parametrize("stream", [False, True])
def test_unknown_models(client: FlaskClient, model: str, stream: bool) -> None:
    response = client.post("/v1/chat/completions", json={**CHAT, "model": model, "stream": stream})
    assert response.status_code == 404
    error = check_error(response.json)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [("/v1/chat/completions", CHAT, "messages"), ("/v1/completions", COMPLETION, "prompt")],
)
def test_a_prompt_that_is_too_long(
    client: FlaskClient, world: World, path: str, body: dict[str, Any], param: str, stream: bool
) -> None:
    def refuse(conversation: Conversation) -> None:
        name = conversation.request.prompt_name
        conversation.fail(ContextLengthExceededError("600 tokens, and the context holds 512", param=name))

    world.engine.script = refuse
    response = client.post(path, json={**body, "stream": stream})
    assert response.status_code == 400
    answered = check_error(response.json)
    assert (answered["code"], answered["param"]) == ("context_length_exceeded", param)
    assert "600" in answered["message"]
    assert "512" in answered["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue(client: FlaskClient, world: World, stream: bool) -> None:
    world.engine.script = lambda conversation: conversation.fail(QueueFullError("64 wait", retry_after=3))
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "3"
    assert check_error(response.json)["type"] == "rate_limit_error"


def test_an_engine_that_dies_before_the_answer(client: FlaskClient, world: World) -> None:
    world.engine.script = lambda conversation: conversation.send(Started(7))
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert check_error(response.json)["code"] == "engine_crashed"


def test_a_chat_template_that_refuses(client: FlaskClient, world: World) -> None:
    body = {**CHAT, "messages": [{"role": "tool", "content": "x"}]}
    from dataclasses import replace

    from tests.fakes.scripted import INFO

    strict = replace(INFO, chat_template="{{ raise_exception('no tools here') }}")
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, strict)
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = check_error(response.json)
    assert (error["param"], error["code"]) == ("messages", "chat_template_error")
    assert "no tools here" in error["message"]
