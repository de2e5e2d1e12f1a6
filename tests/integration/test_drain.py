"""SIGTERM: gunicorn with the real application and the fake engine. What is under way ends, then the server does."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gunicorn_world import environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port, wait_for


class Server:
    process: subprocess.Popen[str]

    def __init__(self, url: str) -> None:
        self.url = url

    def status(self, path: str) -> int | None:
        try:
            return httpx.get(self.url + path, timeout=LIMIT).status_code
        except httpx.TransportError:
            return None

    def readiness(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/readyz", timeout=LIMIT).json()
        return found


class Stream(threading.Thread):
    """A streamed completion; ``events`` are its ``data:`` lines as they come."""

    def __init__(self, server: Server, prompt: str) -> None:
        super().__init__(daemon=True)
        self.url, self.prompt = f"{server.url}/v1/completions", prompt
        self.events: list[str] = []
        self.error: Exception | None = None
        self.start()
        wait_for(lambda: bool(self.events))

    def run(self) -> None:
        body = {"model": "m", "prompt": self.prompt, "stream": True}
        try:
            with httpx.stream("POST", self.url, json=body, timeout=LIMIT) as response:
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        self.events.append(line.removeprefix("data: "))
        except httpx.TransportError as error:
            self.error = error

    def text(self) -> str:
        parts = [json.loads(event) for event in self.events if event != "[DONE]"]
        return "".join(choice["text"] for part in parts for choice in part.get("choices", ()))


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    port = free_port()
    env = environment(folder, JANFLASK_PORT=str(port), **settings)
    server = Server(f"http://127.0.0.1:{port}")
    with (folder / "log").open("w") as log:
        with running("wsgi:app", env, lambda: server.status("/readyz") is not None, log, log) as server.process:
            yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("") as folder:
        yield folder


def test_a_stream_under_way_ends_whole(folder: Path) -> None:
    with serving(folder) as server:
        stream = Stream(server, "slow 50")
        server.process.terminate()
        wait_for(lambda: server.status("/livez") is None)
        assert stream.is_alive(), "the port is closed while the answer goes on"
        stream.join(LIMIT)
        assert (stream.error, stream.text(), stream.events[-1]) == (None, "a" * 50, "[DONE]")
        assert server.process.wait(LIMIT) == 0


def test_new_requests_are_answered_for_a_while(folder: Path) -> None:
    with serving(folder, JANFLASK_DRAIN_DELAY="600") as server:
        wait_for(lambda: server.status("/readyz") == 200)
        server.process.terminate()
        wait_for(lambda: server.status("/readyz") == 503)
        assert server.readiness() == {"status": "not_ready", "draining": True, "missing": []}
        assert Stream(server, "hello").text() == "abc"
        assert server.status("/livez") == 200
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0


def test_the_delay_ends_by_itself(folder: Path) -> None:
    with serving(folder, JANFLASK_DRAIN_DELAY="0.5") as server:
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0


def test_what_takes_too_long_is_told_so(folder: Path) -> None:
    with serving(folder, JANFLASK_DRAIN_TIMEOUT="1") as server:
        stream = Stream(server, "slow 600")
        server.process.terminate()
        stream.join(LIMIT)
        assert stream.error is None
        assert "shutting down" in json.loads(stream.events[-1])["error"]["message"]
        assert server.process.wait(LIMIT) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_hurries(folder: Path, second: signal.Signals) -> None:
    with serving(folder, JANFLASK_DRAIN_TIMEOUT="600") as server:
        stream = Stream(server, "slow 6000")
        server.process.terminate()
        wait_for(lambda: server.status("/livez") is None)
        server.process.send_signal(second)
        assert server.process.wait(LIMIT) == 0
        stream.join(LIMIT)
        assert stream.error is None
        assert "shutting down" in json.loads(stream.events[-1])["error"]["message"]


def test_a_control_c_is_quick(folder: Path) -> None:
    with serving(folder, JANFLASK_DRAIN_TIMEOUT="600", JANFLASK_DRAIN_DELAY="600") as server:
        stream = Stream(server, "slow 6000")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT) == 0
        stream.join(LIMIT)
        assert "shutting down" in json.loads(stream.events[-1])["error"]["message"]


def test_a_body_that_does_not_come_holds_no_control_c_up(folder: Path) -> None:
    with serving(folder, JANFLASK_DRAIN_TIMEOUT="600", JANFLASK_UPLOAD_TIMEOUT="600") as server:
        port = httpx.URL(server.url).port or 0
        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n")
            client.sendall(b"Content-Type: application/json\r\n\r\n{")
            wait_for(lambda: server.status("/livez") == 200)
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(LIMIT) == 0


def missing_models(server: Server) -> dict[str, str]:
    return {each["name"]: each["reason"] for each in server.readiness()["missing"] if each["kind"] == "model"}


def test_ready_models_are_started_and_waited_for(folder: Path) -> None:
    model = folder / "data" / "models" / "m" / "m.gguf"
    model.write_text("exit 3")
    with serving(folder, JANFLASK_READY_MODELS="m,nobody") as server:
        wait_for(lambda: missing_models(server).get("m", "").startswith("failed: "))
        assert missing_models(server).keys() == {"m", "nobody"}
        assert "no model" in missing_models(server)["nobody"]
        assert server.status("/healthz") == 200
        model.write_text("")
        assert httpx.put(f"{server.url}/v1/models/m/start", timeout=LIMIT).status_code == 200
        assert missing_models(server).keys() == {"nobody"}
        assert httpx.put(f"{server.url}/v1/models/m/stop", timeout=LIMIT).status_code == 200
        assert missing_models(server).keys() == {"m", "nobody"}


def test_restored_models_are_waited_for(folder: Path) -> None:
    model = folder / "data" / "models" / "m" / "m.gguf"
    with serving(folder) as server:
        assert Stream(server, "hello").text() == "abc"
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0
    model.write_text("exit 3")
    with serving(folder, JANFLASK_RESTORE_MODELS="1") as server:
        wait_for(lambda: missing_models(server).get("m", "").startswith("failed: "))
        model.write_text("")
        assert httpx.put(f"{server.url}/v1/models/m/start", timeout=LIMIT).status_code == 200
        assert server.status("/readyz") == 200
        assert httpx.put(f"{server.url}/v1/models/m/stop", timeout=LIMIT).status_code == 200
        assert server.status("/readyz") == 200, "one that was stopped on purpose is not missed"


def test_a_scrape_counts_every_process(folder: Path) -> None:
    with serving(folder, JANFLASK_WORKERS="3") as server:
        wait_for(lambda: server.status("/readyz") == 200)
        found = httpx.get(f"{server.url}/metrics", timeout=LIMIT).text
        for kind, number in {"master": 1, "worker": 3, "supervisor": 1, "runner": 1, "engine": 0}.items():
            assert f'janflask:processes{{process="{kind}"}} {number}.0' in found
