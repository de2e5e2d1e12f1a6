"""Whoever asks, and whichever way: the engine is told for which key, and what a worker remembers is that key's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from janflask.access.caller import working_for
from janflask.inference.apart import remembered_apart
from janflask.inference.requests import ChatMessage, Tool
from janflask.inference.words.plain import laid_out
from janflask.inference.words.special import SHORT, SpecialWords
from janflask.inference.words.told import Told
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 8}
RUN: dict[str, Any] = {"model": "tiny", "thread": {"messages": MESSAGES}, "assistant_id": "jan"}
TALK = [{"role": role, "content": "word " * 40} for role in ("user", "assistant", "user")]
MANAGED = {"context_management": [{"type": "compaction", "compact_threshold": 300}]}
UNSTORED: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/chat/completions", CHAT, 1),
    ("/v1/messages", CHAT, 1),
    ("/v1/completions", {"model": "tiny", "prompt": ["Hi"] * 12}, 12),  # not all of them at once
    ("/v1/responses", {"model": "tiny", "input": "Hi", "store": False}, 1),
    ("/v1/responses", {"model": "tiny", "input": TALK, "store": False, **MANAGED}, 2),  # a summary comes first
]
STORED: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/responses", {"model": "tiny", "input": "Hi"}, 1),
    ("/v1/responses", {"model": "tiny", "input": TALK, **MANAGED}, 2),
    ("/v1/chat/completions", {**CHAT, "store": True}, 1),
    ("/v1/threads/runs", {**RUN, "stream": True}, 1),
]


@pytest.fixture(autouse=True)
def _room(world: World) -> None:
    """A token of the scripted engine is a byte."""
    world.runs_as(ctx_len=8192)


def ask(client: FlaskClient, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
    with client.post(path, json=body, headers=headers) as response:
        assert response.status_code == 200
        assert response.data


def owners(world: World) -> list[str | None]:
    """Of what the engine was asked since."""
    found = [request.owner for request in world.engine.requests]
    world.engine.requests.clear()
    return found


@pytest.mark.parametrize(("path", "body", "count"), UNSTORED)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_is_not_stored(
    client: FlaskClient, world: World, path: str, body: dict[str, Any], count: int, is_streamed: bool
) -> None:
    body = {**body, "stream": is_streamed}
    ask(client, path, body)
    assert owners(world) == [None] * count, "there are no keys yet"
    first, second = world.make_key(), world.make_key()
    for key in (first, second, first):
        ask(client, path, body, key.header)
        assert owners(world) == [key.id] * count


@pytest.mark.parametrize(("path", "body", "count"), STORED)
def test_what_is_stored(world: World, path: str, body: dict[str, Any], count: int) -> None:
    with running_app(world) as app:
        client = app.test_client()
        first, second = world.make_key(), world.make_key()
        for key in (first, second, first):
            ask(client, path, body, key.header)
            assert owners(world) == [key.id] * count


def test_what_the_server_may_share(world: World) -> None:
    client = create_app(replace(world.settings, share_prefixes=True)).test_client()
    for _ in range(2):
        ask(client, "/v1/chat/completions", CHAT, world.make_key().header)
    assert owners(world) == [None, None]


def test_what_is_only_summed_up(client: FlaskClient, world: World) -> None:
    key = world.make_key()
    ask(client, "/v1/responses/compact", {"model": "tiny", "input": TALK}, key.header)
    assert owners(world) == [key.id]


# --- what a worker remembers ------------------------------------------------------------------------------------------


@pytest.fixture
def of_key() -> Callable[[str | None], None]:
    """Goes on as a request of the key."""
    return lambda key: working_for.set(key) and None


def test_what_is_remembered_is_the_keys_own(of_key: Callable[[str | None], None]) -> None:
    asked = []

    @remembered_apart(2)
    def double(number: int, plus: int) -> int:
        """Twice."""
        asked.append(number)
        return 2 * number + plus

    for key, number in (("one", 1), ("two", 1), ("one", 1), (None, 1)):
        of_key(key)
        assert double(number, 1) == 3
    assert asked == [1, 1, 1], "the second time it was remembered"
    of_key("two")
    assert double(1, 1) == 3
    assert asked == [1, 1, 1, 1], "of all keys together only so many are"
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_words_that_were_looked_at_for_one_key_are_looked_at_for_others(
    of_key: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    places = SpecialWords._places
    monkeypatch.setattr(SpecialWords, "_places", lambda self, text: looked.append(text) or places(self, text))
    words = SpecialWords(["<|im_end|>"])
    short = "s" * (SHORT - 1)
    for key in ("one", "two", "one"):
        of_key(key)
        words.places(short, again=True)
    assert looked == [short] * 2


def test_what_people_say_is_not_remembered_with_the_words_of_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each short message of a day would be."""
    looked = []
    places = SpecialWords._places
    monkeypatch.setattr(SpecialWords, "_places", lambda self, text: looked.append(text) or places(self, text))
    words = SpecialWords(["<|im_end|>"])
    told = Told([ChatMessage.of("user", "Hello.")], [Tool("look", "Looks.", {})], {"style": "kind"})
    for _ in range(2):
        laid_out(told, words, "", lambda _: "a prompt")
    assert looked == ["Hello.", "style", "kind", "look", "Looks.", "Hello.", "style", "kind"]
