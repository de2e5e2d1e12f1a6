"""Streams that are silent for longer than the keep-alive interval, in the official SDKs and in an EventSource."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import make_data_dir
from tests.e2e.server import LIMIT, MODEL, Server, follow_settings, raw_request, serving, wait_for

# The SDK calls what OpenAI itself will stop to serve deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
ENDLESS: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 1900, "ignore_eos": True, "stream": True}
JS = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Iterator[Server]:
    """A server whose model answers one request at a time, and that breaks a silence every 50 ms."""
    folder = follow_settings(make_data_dir(tmp_path_factory.mktemp("single") / "data", starter_gguf))
    with serving(folder, JANFLASK_N_PARALLEL="1", JANFLASK_KEEPALIVE="0.05") as server:
        server.start().raise_for_status()
        yield server


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Nobody else is answered while this lasts."""
    with raw_request(server, ENDLESS):
        wait_for(lambda: server.stats()["busy"] == 1, "the model to be busy")
        yield


def wait_for_silence(server: Server, method: str, path: str, body: Any = None) -> None:
    """Returns when the stream has told of several silences. Others that began before it have had them, too."""
    with httpx.stream(method, server.url + path, json=body, timeout=LIMIT) as response:
        lines = (line for line in response.iter_lines() if line.startswith(":"))
        assert [next(lines) for _ in range(4)]


def new_thread(sdk: openai.OpenAI) -> str:
    thread = sdk.beta.threads.create(messages=MESSAGES)
    return thread.id


def test_a_chat_that_waits(single: Server) -> None:
    with single.sdk() as sdk, ThreadPoolExecutor(1) as pool:
        with busy(single):
            given: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
            asked = pool.submit(lambda: list(sdk.chat.completions.create(**given, stream=True)))
            wait_for(lambda: single.stats()["waiting"] == 1, "the chat to wait")
            wait_for_silence(single, "POST", "/v1/chat/completions", {**given, "stream": True})
        chunks = asked.result(LIMIT)
        assert chunks[0].choices[0].delta.role == "assistant"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == sdk.chat.completions.create(**given).choices[0].message.content


def test_a_run_that_waits(single: Server) -> None:
    with single.sdk() as sdk:
        thread_id = new_thread(sdk)
        with busy(single):
            stream = sdk.beta.threads.runs.create(
                thread_id, assistant_id="jan", model=MODEL, max_completion_tokens=8, temperature=0, stream=True
            )
            first = next(stream)
            assert first.event == "thread.run.created"  # so an `id:` has come
            wait_for_silence(single, "GET", f"/v1/threads/{thread_id}/runs/{first.data.id}/events")
        names = [event.event for event in stream]
        assert names[0] == "thread.run.queued"
        assert names.count("thread.message.delta") >= 1
        assert names[-1] in ("thread.run.completed", "thread.run.incomplete")


def test_a_stream_that_waits_for_its_model(single: Server) -> None:
    single.stop().raise_for_status()
    with single.sdk() as sdk:
        stream = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the packages that it imports."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js with npm is not installed: the JavaScript SDK is not tried")
    folder = tmp_path_factory.mktemp("js")
    shutil.copytree(JS, folder, dirs_exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=150)
    return folder


def test_javascript(single: Server, javascript: Path) -> None:
    with single.sdk() as sdk:
        thread_id = new_thread(sdk)
        plain = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0)
    command = ["node", "streams.mjs", single.url, MODEL, thread_id]
    with subprocess.Popen(command, cwd=javascript, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as node:
        assert node.stdout is not None
        try:
            with busy(single):
                line = node.stdout.readline()
                assert line.startswith(b"{"), line + node.stdout.read()
                run_id = json.loads(line)["run"]
                wait_for(lambda: single.stats()["waiting"] == 2, "the chat and the run to wait")
                wait_for_silence(single, "GET", f"/v1/threads/{thread_id}/runs/{run_id}/events")
            output, _ = node.communicate(timeout=LIMIT)
        finally:
            node.kill()
    assert node.returncode == 0, output
    told = json.loads(output)
    assert told["chat"] == plain.choices[0].message.content
    assert told["names"][:2] == ["thread.run.created", "thread.run.queued"]
    assert told["names"][-1] in ("thread.run.completed", "thread.run.incomplete")
    message = single.get(f"/v1/threads/{thread_id}/messages?limit=1").json()["data"][0]
    assert told["text"] == message["content"][0]["text"]["value"] != ""
    assert [number for number, _ in told["watched"]] == list(range(8, 8 + len(told["watched"])))
    assert "".join(text for _, text in told["watched"]) == told["text"]
