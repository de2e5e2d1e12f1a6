"""A real server for the tests: gunicorn as a user starts it, on a free port, with the starter model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import anthropic
import httpx
import openai
import psutil

from janflask.downloads.starter import SMOLLM2
from tests.integration.waiting import free_port

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds that anything here may take on a slow and busy machine
MODEL = SMOLLM2.id
LOG_TAIL = 6000  # characters of a log that are worth reading after a failure

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app"]
JANFLASK = [sys.executable, "-m", "janflask.cli"]

# All four knobs are pinned, so that no start measures; small sizes, so that a start is quick. One thread: on a machine
# that is busy with other things too, several would wait for one another at every barrier.
PINNED = {
    "JANFLASK_FLASH_ATTN": "0",
    "JANFLASK_KV_UNIFIED": "0",
    "JANFLASK_SLICE_SIZE": "64",
    "JANFLASK_CPU_THREADS": "1",
    "JANFLASK_CTX_LEN": "2048",
    "JANFLASK_N_PARALLEL": "8",
    "JANFLASK_SPARE_ENGINE": "0",  # tests count engines
}


# A stream that begins with megabytes, more than the sockets on its way hold: every choice repeats a prompt whose tokens
# have 64 characters each.
LARGE: dict[str, Any] = {
    "model": MODEL,
    "prompt": "-" * 64 * 1200,
    "echo": True,
    "n": 64,
    "max_tokens": 2,
    "ignore_eos": True,
    "stream": True,
}


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Polls until ``condition`` holds; TimeoutError with ``what`` when it does not come true."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT:g} s for {what}")
        time.sleep(0.02)


def environment(data_dir: Path, port: int, **settings: str) -> dict[str, str]:
    own = {"JANFLASK_DATA_DIR": str(data_dir), "JANFLASK_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **PINNED, **own, **settings}


def follow_settings(data_dir: Path) -> Path:
    """Takes ``ctx_len`` out of the model's own settings, where it would win over the server's; returns ``data_dir``."""
    file = data_dir / "models" / MODEL / "model.json"
    model = json.loads(file.read_text())
    del model["settings"]["ctx_len"]
    file.write_text(json.dumps(model))
    return data_dir


class Server:
    """A gunicorn master and everything that belongs to it."""

    alive: ClassVar[list[Server]] = []  # whose logs are shown when a test fails

    def __init__(self, process: subprocess.Popen[bytes], port: int, data_dir: Path, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.data_dir = data_dir
        self.log = log
        self._seen: dict[int, psutil.Process] = {}

    # --- over HTTP ----------------------------------------------------------------------------------------------

    def sdk(self) -> openai.OpenAI:
        """A client that retries nothing: a failed request is to be seen."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=LIMIT)

    def claude(self) -> anthropic.Anthropic:
        """The same for Anthropic's API."""
        return anthropic.Anthropic(base_url=self.url, auth_token="none", max_retries=0, timeout=LIMIT)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=LIMIT)

    def found(self, path: str) -> Any:
        """The JSON of what is there."""
        answer = self.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, **given: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=LIMIT, **given)

    def start(self, model: str = MODEL, **settings: Any) -> httpx.Response:
        return httpx.put(f"{self.url}/v1/models/{model}/start", json=settings, timeout=LIMIT)

    def stop(self, model: str = MODEL) -> httpx.Response:
        return httpx.put(f"{self.url}/v1/models/{model}/stop", timeout=LIMIT)

    def model(self, model: str = MODEL) -> dict[str, Any]:
        found: dict[str, Any] = self.found(f"/v1/models/{model}")
        return found

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.model()["stats"]
        return stats

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise ChildProcessError(f"the server ended with exit code {self.process.returncode}")
        with suppress(httpx.TransportError):
            return self.get("/healthz").status_code == 200
        return False

    # --- its data -----------------------------------------------------------------------------------------------

    def thread_of(self, answer_id: str) -> str:
        """The thread that a response or a stored chat is in."""
        (run,) = self.data_dir.glob(f"threads/*/runs/{answer_id}.json")
        return run.parts[-3]

    # --- its processes ------------------------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """Every process of the server that lives now, and all that were seen before, which must not outlive it."""
        with suppress(psutil.NoSuchProcess):
            master = psutil.Process(self.process.pid)
            for process in [master, *master.children(recursive=True)]:
                self._seen[process.pid] = process
        return list(self._seen.values())

    def _running(self, module: str) -> list[psutil.Process]:
        found = []
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and module in process.cmdline():
                    found.append(process)
        return found

    def engines(self) -> list[psutil.Process]:
        return self._running("janflask.engine")

    def supervisor(self) -> psutil.Process:
        (supervisor,) = self._running("janflask.supervisor")
        return supervisor

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        others = [*self._running("janflask.supervisor"), *self._running("janflask.runner")]
        return [child for child in children if child not in others]

    def end(self) -> None:
        """As a service manager ends it."""
        self.process.terminate()
        assert self.process.wait(LIMIT) == 0

    def kill(self) -> None:
        """Ends whatever still lives, at once: no test leaves anything behind."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(self._seen.values(), LIMIT)

    def press_ctrl_c(self) -> None:
        """SIGINT for the whole foreground process group, as a terminal sends it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def logs(self) -> str:
        engines = sorted((self.data_dir / "logs").glob("engine-*.log"))
        parts = [f"--- {file.name}\n{file.read_text(errors='replace')[-LOG_TAIL:]}" for file in [self.log, *engines]]
        return "\n".join(parts)


@contextmanager
def serving(data_dir: Path, *, command: Sequence[str] = GUNICORN, **settings: str) -> Iterator[Server]:
    """A server that answers; at the end it is killed if it still lives, and so is all that it left behind."""
    port = free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir.parent / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command],
            cwd=ROOT,
            env=environment(data_dir, port, **settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a process group as a terminal's, for `press_ctrl_c`
        )
    server = Server(process, port, data_dir, log)
    Server.alive.append(server)
    try:
        wait_for(server.answers, "the server to answer")
        yield server
    except BaseException:
        print(server.logs())
        raise
    finally:
        Server.alive.remove(server)
        server.kill()


@contextmanager
def raw_request(server: Server, body: dict[str, Any], receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A request over a bare socket, of whose answer nothing is read here."""
    content = json.dumps(body).encode()
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(LIMIT)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        yield sock


def run(command: Sequence[str], env: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    """A command that is expected to end by itself."""
    return subprocess.run(
        [*command], cwd=ROOT, env=env, input=text, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def gone(processes: Sequence[psutil.Process], seconds: float) -> bool:
    """Whether every one of them has ended within ``seconds``."""
    return not psutil.wait_procs(processes, seconds)[1]
