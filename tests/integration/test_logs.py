"""What real processes log: JSON with request ids, and never what was asked, answered, or sent as a key."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.test_drain import Server, serving
from tests.integration.test_drain import folder as folder
from tests.integration.waiting import LIMIT, wait_for

SECRET = "Xylophonwort"
PARTS = frozenset({"content", "text", "prompt", "input", "instructions", "suffix", "title", "name", "description"})


def marked(value: Any, *, everywhere: bool) -> Any:
    """An example with the secret in what people write, or in every text and name that it holds."""
    if isinstance(value, dict):
        return {
            name: f"{inner} {SECRET}"
            if isinstance(inner, str) and name in PARTS
            else marked(inner, everywhere=everywhere)
            for name, inner in value.items()
        } | ({SECRET: SECRET} if everywhere else {})
    if isinstance(value, list):
        return [marked(inner, everywhere=everywhere) for inner in value]
    return f"{value} {SECRET}" if everywhere and isinstance(value, str) else value


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Method, path with the model's id in it, example of a body."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            example = content.get("example") or next(iter(content.get("examples", {}).values()), {}).get("value")
            yield method, path.replace("{model_id}", "m").replace("{", "").replace("}", ""), example


def logs(folder: Path) -> str:
    return "\n".join(path.read_text("utf-8", "replace") for path in [folder / "log", *folder.glob("data/logs/*")])


def send_nonsense(server: Server) -> None:
    """What is no HTTP, or no JSON, or too much of it."""
    port = httpx.URL(server.url).port or 0
    host = f"Host: 127.0.0.1:{port}\r\n"
    for text in (
        f"{SECRET} {SECRET} {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}Bad Header {SECRET}\r\n\r\n",
        f"POST /v1/chat/completions HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{SECRET}\r\n\r\n",
        f"GET /v1/models?x={SECRET} HTTP/9\r\n{host}\r\n",
        f"POST /v1/chat/completions HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\n{{}}{SECRET} my words\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            client.sendall(text.encode())
            client.settimeout(LIMIT)
            with suppress(ConnectionError):
                while client.recv(65536):
                    pass
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/threads"):
        for body in (f'{{"{SECRET}": ', f'"{SECRET}"', f'{{"model": "{SECRET}"}}', SECRET):
            httpx.post(server.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=LIMIT)


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_word_of_anybody_is_in_any_log(folder: Path, form: str) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "X-Secret": SECRET}
    with serving(folder, JANFLASK_LOG_FORMAT=form, JANFLASK_LOG_LEVEL="debug", JANFLASK_REQUEST_TIMEOUT="2") as server:
        with httpx.Client(base_url=server.url, headers=headers, timeout=LIMIT) as client:
            document = client.get("/openapi.json").json()
            statuses = set()
            for method, path, example in operations(document):
                if path in ("/v1/models", "/v1/models/m/stop", "/v1/models/m") and method != "get":
                    continue  # the model stays
                for body in (marked(example, everywhere=False), marked(example, everywhere=True)):
                    if isinstance(body, dict) and "model" in body:
                        body["model"] = "m"
                    statuses.add(client.request(method, path, json=body).status_code)
            for prompt in (f"{SECRET}", "error", f"error {SECRET}"):
                for stream in (False, True):
                    client.post("/v1/completions", json={"model": "m", "prompt": prompt, "stream": stream})
        assert {200, 400, 404} <= statuses
        send_nonsense(server)
        server.process.terminate()
        server.process.wait(LIMIT)
    found = [line for line in logs(folder).splitlines() if SECRET in line]
    assert found == []
    assert len(logs(folder).splitlines()) > 50 or form == "text"


def test_each_process_says_which_request_it_works_for(folder: Path) -> None:
    with serving(folder, JANFLASK_LOG_FORMAT="json", JANFLASK_LOG_LEVEL="debug") as server:
        headers = {"X-Request-Id": "req-abc"}
        body = {"model": "m", "prompt": "hello"}
        assert httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=LIMIT).status_code == 200
        wait_for(lambda: "req-abc" in (folder / "log").read_text())
        time.sleep(0.1)
        server.process.terminate()
        server.process.wait(LIMIT)
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
    assert {"master", "worker", "supervisor"} <= {line["process"] for line in lines}
    (access,) = [line for line in lines if line.get("request_id") == "req-abc" and "route" in line]
    assert (access["method"], access["route"], access["status"]) == ("POST", "/v1/completions", 200)
    assert access["seconds"] > 0


@pytest.mark.parametrize("form", ["json", "text"])
def test_prompts_and_answers_are_logged_where_somebody_asks_for_it(folder: Path, form: str) -> None:
    with serving(folder, JANFLASK_LOG_FORMAT=form, JANFLASK_LOG_LEVEL="error", JANFLASK_LOG_PROMPTS="1") as server:
        headers, body = {"X-Request-Id": "req-words"}, {"model": "m", "prompt": f"{SECRET}\nand more"}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=LIMIT)
        said = answer.json()["choices"][0]["text"]
        server.process.terminate()
        server.process.wait(LIMIT)
    lines = (folder / "log").read_text().splitlines()
    spoken = [json.loads(line) if form == "json" else {"message": line} for line in lines if "req-words" in line]
    words = [line["message"].partition("req-words: ")[2] for line in spoken]
    assert words == [
        f'm asked: {{"prompts": ["{SECRET}\\nand more"]}}',
        f'm answered: {{"choices": [{json.dumps({"text": said})}]}}',
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_that_it_does_so_is_said_at_the_start(folder: Path, form: str) -> None:
    with serving(folder, JANFLASK_LOG_FORMAT=form, JANFLASK_LOG_PROMPTS="1") as server:
        server.process.terminate()
        server.process.wait(LIMIT)
    (line,) = [line for line in (folder / "log").read_text().splitlines() if "JANFLASK_LOG_PROMPTS" in line]
    assert "warning" in line.lower()


@pytest.mark.parametrize("who", ["gunicorn", "janflask.runner", "janflask.supervisor"])
def test_a_process_that_dies_in_a_library_says_where(folder: Path, who: str) -> None:
    with serving(folder) as server:
        victim = next(
            one for one in psutil.Process(server.process.pid).children(recursive=True) if who in one.cmdline()
        )
        os.kill(victim.pid, signal.SIGSEGV)
        wait_for(lambda: "Segmentation fault" in logs(folder))
        wait_for(lambda: "(most recent call first)" in logs(folder))
