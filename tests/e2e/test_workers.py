"""Several API workers and one engine: who serves, and who holds the model."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import psutil

from tests.e2e.server import MODEL, Server, wait_for

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
MEGABYTE = 1_000_000


def chat(server: Server) -> str:
    """Over a connection of its own, so that any worker may take it."""
    with server.sdk() as sdk:
        answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4)
        return answer.choices[0].message.content or ""


def maps_of(process: psutil.Process) -> list[str]:
    return [mapping.path for mapping in process.memory_maps()]


def test_each_worker_serves_with_the_one_engine(server: Server) -> None:
    first, second = server.workers()
    (engine,) = server.engines()
    for sleeper in first, second:
        sleeper.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda sleeper=sleeper: sleeper.status() == psutil.STATUS_STOPPED, "the worker to sleep")
            assert chat(server)
        finally:
            sleeper.send_signal(signal.SIGCONT)
    assert server.workers() == [first, second]
    assert server.engines() == [engine]
    assert server.model()["runtime"]["pid"] == engine.pid


def test_a_worker_is_small_and_has_nothing_of_the_model(server: Server, sdk: openai.OpenAI) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: chat(server), range(16)))
    for worker in server.workers():
        assert worker.memory_info().rss < 150 * MEGABYTE
        for child in worker.children(recursive=True):  # such as those that render chat templates
            assert not [path for path in maps_of(child) if path.endswith(".gguf")]
        assert not [path for path in maps_of(worker) if path.endswith(".gguf") or "llama" in path or "ggml" in path]
    (engine,) = server.engines()
    assert [path for path in maps_of(engine) if path.endswith(".gguf") or "libllama" in path], "what it looks like"


def test_a_killed_worker_is_replaced_and_the_model_stays(server: Server) -> None:
    (engine,) = server.engines()
    victim, other = server.workers()
    victim.kill()
    wait_for(lambda: len(server.workers()) == 2 and victim not in server.workers(), "another worker")
    for _ in range(4):
        assert chat(server)
    assert other in server.workers()
    assert server.engines() == [engine]
