"""What holds behind every proxy that is shipped: nginx and Caddy, each with gunicorn and the fake engine behind it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration import caddy_world, nginx_world
from tests.integration.gunicorn_world import folder_with_model
from tests.integration.proxy_world import SLOW, LongStream, Proxy, World, connected, handed_over, load, serving
from tests.integration.waiting import LIMIT, free_port, wait_for

Proxying = Callable[[Path, str], AbstractContextManager[Proxy]]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(nginx_world.proxying, id="nginx", marks=nginx_world.needs_nginx),
        pytest.param(caddy_world.proxying, id="caddy", marks=caddy_world.needs_caddy),
    ],
)
def proxying(request: pytest.FixtureRequest) -> Proxying:
    """Begins a proxy."""
    begin: Proxying = request.param
    return begin


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("") as folder:
        (folder / "proxy").mkdir()
        yield folder


@pytest.fixture(scope="module")
def world(proxying: Proxying) -> Iterator[World]:
    """One that every test may use which does it no harm."""
    with folder_with_model("") as folder, serving(folder, proxying) as world:
        yield world


def test_tokens_come_one_by_one(world: World) -> None:
    """Ten a second leave the engine: each comes when it was said, not with those after it."""
    at, sizes = [], []
    with httpx.stream("POST", f"{world.proxy.url}/v1/completions", json=SLOW, timeout=LIMIT) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for part in response.iter_raw():
            sizes.append(part.count(b"data: "))
            at.append(time.monotonic())
            if sum(sizes) >= 10:
                break
        assert max(sizes) <= 3, sizes  # a busy machine may put two or three together
        assert at[-1] - at[0] > 0.5, "the engine takes a second for them"
    wait_for(lambda: not world.engine_is_busy())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tls", [True, False])
def test_a_client_that_leaves_is_noticed_by_the_engine(world: World, stream: bool, tls: bool) -> None:
    body = json.dumps(SLOW | {"stream": stream})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    with connected(world.proxy, tls) as client:
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
        wait_for(world.engine_is_busy)
    wait_for(lambda: not world.engine_is_busy())


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO", "X-Forwarded-Prefix"])
def test_no_client_says_where_the_server_is(world: World, name: str) -> None:
    answer = httpx.get(f"{world.proxy.url}/openapi.json", headers={name: "/elsewhere"}, timeout=LIMIT)
    assert answer.status_code == 200
    assert "/elsewhere" not in answer.text


def test_a_server_that_is_away(folder: Path, proxying: Proxying) -> None:
    with proxying(folder / "proxy", f"127.0.0.1:{free_port()}") as proxy:
        answer = httpx.get(f"{proxy.url}/v1/models", timeout=LIMIT)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.headers["Retry-After"] == "2"


def test_an_upgrade_under_load_breaks_no_answer(folder: Path, proxying: Proxying) -> None:
    """The server is stopped and another started, on a socket that stays open meanwhile (conf/janflask.socket)."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            handed_over(listener, folder, "old") as old,
            ExitStack() as later,
            proxying(folder / "proxy", upstream) as proxy,
        ):
            with load(proxy.url) as counts:
                long = LongStream(proxy.url, 40)
                old.terminate()
                assert old.wait(LIMIT) == 0
                assert (long.error, long.text()) == (None, "a" * 40)
                later.enter_context(handed_over(listener, folder, "new"))
                counts.wait(60)
    assert counts.problems == []
