"""SIGKILL of an engine, the runner, a worker or everything in mid-run, again and again: nothing is lost or doubled."""

from __future__ import annotations

import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.run_events import events, text_of, watched
from tests.e2e.server import LIMIT, MODEL, Server, serving, wait_for

MOMENTS = 50
VICTIMS = ("engine", "runner", "worker", "everything")
TOKENS = 60
FINAL = {"completed", "incomplete"}  # nothing fails for good, since somebody always goes on


class Restarting:
    """A server on one data folder, started again after everything was killed."""

    def __init__(self, data_dir: Path, stack: ExitStack) -> None:
        self._data_dir = data_dir
        self._stack = stack
        self.server = self._start()

    def kill(self, victim: str) -> None:
        if victim == "everything":
            self.server.kill()
            self.server = self._start()
        for process in self._of_kind(victim):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def _start(self) -> Server:
        return self._stack.enter_context(serving(self._data_dir, JANFLASK_WORKERS="2"))

    def _of_kind(self, victim: str) -> list[psutil.Process]:
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        words = {child: " ".join(child.cmdline()) for child in children}
        if victim == "engine":
            return [child for child in children if words[child].endswith("-m janflask.engine")]
        if victim == "runner":
            return [child for child in children if words[child].endswith("-m janflask.runner")]
        return [child for child in children if "gunicorn" in words[child]][:1] if victim == "worker" else []


class Listener(threading.Thread):
    """Makes a streamed run, and keeps what it hears until the connection breaks."""

    def __init__(self, server: Server, thread_id: str, **fields: Any) -> None:
        super().__init__(daemon=True)
        self._body = {"model": MODEL, "stream": True, "temperature": 0, "ignore_eos": True, **fields}
        self._url = f"{server.url}/v1/threads/{thread_id}/runs"
        self.heard: list[tuple[int, str, Any]] = []
        self.begun = threading.Event()

    def run(self) -> None:
        with (
            suppress(httpx.TransportError),
            httpx.stream("POST", self._url, json=self._body, timeout=LIMIT) as response,
        ):
            for event in events(response):
                self.heard.append(event)
                self.begun.set()
        self.begun.set()

    @property
    def run_id(self) -> str | None:
        """Once the server has acknowledged it."""
        return next((str(data["id"]) for _, name, data in self.heard if name == "thread.run.created"), None)


@pytest.fixture
def restarting(own_dir: Path) -> Iterator[Restarting]:
    with ExitStack() as stack:
        yield Restarting(own_dir, stack)


def test_sigkill_at_random_moments(restarting: Restarting) -> None:
    rng = random.Random(5)
    for number in range(MOMENTS):
        restarting.server.start().raise_for_status()
        body = {"messages": [{"role": "user", "content": f"Count from {number} upwards."}]}
        thread_id = restarting.server.post("/v1/threads", json=body).json()["id"]
        listener = Listener(restarting.server, thread_id, max_completion_tokens=TOKENS)
        listener.start()
        if rng.random() < 0.8:  # or before anybody has heard of it
            assert listener.begun.wait(LIMIT)
        threading.Event().wait(rng.random() * 0.5)
        restarting.kill(rng.choice(VICTIMS))
        wait_for(lambda: restarting.server.answers(), "the server")
        listener.join(LIMIT)
        check(restarting.server, thread_id, listener)


def test_the_form_of_an_answer_outlives_everything(restarting: Restarting) -> None:
    restarting.server.start().raise_for_status()
    body = {"messages": [{"role": "user", "content": "Say some numbers."}]}
    thread_id = restarting.server.post("/v1/threads", json=body).json()["id"]
    listener = Listener(restarting.server, thread_id, regex="([0-9]{3}, ){30}and [0-9]", max_completion_tokens=500)
    listener.start()
    wait_for(lambda: len(text_of(listener.heard)) > 9, "its first words")
    restarting.kill("everything")
    listener.join(LIMIT)
    assert len(text_of(listener.heard)) < 150, "it was killed in the middle"
    wait_for(lambda: restarting.server.answers(), "the server")
    check(restarting.server, thread_id, listener)
    reply = restarting.server.found(f"/v1/threads/{thread_id}/messages?limit=1&run_id={listener.run_id}")["data"][0]
    assert re.fullmatch("([0-9]{3}, ){30}and [0-9]", reply["content"][0]["text"]["value"])


def test_a_message_gets_more_words_once(restarting: Restarting) -> None:
    rng = random.Random(7)
    for number, victim in enumerate(VICTIMS * 3):
        restarting.server.start().raise_for_status()
        begun = {"role": "assistant", "content": f"Of course: {number},"}
        body = {"messages": [{"role": "user", "content": f"Count from {number} upwards."}, begun]}
        thread_id = restarting.server.post("/v1/threads", json=body).json()["id"]
        listener = Listener(restarting.server, thread_id, max_completion_tokens=TOKENS, continue_last=True)
        listener.start()
        assert listener.begun.wait(LIMIT)
        threading.Event().wait(rng.random() * 0.5)
        restarting.kill(victim)
        wait_for(lambda: restarting.server.answers(), "the server")
        listener.join(LIMIT)
        check(restarting.server, thread_id, listener)
        answer = restarting.server.found(f"/v1/threads/{thread_id}/messages?order=asc")["data"][1]
        said = answer["content"][0]["text"]["value"]
        assert said.startswith(begun["content"])
        assert said.count(begun["content"]) == 1
        assert len(said) > len(begun["content"])


def check(server: Server, thread_id: str, listener: Listener) -> None:
    """One reply at most, which begins with what was heard; the run has ended, and the thread can go on."""
    runs = lambda: server.found(f"/v1/threads/{thread_id}/runs")["data"]  # noqa: E731 - a question asked again and again
    if listener.run_id is not None:
        assert [run["id"] for run in runs()] == [listener.run_id]
    wait_for(lambda: all(run["status"] in FINAL for run in runs()), "the run's end")
    messages = server.found(f"/v1/threads/{thread_id}/messages?order=asc")["data"]
    assert [message["role"] for message in messages] == ["user", *["assistant" for _ in runs()]]
    if messages[1:]:
        said = messages[1]["content"][0]["text"]["value"]
        told = watched(server, thread_id, messages[1]["run_id"])
        assert text_of(told) == said
        heard = [event for event in listener.heard if event[0] > 0]
        assert [event[:2] for event in told[: len(heard)]] == [event[:2] for event in heard]
        assert said.startswith(text_of(heard))
    body = {"model": MODEL, "max_completion_tokens": 2, "additional_messages": [{"role": "user", "content": "Go on."}]}
    answer = server.post(f"/v1/threads/{thread_id}/runs", json=body)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: all(run["status"] in FINAL for run in runs()), "the next run's end")
