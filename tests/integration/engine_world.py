"""A supervisor over engines that misbehave as they are told (tests/fakes/fake_engine.py): real processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.state import ModelState, ModelStatus
from janflask.processes import lifeline
from janflask.processes.restart import RestartPolicy
from janflask.processes.runtime_dir import CHANNEL_VARIABLE
from janflask.settings import Settings
from janflask.supervisor.__main__ import COMMAND_VARIABLE
from janflask.supervisor.server import supervisor_server
from janflask.supervisor.supervisor import RUNNING_FILE, Supervisor

ROOT = Path(__file__).resolve().parents[2]
FAKE_ENGINE = [sys.executable, "-m", "tests.fakes.fake_engine"]
QUICK = RestartPolicy(first_delay=0.02)
PATIENT = RestartPolicy(first_delay=600.0, max_delay=600.0)
LIMIT = 20.0  # seconds that anything here may take on a slow machine


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.01)


class World:
    """A data folder and a runtime folder, and models that are orders to the fake engine."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.runtime_dir = folder / "run"
        self.runtime_dir.mkdir(mode=0o700)
        self.made: list[Supervisor] = []

    def model(self, model_id: str, *orders: str, size: int = 0) -> Path:
        """``size``: KiB of the file, which are what the model takes of the budget."""
        folder = self.data_dir / "models" / model_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.gguf").write_text("\n".join(orders).ljust(size << 10, "\n"))
        return folder

    def supervisor(self, policy: RestartPolicy = QUICK, patience: float = LIMIT, **env: str) -> Supervisor:
        own = {"JANFLASK_DATA_DIR": str(self.data_dir), "JANFLASK_SPARE_ENGINE": "0", "JANFLASK_KV_RAM_GB": "0"}
        settings = Settings.from_env(own | env)
        self.made.append(Supervisor(settings, self.runtime_dir, FAKE_ENGINE, policy, patience))
        return self.made[-1]

    def pids(self, model_id: str) -> list[int]:
        """Every engine process that was ever started for the model, in order."""
        path = self.data_dir / "models" / model_id / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def state_of(supervisor: Supervisor, model_id: str) -> ModelState:
    (state,) = [state for state in supervisor.states() if state.model_id == model_id]
    return state


def reaches(supervisor: Supervisor, model_id: str, status: ModelStatus) -> None:
    """Waits for it; before its start has begun, a model is not known."""
    wait_for(lambda: any(s.model_id == model_id and s.status is status for s in supervisor.states()))


@contextmanager
def serving(supervisor: Supervisor, runtime_dir: Path) -> Iterator[SupervisorClient]:
    with supervisor_server(runtime_dir / SUPERVISOR_SOCKET, supervisor) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield SupervisorClient(runtime_dir)
        finally:
            server.shutdown()
            thread.join()


def budget(kibibytes: int) -> str:
    """The value of JANFLASK_MEMORY_BUDGET_GB for so many KiB."""
    return str(kibibytes / (1 << 20))


def remembered(world: World) -> dict[str, object]:
    value: dict[str, object] = json.loads((world.runtime_dir / RUNNING_FILE).read_text())
    return value


@contextmanager
def supervisor_process(world: World, *, parent: bool = False, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m janflask.supervisor``, listening; with ``parent`` a process in between that only waits."""
    ours, theirs = socket.socketpair()
    env = os.environ | {
        "JANFLASK_DATA_DIR": str(world.data_dir),
        "JANFLASK_RUNTIME_DIR": str(world.runtime_dir),
        "JANFLASK_STOP_TIMEOUT": "0.3",
        "JANFLASK_SPARE_ENGINE": "0",
        "JANFLASK_KV_RAM_GB": "0",
        COMMAND_VARIABLE: " ".join(FAKE_ENGINE),
        CHANNEL_VARIABLE: str(theirs.fileno()),
        **settings,
    }
    command = [sys.executable, "-m", "janflask.supervisor"]
    if parent:
        code = (
            "import os, subprocess, sys; "
            f"env = os.environ | {{{lifeline.PARENT_VARIABLE!r}: str(os.getpid())}}; "
            f"subprocess.run({command!r}, env=env, close_fds=False)"
        )
        command = [sys.executable, "-c", code]
    with ours, subprocess.Popen(command, cwd=ROOT, env=env, pass_fds=(theirs.fileno(),)) as process:
        try:
            with theirs:
                pass
            ours.settimeout(LIMIT)
            assert ours.recv(1) == b"L"
            yield process
        finally:
            process.kill()


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)
