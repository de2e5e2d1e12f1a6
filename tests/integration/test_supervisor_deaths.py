"""Engines that die and are started again, and what an engine gets."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from janflask.errors import (
    EngineCrashedError,
    ModelLoadError,
)
from janflask.ipc.clients.engine import open_generation
from janflask.ipc.messages.engine import Started
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.state import ModelStatus
from janflask.processes.restart import RestartPolicy
from janflask.supervisor.engine_process import LOG_LIMIT
from tests.integration.engine_world import (
    LIMIT,
    PATIENT,
    World,
    reaches,
    state_of,
    wait_for,
)


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
