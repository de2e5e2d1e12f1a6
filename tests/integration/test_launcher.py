"""gunicorn with conf/gunicorn.conf.py, a tiny application and the fake engine: who lives and who dies with whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from janflask.errors import UnavailableError
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.state import ModelStatus
from janflask.processes.launcher import address_problem, bind_address, read_settings
from janflask.settings import Settings
from janflask.supervisor.__main__ import COMMAND_VARIABLE
from tests.integration.waiting import LIMIT, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A gunicorn master and what belongs to it."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log

    def get(self, path: str = "/") -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(self.url + path, timeout=LIMIT).json()
        return answer

    def answers(self) -> bool:
        try:
            self.get()
        except httpx.TransportError:
            return False
        return True

    @property
    def runtime_dir(self) -> Path:
        return Path(self.get()["runtime_dir"])

    @property
    def client(self) -> SupervisorClient:
        return SupervisorClient(self.runtime_dir)

    def family(self) -> list[psutil.Process]:
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]

    def supervisor(self) -> psutil.Process:
        return next(child for child in self.family() if "janflask.supervisor" in child.cmdline())

    def runner(self) -> psutil.Process:
        return next(child for child in self.family() if "janflask.runner" in child.cmdline())

    def workers(self) -> set[int]:
        own = {self.supervisor().pid, self.runner().pid}
        return {child.pid for child in psutil.Process(self.process.pid).children()} - own


def environment(folder: Path, **settings: str) -> dict[str, str]:
    return os.environ | {
        "JANFLASK_DATA_DIR": str(folder / "data"),
        "JANFLASK_STOP_TIMEOUT": "0.5",
        "JANFLASK_SPARE_ENGINE": "0",
        "TMPDIR": str(folder),
        "XDG_RUNTIME_DIR": "",
        COMMAND_VARIABLE: f"{sys.executable} -m tests.fakes.fake_engine",
        **settings,
    }


COMMAND = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "tests.fakes.tiny_app:app"]


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    port = free_port()
    env = environment(folder, JANFLASK_PORT=str(port), **settings)
    log = folder / "log"
    with log.open("w") as output, subprocess.Popen(COMMAND, cwd=ROOT, env=env, stderr=output, text=True) as process:
        server = Server(process, port, log)
        family: list[psutil.Process] = []
        try:
            wait_for(server.answers)
            family = server.family()
            yield server
        finally:
            process.kill()
            process.wait()
            psutil.wait_procs(family, LIMIT)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jf", dir="/tmp") as name:  # a socket's path must be short
        folder = Path(name)
        model = folder / "data" / "models" / "m"
        model.mkdir(parents=True)
        (model / "m.gguf").write_text("progress")
        yield folder


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("janflask-*")]


def test_one_command_brings_all_up_and_sigterm_ends_it(folder: Path) -> None:
    with serving(folder, JANFLASK_WORKERS="2") as server:
        runtime_dir = server.runtime_dir
        assert runtime_dir.stat().st_mode & 0o777 == 0o700
        assert server.client.start_and_wait("m", {}, LIMIT).status is ModelStatus.RUNNING
        family = server.family()
        assert len(family) == 6, "master, two workers, supervisor, engine, runner"
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0
        assert not [process for process in family if process.is_running()]
        assert leftovers(folder) == []


def test_a_control_c_in_the_terminal(folder: Path) -> None:
    with serving(folder) as server:
        server.client.start_and_wait("m", {}, LIMIT)
        family = server.family()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT) == 0
        assert not [process for process in family if process.is_running()]


def test_nothing_outlives_a_server_that_is_killed(folder: Path) -> None:
    with serving(folder, JANFLASK_WORKERS="2") as server:
        server.client.start_and_wait("m", {}, LIMIT)
        wait_for(lambda: len(server.workers()) == 2)
        family = server.family()
        supervisor = server.supervisor()
        for process in family:
            if process != supervisor and process not in supervisor.children():
                process.kill()
        gone, left = psutil.wait_procs(family, LIMIT)
        assert (len(gone), left) == (6, [])
        assert leftovers(folder) == []
        assert address_problem(("127.0.0.1", server.port)) is None, "nobody kept the port"


def test_nothing_outlives_a_master_that_is_killed(folder: Path) -> None:
    with serving(folder) as server:
        server.client.start_and_wait("m", {}, LIMIT)
        family = server.family()
        server.process.kill()
        assert psutil.wait_procs(family, LIMIT)[1] == []


def test_a_killed_supervisor_is_followed_by_another_with_the_same_models(folder: Path) -> None:
    with serving(folder) as server:
        first = server.client.start_and_wait("m", {}, LIMIT)
        worker = server.get()["pid"]
        killed = server.supervisor()
        engine = psutil.Process(first.pid)
        killed.kill()
        assert psutil.wait_procs([engine], LIMIT)[1] == []

        def runs_again() -> bool:
            try:
                state = server.client.states(LIMIT).get("m")
            except UnavailableError:
                return False
            return state is not None and state.status is ModelStatus.RUNNING and state.pid != first.pid

        wait_for(runs_again)
        assert server.get()["pid"] == worker
        assert "The supervisor died" in server.log.read_text()
        family = server.family()
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0
        assert not [process for process in family if process.is_running()]


def test_a_reload_leaves_the_models_running(folder: Path) -> None:
    with serving(folder) as server:
        before = server.client.start_and_wait("m", {}, LIMIT)
        supervisor, workers, runtime_dir = server.supervisor(), server.workers(), server.runtime_dir
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: bool(server.workers()) and not server.workers() & workers)
        wait_for(server.answers)
        assert server.runtime_dir == runtime_dir
        assert server.client.states(LIMIT)["m"] == before
        assert server.supervisor() == supervisor


def test_the_engine_has_no_hold_on_the_port(folder: Path) -> None:
    with serving(folder) as server:
        server.client.start_and_wait("m", {}, LIMIT)
        for process in server.supervisor().children():
            assert not [connection for connection in process.net_connections("tcp") if connection.laddr]
        assert not server.supervisor().net_connections("tcp")


def test_a_named_runtime_folder_is_kept_but_emptied(folder: Path) -> None:
    named = folder / "run"
    with serving(folder, JANFLASK_RUNTIME_DIR=str(named)) as server:
        assert server.runtime_dir == named
        server.client.start_and_wait("m", {}, LIMIT)
        second = run(folder, JANFLASK_RUNTIME_DIR=str(named), JANFLASK_PORT=str(free_port()))
        assert second.returncode == 1
        assert "in use by another server" in second.stderr
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0
        assert [path.name for path in named.iterdir()] == ["lock"]


# --- a start that is refused ----------------------------------------------------------------------------------------


def run(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = environment(folder, **settings)
    return subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_port_in_use(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(folder, JANFLASK_PORT=str(port))
    assert done.returncode == 1
    assert f"janflask: port {port} on 127.0.0.1 is in use" in done.stderr
    assert "Retrying" not in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(folder) == []


def test_an_address_of_another_machine(folder: Path) -> None:
    done = run(folder, JANFLASK_HOST="192.0.2.1", JANFLASK_PORT=str(free_port()))
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("JANFLASK_WORKERS", "many", "JANFLASK_WORKERS='many'"), ("JANFLASK_RUNTIME_DIR", "/" + "x" * 100, "too long")],
)
def test_a_setting_that_cannot_be_used(folder: Path, name: str, value: str, says: str) -> None:
    value = str(folder / value[1:]) if value.startswith("/") else value
    done = run(folder, **{"JANFLASK_PORT": str(free_port()), name: value})
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_addresses() -> None:
    assert bind_address(Settings.from_env({"JANFLASK_PORT": "1"})) == "127.0.0.1:1"
    assert bind_address(Settings.from_env({"JANFLASK_HOST": "::1", "JANFLASK_PORT": "1"})) == "[::1]:1"
    assert address_problem(("127.0.0.1", 0)) is None
    assert "cannot listen" in (address_problem(("no.such.host.invalid", 0)) or "")


def test_settings_or_a_clear_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JANFLASK_PORT", "http")
    with pytest.raises(SystemExit) as caught:
        read_settings()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("janflask: JANFLASK_PORT='http'")
