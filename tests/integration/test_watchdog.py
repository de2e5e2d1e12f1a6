"""Engines that hang, as real processes: they are killed and started again, and requests are told."""

from __future__ import annotations

import os
import signal

import pytest

from janflask.errors import EngineCrashedError
from janflask.ipc.clients.engine import open_generation
from janflask.ipc.messages.engine import Started
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.sampling import SamplingParams
from janflask.models.state import ModelStatus
from tests.integration.engine_world import LIMIT, World, reaches, serving, state_of, wait_for

QUICK = "0.5"  # seconds of JANFLASK_HANG_TIMEOUT


def request(prompt: str) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, sampling=SamplingParams())


def replaced(world: World, before: int) -> bool:
    return len(world.pids("m")) > 1 and world.pids("m")[-1] != before


def test_a_stopped_process_is_killed_and_started_again(world: World) -> None:
    world.model("m")
    supervisor = world.supervisor(JANFLASK_HANG_TIMEOUT=QUICK)
    supervisor.restore()
    with serving(supervisor, world.runtime_dir) as client:
        state = client.start_and_wait("m", {}, LIMIT)
        assert state.pid is not None
        assert state.socket is not None
        with open_generation(state.socket, request("hang")) as generation:
            assert generation.wait(LIMIT)
            assert isinstance(generation.receive()[0], Started)
            os.kill(state.pid, signal.SIGSTOP)
            wait_for(lambda: replaced(world, state.pid or 0))
            assert generation.wait(LIMIT)
            with pytest.raises(EngineCrashedError, match="started again"):
                generation.receive()
        reaches(supervisor, "m", ModelStatus.RUNNING)
        assert state_of(supervisor, "m").restarts == 1


def test_a_loop_that_does_not_come_round(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.model("m", "stalls 0.5")
    supervisor = world.supervisor(JANFLASK_HANG_TIMEOUT=QUICK)
    supervisor.restore()
    with serving(supervisor, world.runtime_dir) as client:
        state = client.start_and_wait("m", {}, LIMIT)
        assert state.socket is not None
        with open_generation(state.socket, request("hang")):
            wait_for(lambda: replaced(world, state.pid or 0))
    assert "although there is work" in caplog.text


def test_long_steps_and_idle_engines_are_no_hang(world: World) -> None:
    world.model("m", "stalls 600", "idle 10")
    supervisor = world.supervisor(JANFLASK_HANG_TIMEOUT="0.3")
    looks = 0
    look = supervisor._watchdog.look

    def counted() -> None:
        nonlocal looks
        look()
        looks += 1

    supervisor._watchdog.look = counted  # type: ignore[method-assign]
    supervisor.restore()
    with serving(supervisor, world.runtime_dir) as client:
        state = client.start_and_wait("m", {}, LIMIT)
        assert state.socket is not None
        wait_for(lambda: looks > 10)
        with open_generation(state.socket, request("hang")):
            seen = looks
            wait_for(lambda: looks > seen + 20)
        assert world.pids("m") == [state.pid]
