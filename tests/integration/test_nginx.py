"""conf/nginx.conf under Debian's nginx, with gunicorn, the real application and the fake engine behind it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.gunicorn_world import folder_with_model
from tests.integration.nginx_world import CONF, PREFIX, accepts, needs_nginx, proxying, site_for
from tests.integration.proxy_world import (
    World,
    answer_to,
    curl,
    load,
    parts_of,
    reload,
    serving,
)
from tests.integration.waiting import LIMIT, wait_for

pytestmark = needs_nginx


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("") as folder:
        yield folder


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One that every test may use which does it no harm."""
    with folder_with_model("") as folder, serving(folder, proxying) as world:
        yield world


# --- the configuration ------------------------------------------------------------------------------------------------


def test_it_is_accepted_as_it_is_shipped(tmp_path: Path) -> None:
    for site in (CONF.read_text(), site_for("127.0.0.1:1337", 80, 443), site_for("127.0.0.1:1337", 80, 443, True)):
        done = accepts(tmp_path, site)
        assert done.returncode == 0, done.stderr
        assert "warn" not in done.stderr, done.stderr


# --- connections ------------------------------------------------------------------------------------------------------


def test_idle_connections_are_used_again(world: World) -> None:
    def to_server() -> set[int]:
        found = set()
        for child in psutil.Process(world.process.pid).children():
            for connection in child.net_connections("tcp"):
                if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == world.port:
                    found.add(connection.raddr.port)
        return found

    with httpx.Client(base_url=world.proxy.url, timeout=LIMIT) as client:
        seen: set[int] = set()
        for _ in range(50):
            assert client.get("/livez").status_code == 200
            seen |= to_server()
    assert len(seen) <= 12, "one or two a worker of nginx, and what the tests before have left"


# --- bodies -----------------------------------------------------------------------------------------------------------


def resident(pids: list[int]) -> int:
    return max(psutil.Process(pid).memory_info().rss for pid in pids)


def test_the_largest_upload_goes_through_and_comes_back(world: World) -> None:
    size = 512 << 20
    workers = [child.pid for child in psutil.Process(world.process.pid).children()]
    before = resident(workers)
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    with httpx.Client(base_url=world.proxy.url, timeout=120) as client:
        answer = client.post("/v1/files", content=parts_of(size, b"xx"), headers=headers)
        assert answer.status_code == 200, answer.text
        made = answer.json()
        assert made["bytes"] == size
        assert resident(workers) - before < 64 << 20, "it is never in memory"
        assert not any((world.proxy.folder / "bodies").rglob("*.*")), "nginx wrote none of it down"
        hashed = hashlib.sha256()
        with client.stream("GET", f"/v1/files/{made['id']}/content") as content:
            for piece in content.iter_raw():
                hashed.update(piece)
        wanted = hashlib.sha256()
        for _ in range(size >> 20):
            wanted.update(bytes(range(256)) * 4096)
        assert hashed.digest() == wanted.digest()
        assert client.delete(f"/v1/files/{made['id']}").status_code == 200


def test_one_larger_than_the_server_takes_it_is_refused_by_the_server(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.proxy.port), LIMIT) as client:
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {600 << 20}\r\n"
        client.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=xx\r\n\r\n--xx")
        answer = answer_to(client)
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert b"JANFLASK_MAX_UPLOAD_MB" in answer or b"request_too_large" in answer


def test_what_nginx_refuses_it_refuses_as_the_server_does(world: World) -> None:
    too_large = b"x" * (34 << 20)
    answer = httpx.post(f"{world.proxy.url}/v1/completions", content=too_large, timeout=LIMIT)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    just_right = json.dumps({"model": "m", "prompt": "x" * (31 << 20)})
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{world.proxy.url}/v1/completions", content=just_right, headers=headers, timeout=LIMIT)
    assert answer.status_code == 200, answer.text[:500]


# --- TLS, HTTP/2, paths -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian: curl)")
@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
def test_tls(world: World, option: str, version: str) -> None:
    said = curl(option, "-w", "\n%{http_version} %{ssl_verify_result}", f"{world.proxy.tls_url}/livez")
    assert said.splitlines()[-1] == f"{version} 0"
    body = json.dumps({"model": "m", "prompt": "hello", "stream": True})
    said = curl(option, "-N", "--json", body, f"{world.proxy.tls_url}/v1/completions")
    assert said.count("data: ") >= 4
    assert said.rstrip().endswith("data: [DONE]")
    # A page of the server's own may change things: janflask knows that the scheme is https here.
    origin = world.proxy.tls_url
    said = curl(option, "-H", f"Origin: {origin}", "--json", "{}", "-w", "%{http_code}", f"{origin}/v1/threads")
    assert said.endswith("200")
    plain = origin.replace("https", "http")
    said = curl(option, "-H", f"Origin: {plain}", "--json", "{}", f"{origin}/v1/threads")
    assert "foreign_origin" in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (Debian: curl)")
def test_no_old_tls(world: World) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        curl("--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", f"{world.proxy.tls_url}/livez")
    assert "alert protocol version" in caught.value.stderr


def test_below_a_path(folder: Path) -> None:
    with serving(folder, partial(proxying, below=True)) as world:
        base = world.proxy.url + PREFIX
        home = httpx.get(f"{base}/", timeout=LIMIT)
        for link in re.findall(r'(?:src|href)="(\./[^"]+)"', home.text):
            assert httpx.get(f"{base}/{link}", timeout=LIMIT).status_code == 200, link
        page = httpx.get(f"{base}/docs", timeout=LIMIT)
        assert page.status_code == 200
        for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            if link.startswith("/"):
                assert link.startswith(f"{PREFIX}/"), link
                assert httpx.get(world.proxy.url + link, timeout=LIMIT).status_code == 200, link
        document = httpx.get(f"{base}/openapi.json", timeout=LIMIT).json()
        assert [server["url"] for server in document["servers"]] == [PREFIX]
        answer = httpx.post(f"{base}/v1/completions", json={"model": "m", "prompt": "hello"}, timeout=LIMIT)
        assert answer.json()["choices"][0]["text"] == "abc"
        headers = {"Content-Type": "multipart/form-data; boundary=xx"}
        large = httpx.post(f"{base}/v1/files", content=parts_of(40 << 20, b"xx"), headers=headers, timeout=LIMIT)
        assert large.status_code == 200, "its location is below the path, too"
        assert f"{PREFIX}/docs lists" in httpx.get(f"{base}/v1/nothing", timeout=LIMIT).json()["error"]["message"]
        for path in ("/docs", "/v1/models", "/llmx/v1/models"):
            assert httpx.get(world.proxy.url + path, timeout=LIMIT).status_code == 404, path


# --- what it tells ---------------------------------------------------------------------------------------------------


def test_the_log_has_the_address_that_nginx_saw(folder: Path) -> None:
    with serving(folder, proxying, JANFLASK_LOG_FORMAT="json") as world:
        beside = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=beside, base_url=world.proxy.url, timeout=LIMIT) as client:
            assert client.get("/v1/nothing", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 404
        wait_for(lambda: '"status": 404' in world.log)
    (line,) = [json.loads(line) for line in world.log.splitlines() if '"status": 404' in line]
    assert line["client"] == "127.0.0.2", "and not what the client said"


def test_a_prefix_that_a_path_is_not_below(world: World) -> None:
    """gunicorn itself answers 500. A proxy lets no client's through; who is on this machine may send one."""
    headers = {"SCRIPT_NAME": "/elsewhere"}
    assert httpx.get(f"http://127.0.0.1:{world.port}/livez", headers=headers, timeout=LIMIT).status_code == 200


# --- leaving ----------------------------------------------------------------------------------------------------------


def test_a_reload_under_load(world: World) -> None:
    """SIGHUP: new workers, and nobody gets anything but a whole answer."""
    with load(world.proxy.url) as counts:
        for _ in range(3):
            reload(world.process)
            counts.wait(100)
    assert counts.problems == []
