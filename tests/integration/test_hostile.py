"""2,000 requests that mean no good, to a real server: none is its failure, none has an effect, and nothing grows."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.fakes.hostile import Hostile, Sent
from tests.integration.gunicorn_world import environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port

NUMBER = 2_000
WARM = 500  # after which nothing may grow
SEED = 20261130
MAX_MB = 1
CLIENTS = 4
REFUSED = ("ids", "hosts", "origins", "bodies", "raw", "slow")  # the others may ask for what anybody may know
QUIET = 2.0  # seconds after which a connection that was answered is taken for idle
ROUNDS = 3  # of the rest, at most: a leak grows in each of them; the last thread of a pool begins in one
SOON = 10.0  # seconds
GROWTH = 6 << 20  # bytes, of a process: what pages the allocator has not filled again yet


@dataclass
class World:
    url: str
    port: int
    master: int
    data: Path
    log: Path

    def tree(self) -> dict[str, str]:
        """Everything that is kept, by its path."""
        left_out = ("logs", "cache")  # what was refused is logged
        return {
            str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in self.data.rglob("*")
            if path.relative_to(self.data).parts[0] not in left_out
        }

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(self.master), *psutil.Process(self.master).children(recursive=True)]

    def memory(self) -> dict[int, int]:
        return {each.pid: each.memory_full_info().uss for each in self.processes()}

    def held(self) -> dict[tuple[int, str], int]:
        """How many descriptors and threads each process has."""
        found: dict[tuple[int, str], int] = {}
        for each in self.processes():
            found |= {(each.pid, "descriptors"): each.num_fds(), (each.pid, "threads"): each.num_threads()}
        return found

    def holds_no_more_than(self, held: dict[tuple[int, str], int]) -> bool:
        """Whether that comes true soon: what was closed may be on its way."""
        deadline = time.monotonic() + SOON
        while any(number > held[what] for what, number in self.held().items()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def post(self, path: str, **given: Any) -> dict[str, Any]:
        answer = httpx.post(self.url + path, timeout=LIMIT, **given)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def fill(self) -> dict[str, str]:
        """Puts something of each kind there; the ids by what routes call them."""
        thread = self.post("/v1/threads", json={"title": "kept"})["id"]
        assistant = self.post("/v1/assistants", json={"name": "a", "model": "m", "instructions": "x"})["id"]
        message = self.post(f"/v1/threads/{thread}/messages", json={"role": "user", "content": "hello"})["id"]
        form = {"files": {"file": ("a.txt", b"hello")}, "data": {"purpose": "assistants"}}
        conversation = {"items": [{"type": "message", "role": "user", "content": "hello"}]}
        made = self.post("/v1/conversations", json=conversation)["id"]
        items = httpx.get(f"{self.url}/v1/conversations/{made}/items", timeout=LIMIT).json()["data"]
        return {
            "thread_id": thread,
            "assistant_id": assistant,
            "message_id": message,
            "file_id": self.post("/v1/files", **form)["id"],
            "response_id": "resp_" + "0" * 26,
            "completion_id": "chatcmpl-" + "0" * 26,
            "run_id": "run_" + "0" * 26,
            "step_id": "step_none",
            "conversation_id": made,
            "item_id": items[0]["id"],
            "model_id": "m",
        }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/v1/models", timeout=LIMIT).status_code == 200
        except httpx.TransportError:
            return False

    with folder_with_model("") as folder:
        settings = {
            "JANFLASK_MAX_BODY_MB": str(MAX_MB),
            "JANFLASK_MAX_UPLOAD_MB": str(MAX_MB),
            "JANFLASK_MAX_JSON_ITEMS": "10000",
            "JANFLASK_HEADER_TIMEOUT": "1",
            "JANFLASK_UPLOAD_TIMEOUT": "1",
            "JANFLASK_THREADS": "8",
            "JANFLASK_THREAD_TITLES": "0",
        }
        env = environment(folder, JANFLASK_PORT=str(port), **settings)
        with (folder / "log").open("w") as log, running("wsgi:app", env, answers, log, log) as process:
            yield World(url, port, process.pid, folder / "data", folder / "log")


def send(port: int, sent: Sent) -> bytes:
    """The answer, all that came until the server closed the connection or waited for another request."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
        received = b""
        try:
            client.sendall(sent.wire())
            if sent.half is not None:
                client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                received += piece
                client.settimeout(QUIET)
        except ConnectionError:
            pass
        except TimeoutError:
            if not received:
                raise TimeoutError(f"no answer to {sent.wire()[:500]!r}") from None
        return received


def statuses(answer: bytes) -> list[int]:
    """Of all answers in what came: a smuggled request would have a second one."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) if status != b"100"]


def is_wrong(sent: Sent, status: int) -> bool:
    return status >= 500 or (status == 200 and sent.kind in REFUSED)


def test_none_is_a_failure_none_has_an_effect_and_nothing_grows(world: World) -> None:
    document = httpx.get(f"{world.url}/openapi.json", timeout=LIMIT).json()
    requests = Hostile(document, world.fill(), SEED, MAX_MB << 20).requests(NUMBER)
    assert len(requests) == NUMBER
    before = world.tree()

    def ask(sent: Sent) -> tuple[Sent, bytes]:
        return sent, send(world.port, sent)

    seen: Counter[tuple[str, int]] = Counter()
    wrong: list[tuple[int, Sent, bytes]] = []
    grown: list[dict[int, int]] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for part in (requests[:WARM], *[requests[WARM:]] * ROUNDS):
            memory, held = world.memory(), world.held()
            for sent, answer in pool.map(ask, part):
                told = statuses(answer) or [0]
                seen.update((sent.kind, status) for status in told)
                wrong += [(status, sent, answer) for status in told if is_wrong(sent, status)]
            grown.append({pid: used - memory[pid] for pid, used in world.memory().items()})
            is_warm = len(grown) > 1
            is_flat = is_warm and max(grown[-1].values()) <= GROWTH and world.holds_no_more_than(held)
            if is_flat:
                break
    for status, sent, answer in wrong[:10]:
        print(status, sent.kind, sent.wire()[:300], answer[-300:])  # what a failure shows
    assert not wrong
    assert world.tree() == before
    assert is_flat, (grown, held, world.held())
    assert "Traceback" not in world.log.read_text()
    refused = sum(number for (_, status), number in seen.items() if 400 <= status < 500)
    assert refused > seen.total() * 0.7
    assert httpx.get(f"{world.url}/readyz", timeout=LIMIT).status_code == 200
