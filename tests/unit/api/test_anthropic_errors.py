"""Errors of /v1/messages have Anthropic's shape whatever raises them, and only there; models have its form, too."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import ModelInfo
from flask.testing import FlaskClient

from janflask.api.answers.anthropic_errors import anthropic_error
from janflask.errors import (
    ConflictError,
    ContextLengthExceededError,
    ForbiddenError,
    JanflaskError,
    QueueFullError,
    UnavailableError,
    UpstreamTimeoutError,
)
from tests.fakes.scripted import Conversation
from tests.unit.api.conftest import World

BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def error_of(response: Any, status: int, kind: str) -> dict[str, Any]:
    """What is wrong; the shape is Anthropic's."""
    assert response.status_code == status
    assert set(response.json) == {"type", "error", "request_id"}
    assert response.json["type"] == "error"
    assert response.json["request_id"] == response.headers["request-id"] == response.headers["X-Request-Id"]
    error: dict[str, Any] = response.json["error"]
    assert set(error) == {"type", "message", "details"}
    assert error["type"] == kind
    return error


@pytest.mark.parametrize("path", ["", "/count_tokens"])
def test_whatever_is_wrong_with_a_request(client: FlaskClient, path: str) -> None:
    url = f"/v1/messages{path}"
    assert error_of(client.post(url), 400, "invalid_request_error")["details"]["error_code"] == "invalid_json"
    error_of(client.post(url, data="{", content_type="application/json"), 400, "invalid_request_error")
    error_of(client.post(url, data="x", content_type="text/plain"), 415, "invalid_request_error")
    missing = error_of(client.post(url, json={**BODY, "model": "nobody"}), 404, "not_found_error")
    assert missing["details"]["error_code"] == "model_not_found"
    error_of(client.get(url), 405, "invalid_request_error")
    error_of(client.post(url, json=BODY, headers={"Origin": "https://evil.example"}), 403, "permission_error")
    error_of(client.post(url, json=BODY, headers={"Host": "evil.example"}), 403, "permission_error")


def test_a_body_that_is_too_large(client: FlaskClient, world: World) -> None:
    client.application.config["MAX_CONTENT_LENGTH"] = 1000
    error_of(client.post("/v1/messages", json={**BODY, "system": "x" * 2000}), 413, "request_too_large")


@pytest.mark.parametrize("path", ["batches", "batches/x/results", "nothing"])
def test_routes_that_are_not_there(client: FlaskClient, path: str) -> None:
    error = error_of(client.post(f"/v1/messages/{path}", json={}), 404, "not_found_error")
    assert "there is no route POST /v1/messages/" in error["message"]


def test_elsewhere_errors_are_openais(client: FlaskClient) -> None:
    for path in ("/v1/messagesx", "/v1/threads/x/messages", "/v1/models/nobody"):
        response = client.get(path)
        assert response.json is not None
        assert set(response.json) == {"error"}
        assert "request-id" not in response.headers or response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueueFullError("full", retry_after=7), 429, "rate_limit_error"),
        (UnavailableError("not now"), 503, "overloaded_error"),
        (ConflictError("stopped"), 409, "conflict_error"),
        (JanflaskError("broken"), 500, "api_error"),
        (UpstreamTimeoutError("silent"), 504, "timeout_error"),
        (ContextLengthExceededError.of(20, 10, "Shorten it."), 400, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses(
    client: FlaskClient, world: World, error: JanflaskError, status: int, kind: str, stream: bool
) -> None:
    """Before the first event an error of a stream is a true status, too."""
    world.engine.script = lambda conversation: conversation.fail(error)
    response = client.post("/v1/messages", json={**BODY, "stream": stream})
    told = error_of(response, status, kind)
    assert told["message"] == error.message
    assert response.headers.get("Retry-After") == {429: "7", 503: "1"}.get(status)


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_know() -> None:
    told = anthropic_error(ContextLengthExceededError.of(20, 10, "Shorten it."), "r")["error"]["message"]
    assert told.startswith("prompt is too long: 20 tokens > 10 maximum")


def test_an_unexpected_error_tells_nothing(client: FlaskClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("janflask.api.views.anthropic.chat_request", fail)
    error = error_of(client.post("/v1/messages", json=BODY), 500, "api_error")
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (QueueFullError("full"), anthropic.RateLimitError),
        (UnavailableError("not now"), anthropic.ServiceUnavailableError),
        (ForbiddenError("no"), anthropic.PermissionDeniedError),
    ],
)
def test_the_sdk_knows_them(claude: anthropic.Anthropic, world: World, error: JanflaskError, kind: Any) -> None:
    def script(conversation: Conversation) -> None:
        conversation.fail(error)

    world.engine.script = script
    with pytest.raises(kind) as caught:
        claude.messages.create(**BODY)
    assert (caught.value.api_message, caught.value.error_code) == (error.message, error.code)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "whatever"},
        {"Authorization": "Bearer whatever"},
        {"anthropic-version": "1999-01-01"},
        {"anthropic-beta": "a-2025-01-01,b-2030-01-01"},
    ],
)
def test_any_key_version_and_beta_will_do(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/messages?beta=true", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_x"}])
def test_threads_of_the_sdk_are_refused_in_a_way_that_it_knows(client: FlaskClient, thread: Any) -> None:
    """What was left out in silence, a client would take for kept: it sends nothing but what is new from then on."""
    error = error_of(client.post("/v1/messages", json={**BODY, "thread": thread}), 400, "invalid_request_error")
    assert error["details"] == {"error_code": "thread_unsupported_request", "param": "thread"}
    assert client.post("/v1/messages", json={**BODY, "thread": False}).status_code == 200


def test_the_sdks_tool_runner_goes_on_without_them(claude: anthropic.Anthropic, world: World) -> None:
    runner = claude.beta.messages.tool_runner(
        model="tiny", max_tokens=9, messages=BODY["messages"], tools=[anthropic.beta_tool(_look)]
    )
    (message,) = list(runner)
    assert [block.to_dict()["text"] for block in message.content] == ["Hello world"]


def _look(at: str) -> str:
    """Looks."""
    return at


def test_the_head_of_the_server(client: FlaskClient) -> None:
    response = client.head("/")
    assert (response.status_code, response.data) == (200, b"")
    assert client.get("/").status_code == 200


def test_models(claude: anthropic.Anthropic, world: World) -> None:
    for name in ("a", "b", "c"):
        world.write_model(name, name=f"Model {name}")
    page = claude.models.list()
    assert [model.id for model in page.data] == ["a", "b", "c", "tiny"]
    assert page.has_more is False
    for model in page.data:
        ModelInfo.model_validate(json.loads(model.model_dump_json()))
    assert {model.id: model.max_input_tokens for model in page.data}["tiny"] == 512
    assert [model.id for model in claude.models.list(limit=3)] == ["a", "b", "c", "tiny"]  # page by page
    before = claude.models.list(before_id="tiny", limit=2)
    assert ([model.id for model in before.data], before.has_more) == (["b", "c"], True)
    found = claude.models.retrieve("a")
    assert (found.id, found.display_name, found.created_at.year) == ("a", "Model a", 2023)
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("nobody")
    for wrong in ({"limit": 0}, {"after_id": "nobody"}):
        with pytest.raises(anthropic.BadRequestError):
            claude.models.list(**wrong)  # type: ignore[arg-type]
