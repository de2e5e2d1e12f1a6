"""What the tests of proxies share: a server behind one, and clients before it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.integration.gunicorn_world import GUNICORN, ROOT, environment, running
from tests.integration.waiting import LIMIT, free_port, wait_for

CERTIFICATE = ROOT / "tests" / "fakes" / "localhost.pem"  # and its key

SLOW = {"model": "m", "prompt": "slow 600", "stream": True}


@dataclass(frozen=True)
class Proxy:
    """One that listens on loopback, its files in ``folder``."""

    folder: Path
    port: int
    tls_port: int
    host: str = "localhost"  # as clients without TLS call it

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self.tls_port}"


def replaced(text: str, old: str, new: str) -> str:
    """A configuration with something exchanged that it has to hold."""
    assert old in text, f"what is shipped has no {old!r} any more"
    return text.replace(old, new)


class World:
    """A server, and a proxy before it."""

    def __init__(self, process: subprocess.Popen[str], port: int, proxy: Proxy, folder: Path) -> None:
        self.process = process
        self.port = port
        self.proxy = proxy
        self.folder = folder

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def engine_is_busy(self) -> bool:
        """Asked without the proxy."""
        model = httpx.get(f"http://127.0.0.1:{self.port}/v1/models/m", timeout=LIMIT).json()
        return model["stats"] is not None and model["stats"]["busy"] > 0


@contextmanager
def serving(
    folder: Path, proxying: Callable[[Path, str], AbstractContextManager[Proxy]], **settings: str
) -> Iterator[World]:
    """A server in ``folder``, and the proxy that ``proxying`` begins for it."""
    port = free_port()
    site = folder / "proxy"
    site.mkdir()
    with started(folder, port, **settings) as process, proxying(site, f"127.0.0.1:{port}") as proxy:
        yield World(process, port, proxy, folder)


@contextmanager
def started(folder: Path, port: int, app: str = "wsgi:app", **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A server from when it is ready."""
    env = environment(folder, JANFLASK_PORT=str(port), **settings)

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=LIMIT).status_code == 200
        except httpx.TransportError:
            return False

    with (folder / "log").open("a") as log:
        with running(app, env, answers, log, log) as process:
            yield process


def parts_of(size: int, boundary: bytes) -> Iterator[bytes]:
    yield b"".join(
        [
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n',
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n',
        ]
    )
    piece = bytes(range(256)) * 4096  # 1 MiB
    for _ in range(size >> 20):
        yield piece
    yield b"\r\n--" + boundary + b"--\r\n"


@contextmanager
def connected(proxy: Proxy, tls: bool) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.tls_port if tls else proxy.port), LIMIT) as plain:
        if not tls:
            yield plain
            return
        with ssl.create_default_context(cafile=str(CERTIFICATE)).wrap_socket(plain, server_hostname="localhost") as own:
            yield own


def answer_to(client: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got or not got.rstrip().endswith(b"}"):
        piece = client.recv(65536)
        if not piece:
            break
        got += piece
    return got


def curl(*arguments: str) -> str:
    command = ["curl", "-sS", "--max-time", str(int(LIMIT)), "--cacert", str(CERTIFICATE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=2 * LIMIT).stdout


def reload(process: subprocess.Popen[str]) -> None:
    before = set(psutil.Process(process.pid).children())
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: bool(set(psutil.Process(process.pid).children()) - before))


class Counts:
    """What clients have seen. ``problems`` holds everything but whole answers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.whole = 0
        self.problems: list[str] = []
        self.over = threading.Event()

    def wait(self, more: int) -> None:
        """Until so many more answers have come."""
        wanted = self.whole + more
        wait_for(lambda: self.whole >= wanted or bool(self.problems))

    def ask(self, url: str, number: int) -> None:
        """One client: streams and plain answers in turn, over connections that are kept."""
        with httpx.Client(base_url=url, timeout=LIMIT) as client:
            turn = number
            while not self.over.is_set():
                turn += 1
                problem = _one_answer(client, stream=turn % 2 == 0)
                with self.lock:
                    self.whole += problem is None
                    self.problems += [] if problem is None else [problem]


def _one_answer(client: httpx.Client, stream: bool) -> str | None:
    body: dict[str, Any] = {"model": "m", "prompt": "slow 3" if stream else "hello", "stream": stream}
    try:
        answer = client.post("/v1/completions", json=body)
    except httpx.TransportError as error:
        return repr(error)
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text}"
    whole = answer.text.endswith("data: [DONE]\n\n") if stream else answer.json()["choices"][0]["text"] == "abc"
    return None if whole else answer.text


@contextmanager
def load(url: str, clients: int = 8) -> Iterator[Counts]:
    counts = Counts()
    threads = [threading.Thread(target=counts.ask, args=(url, number), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        counts.wait(20)
        yield counts
    finally:
        counts.over.set()
        for thread in threads:
            thread.join(LIMIT)


AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def handed_over(listener: socket.socket, folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is given its open socket as systemd gives it."""
    env = environment(folder, JANFLASK_PORT="1", JANFLASK_DRAIN_TIMEOUT="20") | {"LISTEN_FDS": "1"}
    fd = listener.fileno()
    command = [sys.executable, "-c", AS_SYSTEMD, str(fd), *GUNICORN, "wsgi:app"]
    with (folder / name).open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, pass_fds=[fd])
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class LongStream(threading.Thread):
    """A streamed completion of so many tokens, ten a second; made when its first has come."""

    def __init__(self, url: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self._url, self._tokens = url, tokens
        self._begun = threading.Event()
        self.lines: list[str] = []
        self.error: Exception | None = None
        self.start()
        assert self._begun.wait(LIMIT)

    def run(self) -> None:
        body = SLOW | {"prompt": f"slow {self._tokens}"}
        try:
            with httpx.stream("POST", f"{self._url}/v1/completions", json=body, timeout=LIMIT) as response:
                for line in response.iter_lines():
                    self.lines += [line.removeprefix("data: ")] if line.startswith("data: ") else []
                    self._begun.set()
        except httpx.TransportError as error:
            self.error = error

    def text(self) -> str:
        self.join(LIMIT)
        assert self.lines[-1] == "[DONE]"
        parts = [json.loads(line) for line in self.lines[:-1]]
        return "".join(choice["text"] for part in parts for choice in part.get("choices", ()))
