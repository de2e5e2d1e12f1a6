"""``janflask models pull`` against a real HTTP server: what is asked, shown, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from janflask.cli import models_pull
from janflask.cli.models import models
from tests.integration.cli_server import FakeServer, serving

HANG, BREAK = FakeServer.HANG, FakeServer.BREAK
SOURCE = "hf:org/repo:Q4_K_M"
FETCHED = {
    "id": "fetched",
    "status": "downloaded",
    "metadata": {
        "architecture": "llama",
        "parameter_count": 1_240_000_000,
        "quantization": "Q4_K_M",
        "size": 808_000_000,
        "context_length": 131_072,
    },
}
CARD = "fetched (llama, 1.24B, Q4_K_M, 808 MB, 131072 tokens of context)\n"


def event(stage: str | None, transferred: int = 0, *, status: str = "downloading", **more: Any) -> dict[str, Any]:
    """One line of a model's events."""
    download = {"stage": stage, "transferred": transferred, "total": 808_000_000, "percent": transferred / 8_080_000}
    known = {**download, "bytes_per_second": 50e6, "eta_seconds": 12.0, "error": None, **more}
    return {"id": "fetched", "object": "model", "status": status, "error": None, "download": known if stage else None}


DONE = event(None, status="downloaded")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        fake.models["fetched"] = FETCHED
        yield fake


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_pull, "FIRST_NAP", 0.001)
    monkeypatch.setattr(models_pull, "LONGEST_NAP", 0.002)


def pull(server: FakeServer, *args: str) -> Result:
    return CliRunner().invoke(models, ["pull", SOURCE, "--url", server.url, *args])


def test_it_follows_the_download_and_ends_with_the_models_card(server: FakeServer) -> None:
    steps = [event("queued"), event("resolving"), event("downloading", 202_000_000), event("verifying", 808_000_000)]
    server.events = [[b": keep-alive\n", *steps, DONE]]
    result = pull(server)
    assert (result.exit_code, result.stdout) == (0, CARD)
    assert [line.split(", ")[0] for line in result.stderr.splitlines()] == [
        "fetched: queued",
        "fetched: resolving",
        "fetched: downloading",
        "fetched: verifying",
    ]
    assert "202 MB of 808 MB (25 %), 50.0 MB/s, 12s left" in result.stderr
    assert server.requests[0] == ("POST", "/v1/models", {"source_url": SOURCE})


def test_its_options_are_fields_of_the_request(server: FakeServer) -> None:
    server.models["mine"] = {**FETCHED, "id": "mine"}
    server.events = [[DONE]]
    result = pull(server, "--id", "mine", "--name", "My model", "--sha256", "ab" * 32, "--json")
    assert '"id": "mine"' in result.stdout
    assert server.requests[0][2] == {"source_url": SOURCE, "id": "mine", "name": "My model", "sha256": "ab" * 32}
    assert server.requests[1][:2] == ("GET", "/v1/models/mine/events")


def test_a_download_that_fails_ends_with_its_reason(server: FakeServer) -> None:
    failed = event("failed", status="not_downloaded", error="the sha256 is not the one\nthat was given")
    server.events = [[event("downloading", 5), failed]]
    result = pull(server)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == (
        "Error: fetched could not be fetched: the sha256 is not the one that was given"
    )


def test_a_model_that_is_there_already_is_no_failure(server: FakeServer) -> None:
    message = "there is a model fetched already"
    server.refusals["POST /v1/models"] = (409, {"error": {"message": message, "code": "model_exists"}})
    result = pull(server)
    assert (result.exit_code, result.stderr) == (0, f"{message}\n")


def test_a_refused_source_is_one(server: FakeServer) -> None:
    server.refusals["POST /v1/models"] = (400, {"error": {"message": "no such scheme", "code": "unsafe_source"}})
    result = pull(server)
    assert (result.exit_code, result.stderr) == (1, "Error: no such scheme\n")


def test_a_cancelled_download_is_told(server: FakeServer) -> None:
    server.events = [[event("downloading", 5), event(None, status="not_downloaded")]]
    result = pull(server)
    assert result.exit_code == 1
    assert "the download of fetched was cancelled" in result.stderr


def test_a_stream_that_breaks_is_taken_up_again(server: FakeServer) -> None:
    """Broken in the middle, ended early, refused for a moment: the download itself goes on in the server."""
    server.events = [
        [event("downloading", 100), BREAK],
        [event("downloading", 200)],
        [503],
        [{"error": {"message": "the supervisor is not there"}}],
        [event("verifying", 808_000_000), DONE],
    ]
    result = pull(server)
    assert (result.exit_code, result.stdout) == (0, CARD)
    assert [path for _, path, _ in server.requests].count("/v1/models/fetched/events") == 5


def test_a_model_that_is_gone_when_the_stream_comes_back_was_cancelled(server: FakeServer) -> None:
    server.events = [[event("downloading", 100), BREAK], [404]]
    result = pull(server)
    assert (result.exit_code, "the download of fetched was cancelled" in result.stderr) == (1, True)


def test_another_refusal_ends_it(server: FakeServer) -> None:
    server.events = [[403]]
    result = pull(server)
    assert (result.exit_code, result.stderr) == (1, "Error: refused with 403\n")


def test_a_server_that_stays_away_is_given_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_pull, "GIVE_UP", 0.0)
    server.events = [[{"error": {"message": "the supervisor is not there"}}]]
    result = pull(server)
    assert result.exit_code == 1
    assert f"the server at {server.url} is gone (the supervisor is not there)" in result.stderr
    assert "What was fetched of fetched is kept" in result.stderr


@pytest.mark.parametrize("data", [b"{", b"[1]"])
def test_an_event_that_is_no_object_is_told(server: FakeServer, data: bytes) -> None:
    server.events = [[b"data: " + data + b"\n\n"]]
    result = pull(server)
    assert (result.exit_code, "no JSON object" in result.stderr) == (1, True)


def test_ctrl_c_ends_the_command_and_not_the_download(server: FakeServer) -> None:
    server.events = [[event("downloading", 100), HANG]]
    command = [sys.executable, "-m", "janflask.cli", "models", "pull", SOURCE, "--url", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.hanging.wait(60)
    assert process.stderr is not None
    first = process.stderr.readline()  # it is following by now
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert first.startswith("fetched: downloading")
    assert err == "The server goes on with the download; `janflask models rm fetched` ends it.\n"
    assert server.client_gone.wait(60)
    assert [method for method, _, _ in server.requests] == ["POST", "GET"]


def test_without_a_server_it_says_how_to_start_one() -> None:
    result = CliRunner().invoke(models, ["pull", SOURCE, "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, "janflask serve" in result.stderr) == (1, True)
