"""Processes are killed under a server that goes on: the engine, the supervisor, and all workers by a reload."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.conftest import make_data_dir
from tests.e2e.server import LIMIT, MODEL, Server, follow_settings, gone, serving, wait_for

MESSAGES: Any = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Iterator[Server]:
    """A server to break."""
    folder = make_data_dir(tmp_path_factory.mktemp("sturdy") / "data", starter_gguf)
    with serving(follow_settings(folder)) as server:
        yield server


@pytest.fixture
def engine(sturdy: Server) -> psutil.Process:
    """The running model's engine."""
    sturdy.start().raise_for_status()
    (engine,) = sturdy.engines()
    return engine


@pytest.fixture
def sdk(sturdy: Server) -> Iterator[openai.OpenAI]:
    with sturdy.sdk() as client:
        yield client


def stream(sdk: openai.OpenAI, max_tokens: int = 1900) -> openai.Stream[Any]:
    """An answer that does not end before ``max_tokens``."""
    extra = {"ignore_eos": True}
    return sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=max_tokens, stream=True, extra_body=extra
    )


def works(sdk: openai.OpenAI) -> bool:
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4)
    return bool(answer.choices[0].message.content)


def read_some(chunks: Iterator[Any]) -> None:
    for _ in range(3):
        next(chunks)


def test_a_killed_engine_ends_its_streams_and_is_started_again(
    sturdy: Server, engine: psutil.Process, sdk: openai.OpenAI
) -> None:
    others = ThreadPoolExecutor(1)
    whole = others.submit(
        sdk.chat.completions.create,
        model=MODEL,
        messages=MESSAGES,
        max_tokens=1900,
        extra_body={"ignore_eos": True},
    )
    with stream(sdk) as answer, others:
        chunks = iter(answer)
        read_some(chunks)
        wait_for(lambda: sturdy.stats()["busy"] == 2, "both requests to be computed")
        engine.kill()
        with pytest.raises(openai.APIError, match="engine") as caught:
            list(chunks)
        assert caught.value.code == "engine_crashed"
        with pytest.raises(openai.InternalServerError) as caught:
            whole.result(LIMIT)
        assert caught.value.code == "engine_crashed"
        assert isinstance(caught.value, openai.APIStatusError)
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert works(sdk), "the next request waits for the model's return"
    (successor,) = sturdy.engines()
    assert successor != engine
    assert sturdy.model()["runtime"]["restarts"] == 1


def test_a_killed_supervisor_takes_its_engine_along_and_both_come_back(
    sturdy: Server, engine: psutil.Process, sdk: openai.OpenAI
) -> None:
    supervisor, workers = sturdy.supervisor(), sturdy.workers()
    with stream(sdk) as answer:
        chunks = iter(answer)
        read_some(chunks)
        supervisor.kill()
        with pytest.raises(openai.APIError) as caught:
            list(chunks)
        assert caught.value.code == "engine_crashed"
    assert works(sdk), "the next request waits for the supervisor's return"
    assert gone([engine, supervisor], LIMIT)
    (successor,) = sturdy.engines()
    assert successor.parent() == sturdy.supervisor() != supervisor
    assert sturdy.workers() == workers


def test_a_reload_under_load_loses_nothing(sturdy: Server, engine: psutil.Process, sdk: openai.OpenAI) -> None:
    """Streams that are under way finish in the old workers; new requests never fail; the model stays."""
    before = sturdy.workers()
    streams = [stream(sdk, 150) for _ in range(3)]
    chunks = [iter(answer) for answer in streams]
    for answer in chunks:
        read_some(answer)
    stop = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        whole = [pool.submit(list, answer) for answer in chunks]
        requests = [pool.submit(keep_asking, sturdy, stop) for _ in range(2)]
        try:
            sturdy.process.send_signal(signal.SIGHUP)
            wait_for(lambda: sturdy.workers() and not set(sturdy.workers()) & set(before), "new workers alone")
        finally:
            stop.set()
        for rest in whole:
            assert rest.result(LIMIT)[-1].choices[0].finish_reason == "length"
        assert all(request.result(LIMIT) > 0 for request in requests)
    assert works(sdk)
    assert sturdy.engines() == [engine]


def keep_asking(server: Server, stop: threading.Event) -> int:
    """Requests one after the other, each over a connection of its own; how many were answered. None may fail."""
    answered = 0
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}
    while not stop.is_set():
        httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=LIMIT).raise_for_status()
        answered += 1
        time.sleep(0.02)
    return answered


def test_a_stop_ends_the_requests_under_way(sturdy: Server, engine: psutil.Process, sdk: openai.OpenAI) -> None:
    with stream(sdk) as answer:
        chunks = iter(answer)
        read_some(chunks)
        assert sturdy.stop().json()["state"] == "stopped"
        with pytest.raises(openai.APIError) as caught:
            list(chunks)
    assert caught.value.code == "model_stopped"
    assert gone([engine], LIMIT)
    assert works(sdk), "the next request starts it again"
