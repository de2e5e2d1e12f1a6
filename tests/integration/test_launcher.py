"""gunicorn with conf/gunicorn.conf.py, a tiny application and the fake engine: who lives and who dies with whom."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from janflask.access.key_file import NAME, KeyFile
from janflask.access.keys import Limits, new_key
from janflask.access.scopes import USUAL
from janflask.errors import UnavailableError
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.state import ModelStatus
from janflask.processes import lifeline
from janflask.processes.launcher import (
    RUNTIME_VARIABLE,
    Kept,
    address_problem,
    bind_address,
    post_worker_init,
    read_settings,
)
from janflask.processes.runtime_dir import CHANNEL_VARIABLE
from janflask.settings import Settings
from janflask.supervisor.__main__ import COMMAND_VARIABLE
from tests.integration.gunicorn_world import GUNICORN, ROOT, environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port, still_there, wait_for

TINY = "tests.fakes.tiny_app:app"


class Server:
    """A gunicorn master and what belongs to it."""

    process: subprocess.Popen[str]

    def __init__(self, port: int, log: Path) -> None:
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


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    port, log = free_port(), folder / "log"
    env = environment(folder, JANFLASK_PORT=str(port), **settings)
    server = Server(port, log)
    with (
        log.open("w") as output,
        (folder / "said").open("w") as said,
        running(TINY, env, server.answers, said, output) as server.process,
    ):
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_with_model("progress") as folder:
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
        assert not still_there(family)
        assert leftovers(folder) == []


def test_a_control_c_in_the_terminal(folder: Path) -> None:
    with serving(folder) as server:
        server.client.start_and_wait("m", {}, LIMIT)
        family = server.family()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(LIMIT) == 0
        assert not still_there(family)


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
        assert not still_there(family)


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


def run(folder: Path, *arguments: str, fds: Sequence[int] = (), **settings: str) -> subprocess.CompletedProcess[str]:
    command, env = [*GUNICORN, *arguments, TINY], environment(folder, **settings)
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False, pass_fds=fds
    )


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
    done = run(folder, JANFLASK_HOST="192.0.2.1", JANFLASK_PORT=str(free_port()), JANFLASK_ALLOW_KEYLESS="1")
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1" in done.stderr


@pytest.mark.parametrize(
    ("host", "arguments"),
    [
        ("0.0.0.0", []),
        ("::", []),
        ("127.0.0.1", ["--bind", "0.0.0.0:{port}"]),
        ("127.0.0.1", ["--bind", "[::]:{port}"]),
        ("127.0.0.1", ["--bind", ":{port}"]),
        ("127.0.0.1", ["--bind", "127.0.0.1:{port}", "--bind", "0.0.0.0:{port}"]),
        ("127.0.0.1", ["--bind", "unix:{folder}/sock", "--bind", "0.0.0.0:{port}"]),
        ("127.0.0.1", ["--reuse-port", "--bind", "0:{port}"]),
    ],
)
def test_an_address_that_others_reach_without_keys(folder: Path, host: str, arguments: list[str]) -> None:
    port = free_port()
    given = [word.format(port=port, folder=folder) for word in ["--pid", "{folder}/pid", *arguments]]
    done = run(folder, *given, JANFLASK_HOST=host, JANFLASK_PORT=str(port))
    assert done.returncode == 1
    assert "janflask keys add NAME" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Listening" not in done.stderr
    assert (leftovers(folder), sorted(path.name for path in folder.iterdir())) == ([], ["data"])


def test_a_socket_that_was_opened_by_others(folder: Path) -> None:
    with socket.socket() as inherited:
        inherited.bind(("0.0.0.0", 0))
        inherited.listen()
        arguments = ["--bind", f"fd://{inherited.fileno()}"]
        done = run(folder, *arguments, fds=(inherited.fileno(),), JANFLASK_PORT=str(free_port()))
    assert done.returncode == 1
    assert "janflask keys add NAME" in done.stderr
    assert leftovers(folder) == []


def test_keys_or_the_word_of_its_owner_let_it_listen_anywhere(folder: Path) -> None:
    with serving(folder, JANFLASK_HOST="0.0.0.0", JANFLASK_ALLOW_KEYLESS="1") as server:
        assert "may do everything" in server.log.read_text()
    key, _ = new_key("a", USUAL, Limits(), 1)
    KeyFile(folder / "data" / "secrets").change(lambda keyring: keyring.with_key(key))
    with serving(folder, JANFLASK_HOST="0.0.0.0") as server:
        assert "may do everything" not in server.log.read_text()


def test_keys_that_cannot_be_read(folder: Path) -> None:
    (folder / "data" / "secrets").mkdir()
    (folder / "data" / "secrets" / NAME).write_text("{}")
    done = run(folder, JANFLASK_PORT=str(free_port()))
    assert done.returncode == 1
    assert "nobody gets in" in done.stderr
    assert leftovers(folder) == []


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


def test_a_supervisor_that_does_not_start_ends_the_server(folder: Path) -> None:
    done = run(folder, **{COMMAND_VARIABLE: '"a quotation that does not end'})
    assert done.returncode == 1
    assert "janflask: the supervisor did not start: it ended at once" in done.stderr
    assert leftovers(folder) == []


def test_a_worker_that_cannot_load_the_application_ends_the_server(folder: Path) -> None:
    (folder / "broken.py").write_text("raise ImportError('half an installation')")
    command = [*GUNICORN, "broken:app"]
    env = environment(folder, JANFLASK_PORT=str(free_port()), PYTHONPATH=f"{folder}:{ROOT}")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 3, "gunicorn's for a worker that did not boot"
    assert "half an installation" in done.stderr
    assert "is serving at" not in done.stdout
    assert leftovers(folder) == []


@contextmanager
def starting(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server whose worker still loads the application, for a second, beside the two others."""
    code = f"import pathlib, time\npathlib.Path({str(folder)!r}, 'loading').touch()\ntime.sleep(1.0)\n"
    (folder / "slow_app.py").write_text(f"{code}from tests.fakes.tiny_app import app\n")
    env = environment(folder, JANFLASK_PORT=str(free_port()), PYTHONPATH=f"{folder}:{ROOT}")
    with running("slow_app:app", env, (folder / "loading").exists) as process:
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_told_to_end_while_it_starts(folder: Path, number: signal.Signals) -> None:
    with starting(folder) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 3, "worker, supervisor, runner"
        process.send_signal(number)
        assert process.wait(LIMIT) == 0
        assert psutil.wait_procs(family, LIMIT)[1] == []
        assert leftovers(folder) == []


SLOW_TO_LEAVE = """
import os, pathlib, signal, time

def leave(*_):
    os.close(channel)
    time.sleep(600)

channel = int(os.environ["{channel}"])
signal.signal(signal.SIGTERM, leave)
pathlib.Path("{begun}").touch()
os.write(channel, b"L")
time.sleep(600)
"""


def test_one_that_is_stopped_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes its files before it is gone: a moment later it would be left for somebody else to reap."""
    (folder / "slow_to_leave.py").write_text(SLOW_TO_LEAVE.format(channel=CHANNEL_VARIABLE, begun=folder / "begun"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(RUNTIME_VARIABLE, str(folder))
    kept = Kept("process", "slow_to_leave", "", Settings(data_dir=folder), logging.getLogger(__name__))
    kept.start(pytest.fail)
    wait_for((folder / "begun").exists)
    assert kept._process is not None
    process = psutil.Process(kept._process.pid)
    kept.stop(LIMIT)
    assert not process.is_running()


def alive(server: Server, module: str) -> list[psutil.Process]:
    found = []
    for child in server.family():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, or gone by now
            found += [child] if module in child.cmdline() else []
    return found


def can_start(server: Server, model: str) -> bool:
    try:
        return server.client.start_and_wait(model, {}, LIMIT).status is ModelStatus.RUNNING
    except UnavailableError:
        return False


@pytest.mark.parametrize("module", ["janflask.supervisor", "janflask.runner"])
def test_one_that_dies_while_the_server_starts_is_started_again(folder: Path, module: str) -> None:
    """Or ends the server, if it had not come to listen: either way nobody waits for it in vain."""
    with serving(folder) as server:
        named = {"janflask.supervisor": server.supervisor, "janflask.runner": server.runner}[module]
        died = named()
        died.kill()
        wait_for(lambda: not died.is_running())
        wait_for(lambda: any(found.pid != died.pid for found in alive(server, module)))
        wait_for(lambda: can_start(server, "m"))


def test_the_first_worker_alone_says_what_to_try(folder: Path) -> None:
    with serving(folder, JANFLASK_WORKERS="2") as server:
        wait_for(lambda: "is serving at" in (folder / "said").read_text())
        workers = server.workers()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(server.workers()) == 2 and not server.workers() & workers)
        wait_for(server.answers)
        server.process.terminate()
        assert server.process.wait(LIMIT) == 0
        said = (folder / "said").read_text()
    assert said.count("janflask is serving at") == 1
    assert server.url in said


def test_a_worker_that_waits_for_both_leaves_a_control_c_to_its_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Worker:
        ppid = os.getppid()
        cfg = SimpleNamespace(graceful_timeout=32)

        @property
        def alive(self) -> bool:
            seen.append(signal.getsignal(signal.SIGINT))
            return False

    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(lifeline, "hold", lambda parent_pid: None)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        post_worker_init(Worker())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert set(seen) == {signal.SIG_IGN}
