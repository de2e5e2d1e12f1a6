"""``janflask health`` and a server that comes, drains and goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gunicorn_world import ROOT, environment, folder_with_model
from tests.integration.proxy_world import started
from tests.integration.waiting import LIMIT, free_port, wait_for


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("") as folder:
        yield folder


def health(folder: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "janflask.cli", "health", *options]
    env = environment(folder, JANFLASK_PORT=str(port))
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_it_tells_how_a_server_is(folder: Path) -> None:
    port = free_port()
    nobody = health(folder, port)
    assert nobody.returncode == 1
    assert "no server answers" in nobody.stderr
    with started(folder, port, JANFLASK_DRAIN_DELAY="600") as server:
        alive, ready = health(folder, port), health(folder, port, "--ready")
        assert (alive.returncode, ready.returncode) == (0, 0), (alive.stderr, ready.stderr)
        assert json.loads(ready.stdout)["status"] == "ready"
        server.terminate()
        wait_for(lambda: health(folder, port, "--ready").returncode == 1)
        draining = health(folder, port, "--ready", "--url", f"http://127.0.0.1:{port}/v1")
        assert json.loads(draining.stdout)["draining"] is True
        assert health(folder, port).returncode == 0, "it lives"
