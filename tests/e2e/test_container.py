"""The Containerfile: its steps carried out, and the server run as its image runs it, where no builder is at hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.container import FILE, Container, built, refused, steps
from tests.e2e.server import LIMIT, MODEL, follow_settings, wait_for
from tests.integration.waiting import free_port

BUILD_LIMIT = 1500.0  # seconds on a busy machine; llama.cpp is compiled if it never was here


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    if "VERSION_CODENAME=bookworm" not in Path("/etc/os-release").read_text():
        return "needs the Debian release that the Containerfile is for"
    return None


pytestmark = pytest.mark.skipif(why_not() is not None and "CI" not in os.environ, reason=str(why_not()))
namespaces = pytest.mark.skipif(why_not() is None and refused() is not None, reason=str(refused()))


def test_it_is_rootless_small_and_leaves_in_good_order() -> None:
    text = FILE.read_text()
    words = [word for word, _ in steps()]
    assert words.count("FROM") == 2
    assert dict(steps())["USER"].isdigit(), "so that Kubernetes can see that it is not root"
    assert "build-essential" not in text[text.rindex("FROM ") :]
    assert dict(steps())["STOPSIGNAL"] == "SIGTERM"


@namespaces
@pytest.mark.skipif("CI" not in os.environ, reason="compiles for minutes; CI=true has it run")
@pytest.mark.timeout(BUILD_LIMIT + 180)
def test_its_steps_make_a_server(tmp_path: Path, data_dir: Path) -> None:
    port = free_port()
    with built(tmp_path, BUILD_LIMIT, JANFLASK_PORT=str(port), JANFLASK_CPU_THREADS="1") as container:
        entry, user = container.image.entry, int(container.image.user)
        shutil.copytree(follow_settings(data_dir), tmp_path / "copy")
        copied = subprocess.run(
            ["tar", "-C", str(tmp_path / "copy"), f"--owner={user}", f"--group={user}", "-cf", "-", "."],
            capture_output=True,
            check=True,
        )
        subprocess.run(container.words("tar", "-C", "/data", "-xf", "-"), input=copied.stdout, check=True)

        refused = container.run(*entry, *container.image.command)
        assert refused.returncode == 1
        assert "janflask keys add NAME" in refused.stderr
        key = container.run(*entry, "keys", "add", "phone").stdout.strip()

        serve(container, port, key, tmp_path / "said")
        assert container.run("ls", "-A", "/opt/janflask").stdout.split() == [".venv"]
        for module in ("Cython", "setuptools"):
            assert container.run("python", "-c", f"import {module}").returncode == 1, module
        assert container.run("python", "-m", "pip", "--version").returncode == 0, "it fetches the starter model"


def serve(container: Container, port: int, key: str, said: Path) -> None:
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {key}"}
    with said.open("w") as output:
        command = container.words(*container.image.entry, *container.image.command)
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for(lambda: container.run(*container.image.health).returncode == 0, "the health check")
            body = {"model": MODEL, "prompt": "One, two,", "max_tokens": 4}
            answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=LIMIT)
            assert answer.status_code == 200, answer.text
            assert httpx.get(f"{url}/v1/models", timeout=LIMIT).status_code == 401
            assert json.loads(container.run(*container.image.health).stdout) == {"status": "ok"}
        finally:
            for server in psutil.Process(process.pid).children():  # nsenter's own child
                server.terminate()
            assert process.wait(LIMIT) == 0, said.read_text()
    assert container.run(*container.image.health).returncode == 1
