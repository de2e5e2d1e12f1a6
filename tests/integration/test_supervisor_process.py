"""The supervisor's process, and one supervisor after another."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from janflask.errors import (
    ModelLoadError,
)
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.state import ModelStatus
from janflask.supervisor.supervisor import RUNNING_FILE
from tests.integration.engine_world import (
    LIMIT,
    ROOT,
    World,
    descendants,
    remembered,
    state_of,
    supervisor_process,
    wait_for,
)


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
    command = [sys.executable, "-m", "janflask.supervisor"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "chmod 700" in done.stderr
