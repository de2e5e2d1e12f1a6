"""The CLI's HTTP client: URLs, and server-sent events however they come."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

import click
import pytest

from janflask.cli.answer import THINKING
from janflask.cli.chat import Conversation
from janflask.cli.client import Client, Event, error_of, model_path, parse_events, server_url
from janflask.settings import Settings


def events(text: str) -> list[Event]:
    return list(parse_events(text.encode().splitlines(keepends=True)))


def test_an_event_is_its_data_lines() -> None:
    assert events('data: {"a": 1}\n\ndata:two\r\ndata: lines\r\n\r\n') == [Event('{"a": 1}'), Event("two\nlines")]


def test_comments_come_at_once_even_within_an_event() -> None:
    assert events(": loading 40 %\n\n:\ndata: x\n: still\n\n") == [
        Event("loading 40 %", comment=True),
        Event("", comment=True),
        Event("still", comment=True),
        Event("x"),
    ]


def test_other_fields_are_ignored_and_an_unfinished_event_is_dropped() -> None:
    assert events("event: x\nid: 1\nretry: 5\n\ndata: kept\n\ndata: cut") == [Event("kept")]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("https://h/jan/v1/", "https://h/jan"),
        ("localhost:1337", "http://localhost:1337"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_a_url_with_or_without_v1_is_the_same_server(given: str, shown: str) -> None:
    assert Client(given).url == shown


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:port", "http://h:99999", ""])
def test_what_is_no_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(click.BadParameter):
        Client(url)


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä", "a\r\nX: y"])
def test_a_key_that_cannot_be_sent_is_wrong_usage_and_not_shown(key: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        Client("localhost", key)
    assert not key or key not in caught.value.message


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1337"),
        ("0.0.0.0", "http://127.0.0.1:1337"),
        ("::", "http://[::1]:1337"),
        ("::1", "http://[::1]:1337"),
        ("box.lan", "http://box.lan:1337"),
    ],
)
def test_where_a_server_is_reached(host: str, url: str) -> None:
    assert server_url(dataclasses.replace(Settings(), host=host)) == url
    for secured in ({"tls_self_signed": True}, {"tls_cert": Path("server.crt")}):
        settings = dataclasses.replace(Settings(), host=host, **secured)  # type: ignore[arg-type]
        assert server_url(settings) == url.replace("http:", "https:")


def test_an_id_is_one_path_segment_whatever_it_holds() -> None:
    assert model_path("../a/b?c#d", "/start") == "/models/..%2Fa%2Fb%3Fc%23d/start"


@pytest.mark.parametrize("body", [None, [], {"error": "text"}, {"detail": 1}])
def test_an_error_of_another_shape_falls_back(body: object) -> None:
    assert error_of(body, status=502, fallback="it answered 502").message == "it answered 502"


def test_an_openai_shaped_error_is_taken_apart() -> None:
    error = error_of({"error": {"message": "no", "code": "queue_full"}}, status=429, fallback="x")
    assert (error.message, error.code, error.status, error.exit_code) == ("no", "queue_full", 429, 1)


def test_a_conversation_tells_that_the_model_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = [{"role": "assistant", "content": ""}, {"reasoning_content": "Hm"}, {"content": "Hello"}]
    lines = [Event(json.dumps({"choices": [{"delta": delta}]})) for delta in deltas]
    client = Client("http://localhost:1")
    monkeypatch.setattr(client, "stream", lambda path, body: nullcontext(lines))
    conversation = Conversation(client, "tiny", None, {})
    assert list(conversation.ask("Hi")) == [Event(THINKING, comment=True), Event("Hello")]
    assert conversation.messages[-1] == {"role": "assistant", "content": "Hello"}
