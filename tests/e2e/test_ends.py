"""The ends of a server: whichever way it goes, every process that belongs to it goes too."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.e2e.server import (
    GUNICORN,
    JANFLASK,
    LARGE,
    LIMIT,
    MODEL,
    Server,
    environment,
    gone,
    raw_request,
    run,
    serving,
    wait_for,
)
from tests.integration.waiting import still_there

MESSAGES: Any = [{"role": "user", "content": "Tell me a story."}]
AT_ONCE = 5.0  # seconds in which everything is gone after a SIGKILL: a promise, so it is held to here


@pytest.fixture
def server(own_dir: Path) -> Iterator[Server]:
    """Two workers and a running model."""
    with serving(own_dir, JANFLASK_WORKERS="2") as server:
        server.start().raise_for_status()
        yield server


def stream(sdk: openai.OpenAI, max_tokens: int) -> Iterator[Any]:
    """An answer that does not end before ``max_tokens``, of which some was read."""
    chunks = iter(
        sdk.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=max_tokens, stream=True, extra_body={"ignore_eos": True}
        )
    )
    for _ in range(3):
        next(chunks)
    return chunks


def family(server: Server) -> list[psutil.Process]:
    """All of them: master, two workers, supervisor, engine and what renders the chat templates."""
    found = server.family()
    assert len(found) >= 5
    assert len(server.engines()) == 1
    return found


def gunicorn(server: Server) -> list[psutil.Process]:
    return [psutil.Process(server.process.pid), *server.workers()]


@pytest.mark.parametrize(
    "victims", [lambda server: gunicorn(server)[:1], gunicorn], ids=["the master", "every gunicorn process"]
)
def test_sigkill_of(server: Server, victims: Callable[[Server], list[psutil.Process]]) -> None:
    with server.sdk() as sdk:
        chunks = stream(sdk, 1900)
        processes = family(server)
        for victim in victims(server):
            victim.kill()
        assert gone(processes, AT_ONCE)
        del chunks
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))  # nobody kept the port


def test_sigkill_of_the_master_while_a_worker_is_held_up_by_its_client(server: Server) -> None:
    with raw_request(server, LARGE, receive_buffer=2048) as slow:
        wait_for(lambda: select.select([slow], [], [], 0)[0], "the answer's first byte")
        processes = family(server)
        server.process.kill()
        assert gone(processes, AT_ONCE)


def test_sigterm_lets_a_stream_finish_and_ends_cleanly(server: Server) -> None:
    with server.sdk() as sdk:
        chunks = stream(sdk, 100)
        processes = family(server)
        server.process.send_signal(signal.SIGTERM)
        rest = list(chunks)
        assert rest[-1].choices[0].finish_reason == "length"
        assert server.process.wait(LIMIT) == 0
    assert not still_there(processes), "the exit comes last"


def test_a_port_in_use(own_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for command in GUNICORN, [*JANFLASK, "serve"]:
            done = run(command, environment(own_dir, port))
            assert done.returncode == 1
            assert f"port {port} on 127.0.0.1 is in use" in done.stderr
            assert "JANFLASK_PORT" in done.stderr
            assert "Traceback" not in done.stderr
            assert "serving" not in done.stdout


def test_serve_says_what_to_try_and_ctrl_c_ends_it(own_dir: Path) -> None:
    """`janflask serve` is what `make run` ends with. The line that it prints to be pasted is pasted here."""
    with serving(own_dir, command=[*JANFLASK, "serve"]) as server:
        wait_for(lambda: "/docs" in server.log.read_text(), "the banner")
        banner = server.log.read_text()
        assert f"janflask is serving at {server.url}" in banner
        assert f"{server.url}/docs" in banner
        (curl,) = [line[line.index("curl") :] for line in banner.splitlines() if "curl -N" in line]
        pasted = subprocess.run(
            ["sh", "-c", curl.replace('"stream": true', '"stream": true, "max_tokens": 3')],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        assert pasted.stdout.count("data: ") >= 4
        assert pasted.stdout.endswith("data: [DONE]\n\n")
        processes = server.family()
        assert len(server.engines()) == 1
        server.press_ctrl_c()
        assert server.process.wait(LIMIT) == 0
        assert not still_there(processes)
        assert "Traceback" not in server.log.read_text()
