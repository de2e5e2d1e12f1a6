"""What an upstream's refusals mean, in all the forms that servers give them."""

from __future__ import annotations

import email.utils
import json
import time

import pytest

from janflask.errors import (
    ContextLengthExceededError,
    InvalidRequestError,
    JanflaskError,
    QueueFullError,
    UnavailableError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamSetupError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    error_of_kind,
)
from janflask.inference.upstream.problems import Where, nonsense, refusal, retry_seconds, stream_error

WHERE = Where("http://far/v1", "m", "sk-secret")


def refused(status: int, body: object, **headers: str) -> JanflaskError:
    return refusal(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode(), WHERE)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no", "type": "t", "param": None, "code": 400}}, "no"),
        ({"error": "no"}, "no"),
        ({"object": "error", "message": "no", "code": 400}, "no"),
        ({"detail": "no"}, '"no"'),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, '[{"loc":["body"],"msg":"no"}]'),
        (b"<html>no", "<html>no"),
        (b"", "no reason given"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ({"error": None}, '{"error": null}'),
        ([1], "[1]"),
    ],
)
def test_forms_of_a_refusal(body: object, words: str) -> None:
    error = refused(400, body)
    assert type(error) is InvalidRequestError
    assert error.message.replace('": ', '":').replace(", ", ",").endswith(words.replace('": ', '":').replace(", ", ","))
    assert "http://far/v1" in error.message


def test_a_long_text_is_cut_and_the_key_taken_out() -> None:
    error = refused(400, {"error": {"message": "key sk-secret " + "x" * 10_000}})
    assert len(error.message) < 500
    assert "sk-secret" not in error.message


@pytest.mark.parametrize("blank", range(1100, 1200))
def test_no_part_of_the_key_remains_where_a_text_is_cut(blank: int) -> None:
    body = b" " * blank + b"sk-secret"
    assert "sk-" not in refused(400, body).message
    assert "sk-" not in nonsense("a list", body, WHERE).message


@pytest.mark.parametrize(
    ("told", "param"), [("messages", "messages"), ("prompt", "prompt"), ("__proto__", None), (None, None)]
)
def test_only_our_own_names_of_fields_are_passed_on(told: str | None, param: str | None) -> None:
    assert refused(400, {"error": {"message": "no", "param": told}}).param == param


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "x", "code": "context_length_exceeded"}},
        {"error": {"message": "x", "type": "exceed_context_size_error", "code": 400, "n_ctx": 9}},
        {"object": "error", "message": "This model's maximum context length is 9 tokens. However", "code": 400},
        {"error": {"message": "the request exceeds the available context size, try increasing it"}},
    ],
)
def test_a_prompt_that_is_too_long(body: object) -> None:
    assert isinstance(refused(400, body), ContextLengthExceededError)
    assert isinstance(stream_error(json.dumps(body).encode(), WHERE), ContextLengthExceededError)


@pytest.mark.parametrize("status", [400, 404])
def test_a_model_that_it_does_not_have(status: int) -> None:
    for told in (
        {"message": "The model `m` does not exist.", "type": "NotFoundError"},
        {"message": "no", "code": "model_not_found"},
    ):
        error = refused(status, {"error": told})
        assert type(error) is UpstreamSetupError
        assert "http://far/v1 has no model 'm'" in error.message
        assert error.status == 502


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("99999999999", 3600), ("-5", None), ("soon", None), ("", None), ("1.5", None), ("²", None)],
)
def test_retry_after(value: str, seconds: int | None) -> None:
    assert retry_seconds({"retry-after": value}) == seconds


def test_retry_after_as_a_date() -> None:
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 90 <= (retry_seconds({"retry-after": date}) or 0) <= 101
    assert retry_seconds({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0
    assert retry_seconds({}) is None


def test_who_may_try_again_is_told_by_the_class() -> None:
    """A run goes on after an UnavailableError and waits after a QueueFullError; anything else is its end."""
    assert isinstance(refused(503, b"loading"), UnavailableError)
    assert isinstance(refused(429, b"slow down"), QueueFullError)
    for status in (401, 403, 404, 409, 500, 501, 302):
        assert not isinstance(refused(status, b"x"), UnavailableError | QueueFullError)
        assert refused(status, b"x").status == 502


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailableError("x"),
        UpstreamTimeoutError("x"),
        UpstreamBusyError("x"),
        UpstreamError("x"),
        UpstreamSetupError("x"),
    ],
)
def test_they_keep_their_class_between_processes(error: JanflaskError) -> None:
    kind = type(error).__dict__["code"]
    again = error_of_kind(
        kind, "x", param=None, retry_after=None, status=error.status, type=error.type, code=error.code
    )
    assert type(again) is type(error)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"error": {"message": "x", "type": "server_error", "code": "engine_crashed"}}, UpstreamUnavailableError),
        ({"error": {"message": "x", "code": 503}}, UpstreamUnavailableError),
        ({"error": {"message": "x", "code": 500}}, UpstreamError),
        ({"error": {"message": "x", "type": "invalid_request_error", "code": None}}, InvalidRequestError),
        ({"error": {"message": "x", "code": 400}}, InvalidRequestError),
        ({"error": {"message": "x", "code": 401}}, UpstreamSetupError),
        ({"error": "x"}, UpstreamUnavailableError),
        ({"object": "error", "message": "x", "code": 400}, InvalidRequestError),
    ],
)
def test_error_events(event: object, expected: type[JanflaskError]) -> None:
    assert type(stream_error(json.dumps(event).encode(), WHERE)) is expected
