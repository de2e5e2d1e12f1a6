"""The supervisor with engines that misbehave as they are told (tests/fakes/fake_engine.py): real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from janflask.engine import lifeline
from janflask.engine.process import LOG_LIMIT
from janflask.engine.runtime_dir import CHANNEL_VARIABLE
from janflask.engine.supervised import RestartPolicy
from janflask.engine.supervisor import COMMAND_VARIABLE, RUNNING_FILE, Supervisor, SupervisorServer
from janflask.errors import (
    ConflictError,
    EngineCrashedError,
    EngineError,
    InvalidRequestError,
    JanflaskError,
    ModelLoadError,
    ModelNotFoundError,
    ModelStoppedError,
    TimeoutExceededError,
    UnavailableError,
)
from janflask.ipc.client import SupervisorClient, engine_stats, open_generation
from janflask.ipc.protocol import SUPERVISOR_SOCKET, Done, FrameReader, GetStates, Started, States, encode
from janflask.settings import Settings
from janflask.types import GenerateRequest, ModelState, ModelStatus
from tests.fakes.fake_engine import STATS

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

    def model(self, model_id: str, *orders: str) -> Path:
        folder = self.data_dir / "models" / model_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.gguf").write_text("\n".join(orders))
        return folder

    def supervisor(self, policy: RestartPolicy = QUICK, **env: str) -> Supervisor:
        settings = Settings.from_env({"JANFLASK_DATA_DIR": str(self.data_dir)} | env)
        self.made.append(Supervisor(settings, self.runtime_dir, FAKE_ENGINE, policy))
        return self.made[-1]

    def pids(self, model_id: str) -> list[int]:
        """Every engine process that was ever started for the model, in order."""
        path = self.data_dir / "models" / model_id / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="jf") as name:  # a socket's path must be short
        world = World(Path(name))
        yield world
        for supervisor in world.made:
            supervisor.close()
        pids = [pid for model in (world.data_dir / "models").iterdir() for pid in world.pids(model.name)]
        wait_for(lambda: not alive(pids))


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
    wait_for(lambda: state_of(supervisor, model_id).status is status)


# --- start and stop -------------------------------------------------------------------------------------------------


def test_a_model_runs_and_stops(world: World) -> None:
    world.model("m", "progress")
    supervisor = world.supervisor()
    state = supervisor.start("m", {"ctx_len": "32"})
    assert state.status is ModelStatus.RUNNING
    assert state.info is not None
    assert state.info.ctx_len == 32
    assert state.socket is not None
    assert state.pid == world.pids("m")[0]
    with open_generation(state.socket, GenerateRequest(prompt="x")) as generation:
        messages = []
        while not generation.done:
            assert generation.wait(LIMIT)
            messages += generation.receive()
    assert messages[0] == Started(1)
    assert isinstance(messages[-1], Done)
    assert engine_stats(state.socket, LIMIT) == STATS

    stopped = supervisor.stop("m")
    assert stopped == ModelState(model_id="m", status=ModelStatus.STOPPED)
    assert not alive(world.pids("m"))
    assert not Path(state.socket).exists()
    with pytest.raises(EngineCrashedError):
        open_generation(state.socket, GenerateRequest(prompt="x"))


def test_starting_a_running_model_changes_nothing(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor()
    first = supervisor.start("m", {})
    assert supervisor.start("m", {"ctx_len": 32}) == first
    assert len(world.pids("m")) == 1


def test_a_stopped_model_starts_again(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor()
    first = supervisor.start("m", {})
    supervisor.stop("m")
    second = supervisor.start("m", {})
    assert (second.status, second.restarts) == (ModelStatus.RUNNING, 0)
    assert second.socket != first.socket


def test_twenty_starts_share_one_engine(world: World) -> None:
    world.model("m", "sleep 0.3")
    supervisor = world.supervisor()
    with ThreadPoolExecutor(20) as pool:
        states = list(pool.map(lambda _: supervisor.start("m", {}), range(20)))
    assert {state.pid for state in states} == set(world.pids("m"))
    assert len(world.pids("m")) == 1


def test_one_model_does_not_wait_for_another(world: World) -> None:
    world.model("slow", "hang")
    world.model("quick")
    supervisor = world.supervisor()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(supervisor.start, "slow", {})
        wait_for(lambda: bool(world.pids("slow")))
        assert supervisor.start("quick", {}).status is ModelStatus.RUNNING
        assert state_of(supervisor, "slow").status is ModelStatus.STARTING
        supervisor.stop("quick")
        supervisor.stop("slow")
        with pytest.raises(ModelStoppedError):
            slow.result()


def test_stopping_a_model_while_it_starts(world: World) -> None:
    world.model("m", "hang")
    supervisor = world.supervisor(JANFLASK_STOP_TIMEOUT="600")
    with ThreadPoolExecutor() as pool:
        start = pool.submit(supervisor.start, "m", {})
        wait_for(lambda: bool(world.pids("m")))
        assert supervisor.stop("m").status is ModelStatus.STOPPED
        with pytest.raises(ModelStoppedError, match="while it started"):
            start.result()
    assert not alive(world.pids("m"))


def test_stopping_what_does_not_run(world: World) -> None:
    world.model("m", "exit 1")
    supervisor = world.supervisor()
    assert supervisor.stop("m").status is ModelStatus.STOPPED
    with pytest.raises(ModelLoadError):
        supervisor.start("m", {})
    assert supervisor.stop("m").status is ModelStatus.STOPPED
    assert supervisor.stop("m").error is None
    with pytest.raises(ModelNotFoundError):
        supervisor.stop("unknown")


def test_an_engine_that_does_not_listen_is_killed(world: World) -> None:
    world.model("m", "deaf")
    supervisor = world.supervisor(JANFLASK_STOP_TIMEOUT="0.1")
    supervisor.start("m", {})
    assert supervisor.stop("m").status is ModelStatus.STOPPED
    assert not alive(world.pids("m"))


def test_a_model_that_is_deleted_while_it_runs_can_be_stopped(world: World) -> None:
    folder = world.model("m")
    supervisor = world.supervisor()
    supervisor.start("m", {})
    (folder / "model.gguf").unlink()
    assert supervisor.start("m", {}).status is ModelStatus.RUNNING
    assert supervisor.stop("m").status is ModelStatus.STOPPED


# --- a start that fails ---------------------------------------------------------------------------------------------


def test_the_reason_of_a_failed_start(world: World) -> None:
    world.model("m", "error it is no GGUF")
    supervisor = world.supervisor()
    with pytest.raises(JanflaskError, match="it is no GGUF") as caught:
        supervisor.start("m", {})
    assert caught.value.code == "model_load_failed"
    state = state_of(supervisor, "m")
    assert (state.status, state.error) == (ModelStatus.FAILED, "it is no GGUF")
    world.model("m", "progress")
    assert supervisor.start("m", {}).status is ModelStatus.RUNNING


def test_an_engine_that_exits_without_a_word(world: World) -> None:
    world.model("m", "exit 3")
    supervisor = world.supervisor()
    with pytest.raises(ModelLoadError, match=r"exited with code 3.*\n.*last words"):
        supervisor.start("m", {})
    assert len(world.pids("m")) == 1


def test_a_start_that_takes_too_long(world: World) -> None:
    world.model("m", "hang")
    supervisor = world.supervisor(JANFLASK_START_TIMEOUT="0.3")
    with pytest.raises(TimeoutExceededError, match=r"within 0\.3 s"):
        supervisor.start("m", {})
    assert state_of(supervisor, "m").status is ModelStatus.FAILED
    assert not alive(world.pids("m"))


def test_garbage_from_an_engine(world: World) -> None:
    world.model("m", "garbage")
    supervisor = world.supervisor()
    with pytest.raises(JanflaskError, match="not a janflask frame"):
        supervisor.start("m", {})
    assert not alive(world.pids("m"))


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGILL"])
def test_a_signal_in_the_start_is_answered_without_repacked_weights(world: World, name: str) -> None:
    world.model("m", f"signal-with-extra-bufts {name}")
    supervisor = world.supervisor()
    state = supervisor.start("m", {})
    assert state.info is not None
    assert not state.info.use_extra_bufts
    assert state.notes == (f"runs without repacked CPU weights: with them its engine died of {name} in its start",)
    assert len(world.pids("m")) == 2
    supervisor.stop("m")
    assert supervisor.start("m", {}).notes == state.notes
    assert len(world.pids("m")) == 3, "what was learnt is not tried again"
    supervisor.stop("m")
    supervisor.start("m", {"use_extra_bufts": True})
    assert len(world.pids("m")) == 5, "unless the request insists"


def test_a_signal_in_both_starts_fails(world: World) -> None:
    world.model("m", "signal SIGSEGV")
    supervisor = world.supervisor()
    with pytest.raises(ModelLoadError, match="died of SIGSEGV before it was ready"):
        supervisor.start("m", {})
    assert len(world.pids("m")) == 2
    state = state_of(supervisor, "m")
    assert state.status is ModelStatus.FAILED
    assert state.notes == ("with repacked CPU weights its engine died of SIGSEGV in its start: tried without them",)
    assert supervisor.stop("m").notes == ()


def test_no_second_try_where_repacking_was_off(world: World) -> None:
    world.model("m", "signal SIGSEGV")
    supervisor = world.supervisor(JANFLASK_USE_EXTRA_BUFTS="0")
    with pytest.raises(ModelLoadError, match="SIGSEGV"):
        supervisor.start("m", {})
    assert len(world.pids("m")) == 1


def test_an_engine_that_cannot_be_executed(world: World) -> None:
    world.model("m")
    supervisor = Supervisor(
        Settings.from_env({"JANFLASK_DATA_DIR": str(world.data_dir)}), world.runtime_dir, ["/no/such/program"], QUICK
    )
    with pytest.raises(EngineError, match="cannot be started"):
        supervisor.start("m", {})


def test_what_cannot_be_started_at_all(world: World) -> None:
    (world.model("damaged") / "model.json").write_text("{")
    folder = world.model("absent")
    (folder / "model.json").write_text("{}")
    (folder / "model.gguf").unlink()
    world.model("m")
    supervisor = world.supervisor()
    with pytest.raises(ModelNotFoundError):
        supervisor.start("unknown", {})
    with pytest.raises(ModelNotFoundError):
        supervisor.start("../m", {})
    with pytest.raises(ModelLoadError, match="cannot be read"):
        supervisor.start("damaged", {})
    with pytest.raises(ConflictError, match="download"):
        supervisor.start("absent", {})
    with pytest.raises(InvalidRequestError, match="ctx_len"):
        supervisor.start("m", {"ctx_len": "x"})
    assert not world.pids("m")
    assert not (world.runtime_dir / RUNNING_FILE).exists() or not remembered(world)


# --- an engine that dies --------------------------------------------------------------------------------------------


def test_a_killed_engine_is_started_again(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor()
    first = supervisor.start("m", {"ctx_len": 32})
    assert first.pid is not None
    assert first.socket is not None
    with open_generation(first.socket, GenerateRequest(prompt="hang")) as generation:
        assert generation.wait(LIMIT)
        assert generation.receive() == [Started(1)]
        os.kill(first.pid, signal.SIGKILL)
        assert generation.wait(LIMIT)
        with pytest.raises(EngineCrashedError):
            generation.receive()
    wait_for(lambda: state_of(supervisor, "m").pid not in (None, first.pid))
    reaches(supervisor, "m", ModelStatus.RUNNING)
    second = state_of(supervisor, "m")
    assert (second.restarts, second.error) == (1, None)
    assert second.info is not None
    assert second.info.ctx_len == 32, "with the settings of the start that was asked for"


def test_a_start_ends_the_pause_after_a_death(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor(PATIENT)
    first = supervisor.start("m", {})
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    reaches(supervisor, "m", ModelStatus.STARTING)
    waiting = state_of(supervisor, "m")
    assert waiting.error == "its engine died of SIGKILL; it is being started again"
    assert waiting.socket is None
    wait_for(lambda: supervisor.start("m", {}).pid != first.pid)


def test_stopping_a_model_in_the_pause_after_a_death(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor(PATIENT)
    first = supervisor.start("m", {})
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    reaches(supervisor, "m", ModelStatus.STARTING)
    assert supervisor.stop("m").status is ModelStatus.STOPPED
    assert len(world.pids("m")) == 1


def test_too_many_deaths_are_a_failure(world: World) -> None:
    world.model("m", "crash-after 0")
    supervisor = world.supervisor()
    supervisor.start("m", {})
    reaches(supervisor, "m", ModelStatus.FAILED)
    state = state_of(supervisor, "m")
    assert "died 5 times in a row; the last exited with code 9" in (state.error or "")
    assert (len(world.pids("m")), state.restarts) == (5, 4)


def test_deaths_far_apart_do_not_add_up(world: World) -> None:
    world.model("m", "crash-after 0.05")
    supervisor = world.supervisor(RestartPolicy(first_delay=0.01, max_deaths=2, healthy_after=0.04))
    supervisor.start("m", {})
    wait_for(lambda: len(world.pids("m")) > 3)
    assert state_of(supervisor, "m").status is not ModelStatus.FAILED
    supervisor.stop("m")


def test_the_pauses_grow_up_to_a_limit() -> None:
    policy = RestartPolicy()
    assert [policy.delay(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert policy.delay(20) == 30.0


# --- what an engine gets --------------------------------------------------------------------------------------------


def test_an_engine_inherits_nothing_but_its_own_socket(world: World) -> None:
    folder = world.model("m")
    other = socket.socket()
    other.set_inheritable(True)
    with other:
        supervisor = world.supervisor()
        supervisor.start("m", {})
    files = (folder / "files").read_text().split("\n")
    assert len([name for name in files if name.startswith("socket:")]) == 1
    assert [name for name in files if name.endswith(".log")] == [str(world.data_dir / "logs" / "engine-m.log")] * 2


def test_a_log_that_grew_too_long_is_set_aside(world: World) -> None:
    world.model("m", "exit 3")
    logs = world.data_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "engine-m.log").write_bytes(b"old\n" * (LOG_LIMIT // 4 + 1))
    supervisor = world.supervisor()
    with pytest.raises(ModelLoadError, match="last words"):
        supervisor.start("m", {})
    assert (logs / "engine-m.log.1").stat().st_size > LOG_LIMIT
    assert (logs / "engine-m.log").read_text() == "the fake engine's last words\n"


# --- its socket -----------------------------------------------------------------------------------------------------


@contextmanager
def serving(supervisor: Supervisor, runtime_dir: Path) -> Iterator[SupervisorClient]:
    with SupervisorServer(runtime_dir / SUPERVISOR_SOCKET, supervisor) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SupervisorClient(runtime_dir)
        server.shutdown()
        thread.join()


def test_questions_over_the_socket(world: World) -> None:
    world.model("m", "progress")
    world.model("bad", "error it is no GGUF")
    with serving(world.supervisor(), world.runtime_dir) as client:
        assert client.states(LIMIT) == {}
        assert client.start_and_wait("m", {}, LIMIT).status is ModelStatus.RUNNING
        with pytest.raises(JanflaskError, match="no GGUF"):
            client.start_and_wait("bad", {}, LIMIT)
        with pytest.raises(JanflaskError) as caught:
            client.start_and_wait("../m", {}, LIMIT)
        assert caught.value.status == 404
        assert {name: state.status for name, state in client.states(LIMIT).items()} == {
            "m": ModelStatus.RUNNING,
            "bad": ModelStatus.FAILED,
        }
        assert client.stop("m", LIMIT).status is ModelStatus.STOPPED


@pytest.mark.parametrize(
    "said",
    [b"", b"J", b"GET / HTTP/1.1\r\n\r\n", encode(Started(1)), b"\xff" * 200_000],
    ids=["nothing", "half a header", "HTTP", "an answer", "noise"],
)
def test_nonsense_does_not_disturb_it(world: World, said: bytes) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir) as client:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            try:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)
            except ConnectionError:
                pass  # it hung up on us
        assert client.states(LIMIT) == {}


def test_a_silent_connection_holds_nobody_up(world: World) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir) as client:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            assert client.start_and_wait("m", {}, LIMIT).status is ModelStatus.RUNNING


def test_a_fault_of_its_own_is_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.model("m")
    supervisor = world.supervisor()
    with serving(supervisor, world.runtime_dir) as client:
        with monkeypatch.context() as patch:
            patch.setattr(supervisor, "states", lambda: 1 / 0)
            with pytest.raises(JanflaskError, match="ZeroDivisionError"):
                client.states(LIMIT)
        assert client.states(LIMIT) == {}


def test_no_start_after_the_close(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor()
    supervisor.start("m", {})
    supervisor.close()
    assert not alive(world.pids("m"))
    with pytest.raises(UnavailableError):
        supervisor.start("m", {})


# --- one supervisor after another -----------------------------------------------------------------------------------


def remembered(world: World) -> dict[str, object]:
    value: dict[str, object] = json.loads((world.runtime_dir / RUNNING_FILE).read_text())
    return value


def test_what_ran_is_remembered(world: World) -> None:
    world.model("m")
    world.model("n")
    world.model("bad", "exit 1")
    supervisor = world.supervisor()
    supervisor.start("m", {"ctx_len": 32})
    supervisor.start("n", {})
    supervisor.stop("n")
    with pytest.raises(ModelLoadError):
        supervisor.start("bad", {})
    assert remembered(world) == {"m": {"ctx_len": 32}}
    supervisor.close()

    successor = world.supervisor()
    successor.restore()
    wait_for(lambda: [state.status for state in successor.states()] == [ModelStatus.RUNNING])
    state = state_of(successor, "m")
    assert state.info is not None
    assert state.info.ctx_len == 32


@pytest.mark.parametrize("text", ["", "[]", "{", '{"m": 3}'])
def test_a_damaged_memory_is_no_obstacle(world: World, text: str) -> None:
    world.model("m")
    (world.runtime_dir / RUNNING_FILE).write_text(text)
    supervisor = world.supervisor()
    supervisor.restore()
    assert supervisor.states() == []


# --- the process ----------------------------------------------------------------------------------------------------


@contextmanager
def supervisor_process(world: World, *, parent: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m janflask.engine.supervisor``, listening; with ``parent`` a process in between that only waits."""
    ours, theirs = socket.socketpair()
    env = os.environ | {
        "JANFLASK_DATA_DIR": str(world.data_dir),
        "JANFLASK_RUNTIME_DIR": str(world.runtime_dir),
        "JANFLASK_STOP_TIMEOUT": "0.3",
        COMMAND_VARIABLE: " ".join(FAKE_ENGINE),
        CHANNEL_VARIABLE: str(theirs.fileno()),
    }
    command = [sys.executable, "-m", "janflask.engine.supervisor"]
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


def test_sigterm_ends_everything(world: World) -> None:
    world.model("m")
    world.model("deaf", "deaf")
    with supervisor_process(world) as process:
        client = SupervisorClient(world.runtime_dir)
        client.start_and_wait("m", {}, LIMIT)
        client.start_and_wait("deaf", {}, LIMIT)
        children = descendants(process)
        assert len(children) == 2
        process.terminate()
        assert process.wait(LIMIT) == 0
        assert not psutil.wait_procs(children, LIMIT)[1]


def test_engines_die_with_a_killed_supervisor(world: World) -> None:
    world.model("m")
    world.model("deaf", "deaf")
    world.model("stuck", "hold-gil 600")
    with supervisor_process(world) as process:
        client = SupervisorClient(world.runtime_dir)
        for model_id in ("m", "deaf", "stuck"):
            client.start_and_wait(model_id, {}, LIMIT)
        children = descendants(process)
        assert len(children) == 3
        process.kill()
        assert not psutil.wait_procs(children, LIMIT)[1]


def test_nothing_outlives_a_killed_parent(world: World) -> None:
    world.model("m")
    world.model("stuck", "hold-gil 600")
    world.model("starting", "hang")
    with supervisor_process(world, parent=True) as process:
        client = SupervisorClient(world.runtime_dir)
        client.start_and_wait("m", {}, LIMIT)
        client.start_and_wait("stuck", {}, LIMIT)
        with client.start("starting", {}):
            wait_for(lambda: bool(world.pids("starting")))
            children = descendants(process)
            assert len(children) == 4
            process.kill()
            assert not psutil.wait_procs(children, LIMIT)[1]


def test_a_supervisor_follows_one_that_was_killed(world: World) -> None:
    world.model("m")
    client = SupervisorClient(world.runtime_dir)
    with supervisor_process(world) as process:
        first = client.start_and_wait("m", {}, LIMIT)
        process.kill()
    with supervisor_process(world):
        second = client.start_and_wait("m", {}, LIMIT)
        assert second.pid != first.pid


@pytest.mark.parametrize("mode", [0o755, 0o750])
def test_a_runtime_folder_open_to_others_is_refused(world: World, mode: int) -> None:
    world.model("m")
    world.runtime_dir.chmod(mode)
    env = os.environ | {"JANFLASK_RUNTIME_DIR": str(world.runtime_dir), "JANFLASK_DATA_DIR": str(world.data_dir)}
    command = [sys.executable, "-m", "janflask.engine.supervisor"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "chmod 700" in done.stderr


def test_a_question_in_single_bytes(world: World) -> None:
    world.model("m")
    with serving(world.supervisor(), world.runtime_dir):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(str(world.runtime_dir / SUPERVISOR_SOCKET))
            for byte in encode(GetStates()):
                connection.sendall(bytes([byte]))
            reader = FrameReader()
            while (message := reader.next()) is None:
                reader.feed(connection.recv(65536))
            assert message == States([])
