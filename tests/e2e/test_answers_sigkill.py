"""SIGKILL of everything while answers are given, in the background, streamed and as chats: none is lost or doubled.

Several are given at the time of each death, and begun one after another, so that each is at a moment of its own.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.run_events import events
from tests.e2e.server import LIMIT, MODEL, Server, serving, wait_for

MOMENTS = 50  # of responses; those of chats come on top
AT_ONCE = 17
TOKENS = 40
LATEST = 2.0  # seconds after which the last one is begun, and everything dies
FINAL = {"completed", "incomplete"}  # nothing fails for good, since somebody always goes on
KINDS = ("background", "background and streamed", "streamed", "chat")

Told = list[dict[str, Any]]


def told_in(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events or chunks of a stream, as they come."""
    return (data for _, _, data in events(response) if data != "[DONE]")


class Asker(threading.Thread):
    """Asks for one answer after a while, and keeps what it hears until the connection breaks."""

    def __init__(self, server: Server, kind: str, number: int, after: float) -> None:
        super().__init__(daemon=True)
        self.kind, self.words = kind, f"Count from {number} upwards."
        self.path = "/v1/chat/completions" if kind == "chat" else "/v1/responses"
        self.id: str | None = None  # once the server has acknowledged it
        self.told: Told = []
        self._url, self._after = server.url + self.path, after

    def run(self) -> None:
        threading.Event().wait(self._after)
        with (
            suppress(httpx.TransportError),
            httpx.stream("POST", self._url, json=self._body(), timeout=LIMIT) as answer,
        ):
            if "stream" not in self._body():
                answer.read()
                self.id = answer.json()["id"]
                return
            for event in told_in(answer):
                self.told.append(event)
                self.id = self.id or event.get("id") or event["response"]["id"]

    def _body(self) -> dict[str, Any]:
        common = {"model": MODEL, "temperature": 0, "ignore_eos": True}
        if self.kind == "chat":
            messages = [{"role": "user", "content": self.words}]
            return common | {"messages": messages, "max_tokens": TOKENS, "store": True, "stream": True}
        body = common | {"input": self.words, "max_output_tokens": TOKENS, "background": "background" in self.kind}
        return body | {"stream": True} if "streamed" in self.kind else body


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(400)
def test_sigkill_of_everything_at_random_moments(own_dir: Path, stack: ExitStack) -> None:
    rng, numbers = random.Random(8), count(100)
    server = stack.enter_context(serving(own_dir, JANFLASK_WORKERS="2"))
    askers: list[Asker] = []
    while sum(asker.kind != "chat" for asker in askers) < MOMENTS:
        server.start().raise_for_status()
        kinds = [KINDS[place % len(KINDS)] for place in range(AT_ONCE)]
        begun = [Asker(server, kind, next(numbers), rng.random() * LATEST) for kind in kinds]
        for asker in begun:
            asker.start()
        threading.Event().wait(LATEST)
        server.kill()
        for asker in begun:
            asker.join(LIMIT)
            assert not asker.is_alive()
        askers += begun
        server = stack.enter_context(serving(own_dir, JANFLASK_WORKERS="2"))
        wait_for(lambda: all(run["status"] in FINAL for run in stored_runs(own_dir).values()), "the end of all")
        for asker in begun:
            check(server, asker)
    runs = stored_runs(own_dir)
    known = {asker.id for asker in askers if asker.id is not None}
    assert known <= runs.keys(), "none is lost"
    asked = [first_words(file.parents[1]) for file in own_dir.glob("threads/*/runs/*.json")]
    assert len(set(asked)) == len(asked), "none is doubled"
    assert len(known) > MOMENTS // 2, "most were acknowledged before everything died"
    assert any(0 < len(asker.told) < TOKENS for asker in askers), "some were cut in the middle"


def stored_runs(data_dir: Path) -> dict[str, Any]:
    """Those that are on disk, by their ids."""
    return {file.stem: json.loads(file.read_bytes()) for file in data_dir.glob("threads/*/runs/*.json")}


def first_words(thread: Path) -> str:
    with (thread / "messages.jsonl").open("rb") as lines:
        return str(json.loads(next(lines))["content"][0]["text"]["value"])


def check(server: Server, asker: Asker) -> None:
    """What was heard is the beginning of what is told now, from wherever one asks; the thread has it once."""
    if asker.id is None:
        return
    path = f"{asker.path}/{asker.id}"
    whole = told_by(server, path)
    heard = len(asker.told)
    assert [shown(event) for event in whole[:heard]] == [shown(event) for event in asker.told], asker.kind
    after = heard if asker.kind == "chat" else heard - 1  # the numbers of events begin with 0, those of chunks with 1
    if after >= 0:
        rest = told_by(server, f"{path}?stream=true&starting_after={after}")
        assert [shown(event) for event in rest] == [shown(event) for event in whole[heard:]], asker.kind
    said = "".join(words_of(event) for event in whole)
    found = server.found(path)
    if asker.kind == "chat":
        assert found["choices"][0]["message"]["content"] == said
    else:
        assert found["status"] in FINAL
        (message,) = found["output"]
        assert message["content"][0]["text"] == said
    messages = server.found(f"/v1/threads/{server.thread_of(asker.id)}/messages?order=asc")["data"]
    texts = [message["content"][0]["text"]["value"] for message in messages]
    assert texts == [asker.words, said]


def told_by(server: Server, path: str) -> Told:
    url = server.url + path + ("" if "?" in path else "?stream=true")
    with httpx.stream("GET", url, timeout=LIMIT) as answer:
        assert answer.status_code == 200, answer.read()
        return list(told_in(answer))


def shown(event: dict[str, Any]) -> Any:
    """What an event says, without how its response was when it was told."""
    if "choices" in event:
        return event["choices"]
    return {name: value for name, value in event.items() if name != "response"}


def words_of(event: dict[str, Any]) -> str:
    if "choices" in event:
        return event["choices"][0]["delta"].get("content") or ""
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""
