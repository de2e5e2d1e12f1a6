"""The server that is used: keys, four models in one file with room for two, a small cache, two workers."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import MODEL, Server, await_health, data_dir, launched_store, model_file
from benchmarks.soak.activities import RUN_ENDS
from benchmarks.soak.disturb import admin_key, make_key
from benchmarks.soak.raw import Raw
from benchmarks.soak.receiver import Receiver, receiving
from benchmarks.soak.tally import Tally
from benchmarks.soak.watch import family

OTHERS = ("one", "two")  # clients ask for these, too; there is room for one of them
SPARE = "three"  # is started and stopped
SETTINGS: dict[str, Any] = {
    "workers": 2,
    "ctx_len": 1024,
    "n_parallel": 8,
    "cpu_threads": 1,
    "ready_models": MODEL,
    "kv_snapshot_gb": 0.25,
    "kv_ram_gb": 0.125,
    "drain_timeout": 120,  # the longest answers of a busy machine
    "durability": "os",  # the disk is not what is looked at
    "log_format": "json",
}
STOP_LIMIT = 150.0  # seconds
# Rounds of long prompts: more of them than slots, so that states are kept of those that were there. Short runs: after
# some hundreds CPython's table of names has the size that it keeps. Their webhooks take minutes.
WHOLE, LITTLE = (3, 600), (1, 20)


@dataclass
class World:
    """A running server, its folders, and keys."""

    server: Server
    data: Path
    runtime: Path
    admin: str
    keys: list[str]
    receiver: Receiver  # of webhooks

    @property
    def pid(self) -> int:
        """Of the master."""
        return self.server.process.pid

    @property
    def models(self) -> tuple[str, ...]:
        """The first one always runs."""
        return MODEL, *OTHERS


@contextmanager
def serving(clients: int, budget_gb: float) -> Iterator[World]:
    """One whose first model runs; half as many keys as clients, so that each is two clients'."""
    with tempfile.TemporaryDirectory(prefix="janflask-soak-") as folder:
        data, runtime = Path(folder) / "data", Path(folder) / "run"
        _install(data)
        admin = admin_key(data / "secrets")
        keys = [make_key(data / "secrets", f"client {number}") for number in range(max(2, clients // 2))]
        settings = SETTINGS | {"runtime_dir": runtime, "memory_budget_gb": budget_gb}
        with receiving(data) as receiver, launched_store(data, **settings) as server:
            await_health(server, "/livez")
            world = World(server, data, runtime, admin, keys, receiver)
            _await_ready(world)
            yield world


def _install(data: Path) -> None:
    for name in (MODEL, *OTHERS, SPARE):
        model = data / "models" / name
        model.mkdir(parents=True)
        described = json.loads((data_dir() / "models" / MODEL / "model.json").read_text())
        own = {} if name == MODEL else {"n_parallel": 2}
        described["settings"] = {"llama_model_path": model_file().name, **own}
        described["id"] = name
        (model / "model.json").write_text(json.dumps(described))
        (model / model_file().name).symlink_to(model_file().resolve())


def _await_ready(world: World) -> None:
    raw = Raw(world.server.port, world.admin, Tally())
    deadline = time.monotonic() + 180
    while raw.ask("GET", "/readyz")[0] != 200:
        if time.monotonic() > deadline or world.server.process.poll() is not None:
            raise SystemExit(f"the server did not come up:\n{world.server.log.read_text()[-3000:]}")
        time.sleep(0.2)
    raw.close()


def fill(world: World, *, whole: bool) -> None:
    """Uses every cell of the first model's KV cache, and the RAM for states: what is used first is no growth.

    So is the table of the runner's Python that holds the parts of paths: it grows once, when many have come and gone,
    for which the short runs are. What is not the ``whole`` is only a beginning.
    """
    rounds, short_runs = WHOLE if whole else LITTLE
    with ThreadPoolExecutor(SETTINGS["n_parallel"]) as pool:
        list(pool.map(lambda number: _long_prompt(world, number), range(rounds * SETTINGS["n_parallel"])))
        list(pool.map(lambda _: _short_run(world), range(short_runs)))


def _long_prompt(world: World, number: int) -> None:
    raw = Raw(world.server.port, world.admin, Tally())
    prompt = [(number * 7919 + token * 31) % 40_000 + 100 for token in range(SETTINGS["ctx_len"] - 64)]
    raw.expect(200, "POST", "/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 60, "ignore_eos": True})
    raw.close()


def _short_run(world: World) -> None:
    raw = Raw(world.server.port, world.admin, Tally())
    thread = raw.expect(200, "POST", "/v1/threads", {"messages": [{"role": "user", "content": "Hello."}]})
    path = f"/v1/threads/{thread['id']}"
    run = {"assistant_id": "jan", "model": MODEL, "max_completion_tokens": 1, "stream": True}
    said = raw.expect(200, "POST", f"{path}/runs", run)
    if not any(f"event: {end}".encode() in said for end in RUN_ENDS):
        raise SystemExit(f"a run came to no end: {said[-300:]!r}")
    raw.expect(200, "DELETE", path)
    raw.close()


def end(world: World) -> list[str]:
    """SIGTERM, and what is wrong then."""
    processes = family(psutil.Process(world.pid))
    began = time.monotonic()
    world.server.process.send_signal(signal.SIGTERM)
    try:
        code = world.server.process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        return [f"the server did not end within {STOP_LIMIT:g} s of SIGTERM"]
    print(f"ended within {time.monotonic() - began:.1f} s of SIGTERM", flush=True)
    problems = [] if code == 0 else [f"the server ended with exit code {code}"]
    _, alive = psutil.wait_procs(processes, 5)
    problems += [f"process {each.pid} is left: {' '.join(each.cmdline())}" for each in alive]
    left = sorted(path.name for path in world.runtime.iterdir() if path.name != "lock")
    return problems + ([f"left in the runtime folder: {left}"] if left else [])
