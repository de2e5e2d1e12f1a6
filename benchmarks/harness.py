"""A real server to measure, and a client that costs little: one thread, raw sockets, a timestamp for every chunk."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = "smollm2-135m-instruct"
START_LIMIT = 180.0  # seconds for a server and its model, measuring included
SETTLE_LIMIT = 90.0  # seconds for its knobs, which are measured while it rests
REPLY_LIMIT = 600.0  # seconds for the slowest round


def data_dir() -> Path:
    """The data folder with the starter model; ``make run`` and ``make bench`` put it there."""
    folder = Path(os.environ.get("JANFLASK_DATA_DIR", ROOT / "data"))
    if not (folder / "models" / MODEL / "model.json").is_file():
        raise SystemExit(f"{folder} has no {MODEL}: run `make bench`, which installs it")
    return folder


def model_file() -> Path:
    return next((data_dir() / "models" / MODEL).glob("*.gguf"))


def random_tokens(count: int, seed: int) -> list[int]:
    """Ordinary tokens that say nothing; the same for the same seed."""
    import random

    rng = random.Random(seed)
    return [rng.randrange(1000, 40000) for _ in range(count)]


@dataclass
class Server:
    """A running server: janflask, or a peer."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    started: float  # when its process was, by ``time.perf_counter``

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as reply:
            return json.load(reply)

    def put(self, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="PUT")
        with urllib.request.urlopen(request, timeout=START_LIMIT) as reply:
            return json.load(reply)

    def post(self, path: str, body: bytes, timeout: float = 30, key: str | None = None) -> Any:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return json.load(reply)

    def model(self, model_id: str = MODEL) -> Any:
        return self.get(f"/v1/models/{model_id}")

    def knobs(self, model_id: str = MODEL) -> dict[str, int]:
        """What its tuning chose, as settings: two servers that are compared should differ in nothing else."""
        knobs = self.model(model_id)["runtime"]["knobs"]
        return {name: int(knobs[name]) for name in ("flash_attn", "kv_unified", "slice_size", "cpu_threads")}


def settle(server: Server) -> None:
    """Returns when the model's knobs are what they will be: as in use, and nothing is measured beside the others.

    Where all are pinned that is at once, on a machine that stays busy after ``SETTLE_LIMIT``.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    while server.model()["runtime"]["knobs"].get("sure", 1.0) < 1.0 and time.monotonic() < deadline:
        time.sleep(0.5)


@contextmanager
def serving(*, checkout: Path = ROOT, **settings: object) -> Iterator[Server]:
    """gunicorn with its supervisor and the starter model running; ended by process id.

    Settings are ``JANFLASK_*`` names in lower case. Another ``checkout`` than this one runs with its own ``.venv``.
    """
    with (
        tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder,
        serving_store(linked_data(Path(folder)), "wsgi:app", checkout=checkout, **settings) as server,
    ):
        server.put(f"/v1/models/{MODEL}/start")
        settle(server)
        yield server


def linked_data(folder: Path) -> Path:
    """A data folder of its own in ``folder``, with the starter model."""
    data = folder / "data"
    model = data / "models" / MODEL
    model.mkdir(parents=True)
    for file in (data_dir() / "models" / MODEL).iterdir():
        (model / file.name).symlink_to(file.resolve())
    return data


def python_of(checkout: Path) -> Path:
    """The interpreter that runs it."""
    return Path(sys.executable) if checkout == ROOT else checkout / ".venv" / "bin" / "python"


@contextmanager
def serving_store(data: Path, app: str = "wsgi:app", *, checkout: Path = ROOT, **settings: object) -> Iterator[Server]:
    """The same without a model: ``app`` over the data folder ``data``, whose parent gets the log."""
    with launched_store(data, app, checkout=checkout, **settings) as server:
        await_health(server)
        yield server


@contextmanager
def launched_store(data: Path, app: str = "wsgi:app", *, checkout: Path = ROOT, **settings: object) -> Iterator[Server]:
    """The same as soon as its process runs."""
    port = free_port()
    env = dict(os.environ) | {f"JANFLASK_{name.upper()}": str(value) for name, value in settings.items()}
    env |= {"JANFLASK_PORT": str(port), "JANFLASK_HOST": "127.0.0.1", "JANFLASK_DATA_DIR": str(data)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # its users do not compile all modules at each start
    command = [str(python_of(checkout)), "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", app]
    with launched(command, port, data.parent / f"server-{port}.log", cwd=checkout, env=env) as server:
        yield server


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def launched(
    command: Sequence[str], port: int, log: Path, *, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> Iterator[Server]:
    """A server whose process runs and which may not listen yet; ended by process id."""
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield Server(port, process, log, started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_health(server: Server, path: str = "/healthz") -> None:
    """Returns when it answers there; exits with the end of its log if it does not come to that."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            server.get(path)
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline or server.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{server.log.read_text()[-3000:]}") from None
            time.sleep(0.05)


def in_turns(
    what: str, first: Callable[[int], float], second: Callable[[int], float], rounds: int
) -> list[tuple[float, float]]:
    """Measures both in each round, one right after the other, in every second round the second one first.

    Each is given the round's number. A line on standard output grows by a dot with each round, and ends with the median
    of first / second.
    """
    pairs = []
    print(f"  {what} ", end="", flush=True)
    for number in range(rounds):
        if number % 2:
            last = second(number)
            pairs.append((first(number), last))
        else:
            pairs.append((first(number), second(number)))
        print(".", end="", flush=True)
    print(f" {median(one / other for one, other in pairs):.3f}", flush=True)
    return pairs


# --- the client ---------------------------------------------------------------------------------------------------


def post_request(path: str, body: dict[str, Any], key: str | None = None) -> bytes:
    """As it goes over a socket; the server closes it behind its answer."""
    payload = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


@dataclass
class Stream:
    """One streamed completion: when each chunk came, and the last one's usage."""

    prompt: list[int] | str
    max_tokens: int
    extra: dict[str, object] = field(default_factory=dict)
    key: str | None = None
    started: float = 0.0
    ended: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    _sock: socket.socket | None = None
    _tail: bytes = b""

    @property
    def gaps(self) -> list[float]:
        """Seconds between chunks."""
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def open(self, port: int) -> socket.socket:
        body = {
            "model": MODEL,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        request = post_request("/v1/completions", body, self.key)
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.started = time.perf_counter()
        self._sock.sendall(request)
        self._sock.setblocking(False)
        return self._sock

    def read(self) -> bool:
        """Takes what is there. False at the end."""
        if self._sock is None:
            raise RuntimeError("read before open")
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return True
        now = time.perf_counter()
        if not data:
            self.ended = now
            self._sock.close()
            self._finish()
            return False
        # One arrival for each chunk with text; several may come in one read.
        self.arrivals += [now] * data.count(b'"text":')
        self._tail = (self._tail + data)[-4096:]
        return True

    def _finish(self) -> None:
        start = self._tail.rfind(b'"usage":{')
        if start < 0:
            raise RuntimeError(f"a stream ended without usage: {self._tail[-500:]!r}")
        self.usage, _ = json.JSONDecoder().raw_decode(self._tail[start + 8 :].decode())


def run_streams(port: int, streams: Sequence[Stream], *, at_once: int | None = None) -> float:
    """Runs all streams, ``at_once`` of them at a time. Returns the wall time in seconds."""
    waiting = list(streams)
    selector = selectors.DefaultSelector()
    started = time.perf_counter()
    active = 0
    while waiting or active:
        while waiting and (at_once is None or active < at_once):
            stream = waiting.pop(0)
            selector.register(stream.open(port), selectors.EVENT_READ, stream)
            active += 1
        if time.perf_counter() - started > REPLY_LIMIT:
            raise SystemExit("a benchmark round took too long")
        for key, _ in selector.select(1.0):
            stream = key.data
            sock = key.fileobj
            if not stream.read():
                selector.unregister(sock)
                active -= 1
    return time.perf_counter() - started


def run_clients(port: int, clients: Sequence[Sequence[tuple[float, Stream]]]) -> None:
    """Each client runs its streams one after the other, each some seconds after the one before has ended."""
    waiting = [list(reversed(client)) for client in clients]
    begun = time.perf_counter()
    due = [(begun + streams[-1][0], number) for number, streams in enumerate(waiting)]
    selector = selectors.DefaultSelector()
    while due or selector.get_map():
        now = time.perf_counter()
        if now - begun > REPLY_LIMIT:
            raise SystemExit("a benchmark round took too long")
        for moment, number in sorted(due):
            if moment <= now:
                due.remove((moment, number))
                _, stream = waiting[number].pop()
                selector.register(stream.open(port), selectors.EVENT_READ, (number, stream))
        pause = max(0.0, min(due)[0] - time.perf_counter()) if due else 1.0
        for key, _ in selector.select(pause):
            number, stream = key.data
            if not stream.read():
                selector.unregister(key.fileobj)
                if waiting[number]:
                    due.append((stream.ended + waiting[number][-1][0], number))
