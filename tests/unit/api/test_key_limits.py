"""A key's limits and usage through the API: what is refused, told and counted, whatever way an answer is asked for."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask import create_app
from janflask.access import slots
from janflask.access.ledger import Ledger
from janflask.api.plumbing.limits import duration
from janflask.ipc.channel import Waitable
from janflask.ipc.clients.supervisor import Watch
from janflask.ipc.messages.engine import Chunk, Started
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World
from tests.unit.api.running import running

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 8}
PROMPT, CACHED, ANSWER = DONE.usage.prompt_tokens, DONE.usage.cached_tokens, DONE.usage.completion_tokens
MakeKey = Callable[..., dict[str, str]]


@pytest.fixture
def make_key(world: World) -> MakeKey:
    """The header of a new key with these limits."""
    return lambda **limits: world.make_key(**limits).header


def used(world: World, key: dict[str, str]) -> tuple[int, int, int, int]:
    """Requests, and tokens of prompts, cached and of answers, of all days."""
    key_id = key["Authorization"].removeprefix("Bearer ")[3:15]
    days = Ledger(world.settings.usage_dir).days(key_id)
    fields = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    return tuple(sum(getattr(day, field) for day in days) for field in fields)  # type: ignore[return-value]


# --- requests and tokens ----------------------------------------------------------------------------------------------


def test_requests_beyond_the_limit_wait(client: FlaskClient, make_key: MakeKey, world: World) -> None:
    key, other = make_key(requests_per_minute=2), make_key()
    first, second, third = (client.get("/v1/threads", headers=key) for _ in range(3))
    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
    assert third.json is not None
    assert third.json["error"]["code"] == "rate_limit_exceeded"
    assert third.json["error"]["type"] == "requests"
    assert 1 <= int(third.headers["Retry-After"]) <= 30
    assert third.headers["x-ratelimit-limit-requests"] == "2"
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert third.headers["x-ratelimit-reset-requests"].endswith("s")
    assert "x-ratelimit-limit-tokens" not in third.headers
    free = client.post("/v1/chat/completions", json=CHAT, headers=other)
    assert free.status_code == 200
    assert not [name for name, _ in free.headers if name.lower().startswith("x-ratelimit")]
    assert used(world, key)[0] == 2


def test_open_pages_and_strangers_take_nothing(client: FlaskClient, make_key: MakeKey, world: World) -> None:
    key = make_key(requests_per_minute=1)
    for _ in range(3):
        assert client.get("/healthz", headers=key).status_code == 200
        assert client.get("/v1/threads", headers={"Authorization": key["Authorization"] + "x"}).status_code == 401
    assert used(world, key) == (0, 0, 0, 0)
    assert client.get("/nowhere", headers=key).status_code == 404
    assert client.get("/nowhere", headers=key).status_code == 429, "what is not there is a request, too"


def test_tokens_are_taken_when_the_answer_has_ended(client: FlaskClient, make_key: MakeKey, world: World) -> None:
    key = make_key(tokens_per_minute=PROMPT + ANSWER)
    first = client.post("/v1/chat/completions", json=CHAT, headers=key)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-remaining-tokens"] == str(PROMPT + ANSWER)
    second = client.post("/v1/chat/completions", json=CHAT, headers=key)
    assert (second.status_code, second.json["error"]["type"]) == (429, "tokens")  # type: ignore[index]
    assert second.headers["x-ratelimit-remaining-tokens"] == "0"
    assert client.get("/v1/threads", headers=key).status_code == 200
    assert len(world.engine.requests) == 1


def test_anthropics_headers_on_its_routes(client: FlaskClient, make_key: MakeKey) -> None:
    key = make_key(requests_per_minute=1, tokens_per_minute=1000)
    answers = [client.post("/v1/messages", json=CHAT, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json["error"]["type"] == "rate_limit_error"  # type: ignore[index]
    for answer in answers:
        assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert answer.headers["anthropic-ratelimit-tokens-limit"] == "1000"
        assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
        assert "x-ratelimit-limit-requests" not in answer.headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0201, "21ms"), (1, "1s"), (1.5, "1.5s"), (59.9994, "60s"), (60, "1m0s"), (361.2, "6m2s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_sdks_know_the_error(server: str, make_key: MakeKey) -> None:
    text = make_key(requests_per_minute=2)["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{server}/v1", api_key=text, max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES)  # type: ignore[arg-type]
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        sdk.models.list()
        with pytest.raises(openai.RateLimitError) as limited:
            sdk.models.list()
        assert limited.value.code == "rate_limit_exceeded"
    with anthropic.Anthropic(base_url=server, auth_token=text, max_retries=0) as claude:
        with pytest.raises(anthropic.RateLimitError):
            claude.messages.create(model="tiny", max_tokens=8, messages=MESSAGES)  # type: ignore[arg-type]


# --- answers at once --------------------------------------------------------------------------------------------------


@pytest.fixture
def held(world: World) -> Iterator[threading.Event]:
    """Answers begin, and go on when this is set."""
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(PROMPT), Chunk(0, "Hel"))
        go_on.wait(20)
        say("lo")(conversation)

    world.engine.script = script
    yield go_on
    go_on.set()


def test_answers_at_once(app: Flask, make_key: MakeKey, held: threading.Event) -> None:
    key, other = make_key(streams=2), make_key(streams=1)
    body = {**CHAT, "stream": True}
    client = app.test_client()
    streams = [client.post("/v1/chat/completions", json=body, headers=key, buffered=False) for _ in range(2)]
    for path in ("/v1/chat/completions", "/v1/messages"):
        refused = client.post(path, json=body, headers=key)
        assert refused.status_code == 429
        assert "under way" in refused.text
        assert refused.headers["Retry-After"] == "1"
    assert client.get("/v1/threads", headers=key).status_code == 200
    with client.post("/v1/chat/completions", json=body, headers=other, buffered=False) as foreign:
        assert foreign.status_code == 200
    streams[0].close()  # the client leaves
    with client.post("/v1/chat/completions", json=body, headers=key, buffered=False) as third:
        assert third.status_code == 200
    streams[1].close()
    held.set()
    for _ in range(3):
        assert client.post("/v1/chat/completions", json=CHAT, headers=key).status_code == 200
        assert client.post("/v1/chat/completions", json={"model": "none"}, headers=key).status_code == 400
        assert client.post("/v1/chat/completions", data=b"x", content_type="text/plain", headers=key).status_code == 415


def test_a_stream_that_is_only_watched_is_one_too(app: Flask, make_key: MakeKey, held: threading.Event) -> None:
    key, client = make_key(streams=1), app.test_client()
    with client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=key, buffered=False):
        assert client.get("/v1/models/tiny/events", headers=key).status_code == 429
    with client.get("/v1/models/tiny/events", headers=key) as events:
        assert events.status_code == 200
    with client.get("/v1/models/tiny/events", headers=key) as events:
        assert events.status_code == 200, "the place was given back"


def test_a_stream_that_is_too_many_is_closed(
    client: FlaskClient, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, closed = make_key(streams=1), threading.Event()
    monkeypatch.setattr(slots, "take", lambda *_: None)
    monkeypatch.setattr(Watch, "close", lambda watch: (closed.set(), Waitable.close(watch)))
    assert client.get("/v1/models/tiny/events", headers=key).status_code == 429
    assert closed.is_set()


def test_answers_that_cannot_be_counted_are_given(
    client: FlaskClient, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(streams=1)

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(slots, "take", full)
    for body in (CHAT, {**CHAT, "stream": True}):
        assert client.post("/v1/chat/completions", json=body, headers=key).status_code == 200
    assert client.get("/v1/models/tiny/events", headers=key).status_code == 200
    assert "could not be counted" in caplog.text


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/messages", CHAT),
        ("/v1/completions", {"model": "tiny", "prompt": "Hi"}),
        ("/v1/responses", {"model": "tiny", "input": "Hi", "store": False}),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_each_kind_of_answer_counts(
    client: FlaskClient, world: World, make_key: MakeKey, path: str, body: Any, is_streamed: bool
) -> None:
    key = make_key()
    with client.post(path, json={**body, "stream": is_streamed}, headers=key) as response:
        assert response.status_code == 200
        assert response.data
    assert used(world, key) == (1, PROMPT, CACHED, ANSWER)


def test_what_is_only_looked_up_takes_no_tokens(client: FlaskClient, world: World, make_key: MakeKey) -> None:
    key = make_key()
    client.post("/v1/tokenize", json={"model": "tiny", "content": "Hello"}, headers=key)
    assert used(world, key) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": "tiny", "input": "Hi"}),
        ("/v1/responses", {"model": "tiny", "input": "Hi", "stream": True}),
        ("/v1/chat/completions", {**CHAT, "store": True}),
        ("/v1/threads/runs", {"model": "tiny", "thread": {"messages": MESSAGES}, "stream": True}),
    ],
)
def test_what_the_runner_carries_out_counts_for_who_asked(
    world: World, make_key: MakeKey, path: str, body: Any
) -> None:
    key, other = make_key(), make_key()
    with running(world):
        client = create_app(world.settings).test_client()
        with client.post(path, json=body, headers=key) as response:
            assert response.status_code == 200
            assert response.data
    assert used(world, key) == (1, PROMPT, CACHED, ANSWER)
    assert used(world, other) == (0, 0, 0, 0)


def test_an_answer_that_is_cut_counts_as_far_as_it_came(
    app: Flask, world: World, make_key: MakeKey, held: threading.Event
) -> None:
    key, client = make_key(), app.test_client()
    with client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=key, buffered=False) as response:
        pieces = response.iter_encoded()
        while b"Hel" not in next(pieces):
            pass
    assert used(world, key) == (1, PROMPT, 0, 1)


def test_nothing_is_counted_without_keys(client: FlaskClient, world: World) -> None:
    assert client.post("/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer x"}).status_code == 200
    assert not world.settings.usage_dir.exists()


def test_a_thread_that_served_a_key_serves_the_next_one_for_itself(
    client: FlaskClient, world: World, make_key: MakeKey
) -> None:
    first, second = make_key(), make_key()
    for key in (first, second):
        client.post("/v1/chat/completions", json=CHAT, headers=key)
    assert used(world, first) == used(world, second) == (1, PROMPT, CACHED, ANSWER)


def test_a_usage_that_cannot_be_written_stops_nobody(
    client: FlaskClient, world: World, make_key: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(requests_per_minute=5)
    world.settings.usage_dir.write_text("a file")
    assert client.post("/v1/chat/completions", json=CHAT, headers=key).status_code == 200
    assert "could not be counted" in caplog.text
