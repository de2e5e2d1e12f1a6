"""conf/Caddyfile under Debian's Caddy, with gunicorn, the real application and the fake engine behind it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.integration.caddy_world import CADDY, CONF, needs_caddy, proxying
from tests.integration.gunicorn_world import folder_with_model
from tests.integration.proxy_world import World, curl, parts_of, serving
from tests.integration.waiting import LIMIT

pytestmark = needs_caddy


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("") as folder:
        yield folder


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One that every test may use which does it no harm."""
    with folder_with_model("") as folder, serving(folder, proxying) as world:
        yield world


def test_it_is_accepted_and_written_as_caddy_writes_it() -> None:
    assert CADDY is not None
    for command in (["validate", "--adapter", "caddyfile", "--config", str(CONF)], ["fmt", str(CONF)]):
        done = subprocess.run([CADDY, *command], capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr


def test_an_upload(world: World) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    url = f"{world.proxy.url}/v1/files"
    answer = httpx.post(url, content=parts_of(64 << 20, b"xx"), headers=headers, timeout=LIMIT)
    assert answer.json()["bytes"] == 64 << 20


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian: curl)")
def test_tls_and_http_2(world: World) -> None:
    body = json.dumps({"model": "m", "prompt": "hello", "stream": True})
    arguments = ["-N", "--json", body, "-w", "\n%{http_version}"]
    said = curl("--http2", *arguments, f"{world.proxy.tls_url}/v1/completions")
    assert "data: [DONE]" in said
    assert said.splitlines()[-1] == "2"
    origin = world.proxy.tls_url
    said = curl("-H", f"Origin: {origin}", "--json", "{}", "-w", "%{http_code}", f"{origin}/v1/threads")
    assert said.endswith("200"), "janflask knows that the scheme is https here"


def test_below_a_path(folder: Path) -> None:
    with serving(folder, partial(proxying, below=True)) as world:
        base = f"{world.proxy.url}/llm"
        assert 'src="./assets/' in httpx.get(f"{base}/", timeout=LIMIT).text
        document = httpx.get(f"{base}/openapi.json", timeout=LIMIT).json()
        assert [server["url"] for server in document["servers"]] == ["/llm"]
        assert httpx.get(f"{base}/v1/models", timeout=LIMIT).status_code == 200
        assert httpx.get(f"{world.proxy.url}/v1/models", timeout=LIMIT).text == ""
