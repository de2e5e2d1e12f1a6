"""Starting and stopping models, and starts that fail, with the fake engines."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

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
)
from janflask.ipc.clients.engine import engine_stats, open_generation
from janflask.ipc.messages.engine import Done, Started
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.catalog import is_model_id
from janflask.models.state import ModelState, ModelStatus
from janflask.settings import Settings
from janflask.supervisor.supervisor import RUNNING_FILE, Supervisor
from tests.fakes.fake_engine import STATS
from tests.integration.engine_world import (
    LIMIT,
    QUICK,
    World,
    alive,
    remembered,
    state_of,
    wait_for,
)

# --- start and stop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{prompt}</s>", None, 7])
def test_an_engine_is_told_the_models_own_layout(world: World, template: object) -> None:
    """What ends a turn there ends an answer; what is no text is none."""
    folder = world.model("m")
    described = {"id": "m", "settings": {"llama_model_path": "model.gguf", "prompt_template": template}}
    (folder / "model.json").write_text(json.dumps(described))
    state = world.supervisor().start("m", {})
    assert state.info is not None
    assert state.info.metadata == ({"prompt_template": template} if isinstance(template, str) else {})


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
    path = state.socket
    wait_for(lambda: engine_stats(path, LIMIT).busy == 0)  # the fake engine says Done before it is at rest
    assert replace(engine_stats(path, LIMIT), idle_seconds=0.0) == STATS

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


def test_a_folder_of_any_name_runs_under_its_id_alone(world: World) -> None:
    """Jan's name leads to the model, and into no path: not the log's, not a memory of what ran."""
    folder = "Llama 3 (8B)/日本 [x]+"
    world.model(folder)
    supervisor = world.supervisor()
    state = supervisor.start(folder, {})
    assert is_model_id(state.model_id)
    assert supervisor.start(state.model_id, {}).pid == state.pid
    assert [known.model_id for known in supervisor.states()] == [state.model_id]
    assert [path.name for path in (world.data_dir / "logs").iterdir()] == [f"engine-{state.model_id}.log"]
    assert json.loads((world.runtime_dir / "running.json").read_text()).keys() == {state.model_id}
    assert supervisor.stop(folder) == supervisor.stop(state.model_id)
    assert supervisor.state(folder).status is ModelStatus.STOPPED
    assert not alive(world.pids(folder))


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
    folder = world.model("far")
    (folder / "model.json").write_text('{"upstream": {"base_urls": ["http://h.example/v1"], "model": "x"}}')
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
    with pytest.raises(ConflictError, match="far is run by another server"):
        supervisor.start("far", {})
    assert supervisor.stop("far").status is ModelStatus.STOPPED
    assert not world.pids("far")
    with pytest.raises(InvalidRequestError, match="ctx_len"):
        supervisor.start("m", {"ctx_len": "x"})
    assert not world.pids("m")
    assert not (world.runtime_dir / RUNNING_FILE).exists() or not remembered(world)
