"""Several models within a budget: who starts, who makes room, who is stopped for idling. Real processes, fake engines.

A fake model takes of the budget what its file has in bytes.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from janflask.errors import EngineCrashedError, InvalidRequestError, JanflaskError, ModelStoppedError, UnavailableError
from janflask.ipc.clients.engine import open_generation
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.messages.engine import Started
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.state import ModelState, ModelStatus
from janflask.supervisor.desired_state import Wanted, read
from tests.integration.engine_world import (
    LIMIT,
    World,
    alive,
    budget,
    reaches,
    remembered,
    state_of,
    supervisor_process,
    wait_for,
)

RUNNING, STARTING, STOPPED = ModelStatus.RUNNING, ModelStatus.STARTING, ModelStatus.STOPPED


def hold(state: ModelState):
    """A request that stays under way until it is closed."""
    assert state.socket is not None
    generation = open_generation(state.socket, GenerateRequest(prompt="hang"))
    assert generation.wait(LIMIT)
    assert generation.receive() == [Started(1)]
    return generation


# --- making room ----------------------------------------------------------------------------------------------------


def test_a_model_tells_what_it_takes(world: World) -> None:
    world.model("m", size=100)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(150))
    assert supervisor.start("m", {}).memory_bytes == 100 << 10
    assert state_of(supervisor, "m").memory_bytes == 100 << 10
    assert supervisor.stop("m").memory_bytes is None


def test_a_model_tells_what_it_uses(world: World) -> None:
    world.model("m", size=100)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(150))
    state = supervisor.start("m", {})
    assert state.pid is not None
    assert state.used_bytes is not None
    resident = psutil.Process(state.pid).memory_info().rss
    assert resident / 2 < state.used_bytes < resident * 2
    assert supervisor.stop("m").used_bytes is None


@pytest.mark.parametrize("by_use", [False, True])
def test_what_a_running_model_does_not_use_is_there_for_another_if_a_setting_says_so(
    world: World, by_use: bool
) -> None:
    """Each is promised 3 GiB, for a file that it does not read."""
    for name in ("old", "new"):
        adapter = world.model(name) / "adapter.bin"
        adapter.touch()
        os.truncate(adapter, 3 << 30)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB="4", JANFLASK_ADMIT_BY_USE=str(int(by_use)))
    supervisor.start("old", {"lora": "adapter.bin"})
    supervisor.start("new", {"lora": "adapter.bin"})
    assert state_of(supervisor, "old").status is (RUNNING if by_use else STOPPED)


def test_two_models_that_fit_run_side_by_side(world: World) -> None:
    world.model("a", size=50)
    world.model("b", size=50)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    supervisor.start("a", {})
    supervisor.start("b", {})
    assert state_of(supervisor, "a").status is RUNNING


def test_the_longest_idle_model_makes_room(world: World) -> None:
    world.model("short", "idle 10", size=40)
    world.model("long", "idle 100", size=40)
    world.model("new", size=40)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    supervisor.start("long", {})
    supervisor.start("short", {})
    supervisor.start("new", {})
    states = {state.model_id: state for state in supervisor.states()}
    assert {name: state.status for name, state in states.items()} == {"short": RUNNING, "long": STOPPED, "new": RUNNING}
    assert (states["long"].error, states["long"].restarts) == (None, 0)
    assert not alive(world.pids("long"))
    assert list(remembered(world)) == ["new", "short"]
    assert supervisor.start("long", {}).status is RUNNING, "and it comes back when it is wanted"
    assert state_of(supervisor, "short").status is STOPPED


def test_a_model_in_use_stays(world: World) -> None:
    world.model("used", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(patience=0.3, JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with hold(supervisor.start("used", {})) as generation:
        with pytest.raises(UnavailableError, match=r"new needs .* used cannot make room now") as caught:
            supervisor.start("new", {})
        assert (caught.value.code, bool(caught.value.retry_after)) == ("insufficient_memory", True)
        assert state_of(supervisor, "used").status is RUNNING
        assert not generation.wait(0)
    assert not world.pids("new")
    assert list(remembered(world)) == ["used"]


def test_a_start_waits_for_the_end_of_a_request(world: World) -> None:
    world.model("used", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with hold(supervisor.start("used", {})) as generation, ThreadPoolExecutor() as pool:
        start = pool.submit(supervisor.start, "new", {})
        reaches(supervisor, "new", STARTING)
        generation.close()
        assert start.result(LIMIT).status is RUNNING
    assert state_of(supervisor, "used").status is STOPPED


@pytest.mark.parametrize("orders", [("busy",), ("mute", "idle 5")], ids=["always busy", "mute"])
def test_an_engine_that_will_not_go_stays(world: World, orders: tuple[str, ...]) -> None:
    world.model("stays", *orders, size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(patience=0.3, JANFLASK_MEMORY_BUDGET_GB=budget(100))
    first = supervisor.start("stays", {})
    with pytest.raises(UnavailableError, match="stays cannot make room"):
        supervisor.start("new", {})
    assert state_of(supervisor, "stays").pid == first.pid


def test_an_engine_that_says_it_goes_and_does_not_is_killed(world: World) -> None:
    world.model("deaf", "deaf", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100), JANFLASK_STOP_TIMEOUT="0.2")
    supervisor.start("deaf", {})
    assert supervisor.start("new", {}).status is RUNNING
    assert not alive(world.pids("deaf"))
    assert state_of(supervisor, "deaf") == ModelState(model_id="deaf", status=STOPPED)


def test_what_can_never_fit_is_refused_at_once(world: World) -> None:
    world.model("small", size=60)
    world.model("big", size=200)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    supervisor.start("small", {})
    with pytest.raises(InvalidRequestError, match=r"big needs .* weights.* choose a smaller") as caught:
        supervisor.start("big", {})
    assert (caught.value.status, caught.value.code) == (400, "insufficient_memory")
    assert state_of(supervisor, "small").status is RUNNING
    assert state_of(supervisor, "big").status is ModelStatus.FAILED
    assert not world.pids("big")
    world.model("big", size=40)
    assert supervisor.start("big", {}).status is RUNNING


def test_two_starts_at_once_never_both_get_the_last_memory(world: World) -> None:
    for name in ("a", "b", "c"):
        world.model(name, "sleep 0.2", size=60)
    supervisor = world.supervisor(patience=0.5, JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(supervisor.start, name, {}) for name in ("a", "b", "c")]
        while not all(start.done() for start in starts):
            states = supervisor.states()
            assert sum(state.memory_bytes or 0 for state in states) <= 100 << 10
            assert sum(state.pid is not None for state in states) <= 1
    assert any(start.exception() is None for start in starts)


def test_a_failed_start_gives_its_memory_back(world: World) -> None:
    world.model("bad", "error it is no GGUF", size=60)
    world.model("good", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with pytest.raises(JanflaskError, match="no GGUF"):
        supervisor.start("bad", {})
    assert supervisor.start("good", {}).status is RUNNING


def test_a_crashed_model_keeps_its_memory_until_it_is_back(world: World) -> None:
    world.model("m", "crash-after 0", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    supervisor.start("m", {})
    reaches(supervisor, "m", ModelStatus.FAILED)
    assert state_of(supervisor, "m").memory_bytes is None
    assert supervisor.start("new", {}).status is RUNNING


def test_stopping_a_start_that_waits_for_memory(world: World) -> None:
    world.model("leaving", "slow-end 600", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100), JANFLASK_STOP_TIMEOUT="600")
    first = supervisor.start("leaving", {})
    with ThreadPoolExecutor() as pool:
        start = pool.submit(supervisor.start, "new", {})
        reaches(supervisor, "leaving", ModelStatus.STOPPING)
        assert state_of(supervisor, "new").status is STARTING
        assert supervisor.stop("new").status is STOPPED
        with pytest.raises(ModelStoppedError):
            start.result(LIMIT)
        assert not world.pids("new")
        assert first.pid is not None
        assert alive(world.pids("leaving")) == [first.pid]
        os.kill(first.pid, signal.SIGKILL)
    reaches(supervisor, "leaving", STOPPED)


def test_starts_join_while_they_wait_for_memory(world: World) -> None:
    world.model("used", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with hold(supervisor.start("used", {})) as generation, ThreadPoolExecutor() as pool:
        starts = [pool.submit(supervisor.start, "new", {}) for _ in range(5)]
        reaches(supervisor, "new", STARTING)
        generation.close()
        assert len({start.result(LIMIT).pid for start in starts}) == 1
    assert len(world.pids("new")) == 1


def test_closing_ends_a_start_that_waits_for_memory(world: World) -> None:
    world.model("used", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    with hold(supervisor.start("used", {})), ThreadPoolExecutor() as pool:
        start = pool.submit(supervisor.start, "new", {})
        reaches(supervisor, "new", STARTING)
        supervisor.close()
        with pytest.raises(JanflaskError):
            start.result(LIMIT)
    assert not world.pids("new")


def test_an_engine_is_told_how_much_its_cache_may_take(world: World) -> None:
    world.model("m", size=50)
    supervisor = world.supervisor()
    seen = []
    spawn = supervisor._spawn
    supervisor._spawn = lambda model_id, plan: seen.append(plan) or spawn(model_id, plan)  # type: ignore[method-assign]
    supervisor.start("m", {})
    (plan,) = seen
    assert (plan.kv_bytes, plan.memory_bytes) == (None, 50 << 10), "of a file without a header nothing is known"
    assert (plan.settings.n_parallel, plan.notes) == (8, ())


def test_states_beside_its_slots_are_promised_as_far_as_there_is_room(world: World) -> None:
    world.model("m", size=50)
    world.model("n", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(140), JANFLASK_KV_RAM_GB=budget(40))
    seen = []
    spawn = supervisor._spawn
    supervisor._spawn = lambda model_id, plan: seen.append(spawn(model_id, plan)) or seen[-1]  # type: ignore[method-assign]
    assert supervisor.start("m", {}).memory_bytes == 90 << 10
    with pytest.raises(UnavailableError):
        supervisor.start("n", {}, displaces=False)
    supervisor.stop("m")
    supervisor.start("m", {"prefix_cache": False})
    second = supervisor.start("n", {})
    assert second.memory_bytes == 90 << 10
    assert second.notes == (
        "0 MiB of KV states are kept in memory beside the slots, not 0 MiB (JANFLASK_KV_RAM_GB): there is no room for "
        "more; a lower ctx_len or n_parallel makes some",
    )
    assert [engine.spec.state_bytes >> 10 for engine in seen] == [40, 0, 30]


# --- idling ---------------------------------------------------------------------------------------------------------


def test_the_watch_stops_idle_models_by_itself(world: World) -> None:
    world.model("m")
    world.model("busy", "busy")
    supervisor = world.supervisor(JANFLASK_IDLE_UNLOAD="0.2")
    supervisor.restore()
    supervisor.start("m", {})
    supervisor.start("busy", {})
    reaches(supervisor, "m", STOPPED)
    assert state_of(supervisor, "busy").status is RUNNING
    assert not alive(world.pids("m"))


def test_with_0_nothing_is_stopped(world: World) -> None:
    world.model("m", "idle 1000000")
    supervisor = world.supervisor(JANFLASK_IDLE_UNLOAD="0")
    supervisor.restore()
    supervisor.start("m", {})
    assert "idle" not in {thread.name for thread in threading.enumerate()}


# --- what runs after an end -----------------------------------------------------------------------------------------


def test_the_models_of_a_server_come_back_if_a_setting_says_so(world: World) -> None:
    for name in ("a", "b", "stopped"):
        world.model(name)
    with supervisor_process(world) as process:
        client = SupervisorClient(world.runtime_dir)
        for name in ("a", "b", "stopped"):
            client.start_and_wait(name, {"ctx_len": 32}, LIMIT)
        client.stop("stopped", LIMIT)
        process.terminate()
        assert process.wait(LIMIT) == 0
    (world.runtime_dir / "running.json").unlink()  # it goes with its server
    cached = world.data_dir / "cache" / "running.json"
    assert set(read(cached) or {}) == {"a", "b"}, "an orderly end does not forget them"
    with supervisor_process(world, JANFLASK_RESTORE_MODELS="1") as process:
        wait_for(lambda: [s.status for s in client.states(LIMIT).values()] == [RUNNING, RUNNING])
        info = client.states(LIMIT)["a"].info
        assert info is not None
        assert info.ctx_len == 32
        process.kill()
    (world.runtime_dir / "running.json").unlink()
    with supervisor_process(world):
        assert client.states(LIMIT) == {}
    assert read(cached) == {}, "what was not restored is not wanted any more"


def test_the_last_used_come_back_first_within_the_budget(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.supervisor.model_process.GRACE", 0.0)  # what they say of themselves counts at once
    for name in ("old", "older", "new"):
        world.model(name, {"old": "idle 100", "older": "idle 200", "new": "idle 50"}[name], size=40)
    first = world.supervisor()
    for name in ("new", "older", "old"):
        first.start(name, {})
    first.close()
    assert list(read(world.data_dir / "cache" / "running.json") or {}) == ["new", "old", "older"]
    second = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    second.restore()
    wait_for(lambda: len(second.states()) == 3)
    wait_for(lambda: all(state.status in (RUNNING, ModelStatus.FAILED) for state in second.states()))
    assert {state.model_id for state in second.states() if state.status is RUNNING} == {"new", "old"}
    assert list(remembered(world)) == ["new", "old"]


def test_what_is_wanted_keeps_its_order_and_survives_a_freeze(world: World) -> None:
    world.model("m")
    path = world.data_dir / "cache" / "running.json"
    wanted = Wanted([path])
    for name in ("a", "b", "c"):
        wanted.add(name, {"ctx_len": 1})
    wanted.used(["a", "unknown"])
    wanted.add("b", {"ctx_len": 2})
    assert list((read(path) or {}).items()) == [("a", {"ctx_len": 1}), ("c", {"ctx_len": 1}), ("b", {"ctx_len": 2})]
    wanted.freeze()
    wanted.drop("a")
    assert list(read(path) or {}) == ["a", "c", "b"]
    follower = Wanted([path])
    follower.adopt(read(path) or {})
    follower.drop("c")
    assert list(read(path) or {}) == ["a", "b"]


# --- a request that meets a model on its way out --------------------------------------------------------------------


def test_an_engine_that_goes_takes_no_request(world: World) -> None:
    """The request can be asked again: the engine has said nothing to it."""
    world.model("m", "slow-end 0.3", "idle 5", size=60)
    world.model("new", size=60)
    supervisor = world.supervisor(JANFLASK_MEMORY_BUDGET_GB=budget(100))
    state = supervisor.start("m", {})
    assert state.socket is not None
    with ThreadPoolExecutor() as pool:
        start = pool.submit(supervisor.start, "new", {})
        reaches(supervisor, "m", ModelStatus.STOPPING)
        with open_generation(state.socket, GenerateRequest(prompt="x")) as generation:
            assert generation.wait(LIMIT)
            with pytest.raises(EngineCrashedError):
                generation.receive()
        assert start.result(LIMIT).status is RUNNING
