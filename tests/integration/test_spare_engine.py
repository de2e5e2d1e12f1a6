"""The engine process that is kept ready: who gets it, what becomes of it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from janflask.errors import ModelLoadError
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.state import ModelStatus
from janflask.supervisor import spare
from janflask.supervisor.engine_process import SPARE_VARIABLE
from janflask.supervisor.spare import Spare
from janflask.supervisor.supervisor import Supervisor
from tests.integration.engine_world import LIMIT, World, alive, descendants, supervisor_process, wait_for


def spares(processes: list[psutil.Process]) -> list[int]:
    """Those that were made without a model, whatever they do now."""
    found = []
    for process in processes:
        try:
            if process.environ().get(SPARE_VARIABLE) == "1":
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def kept() -> list[int]:
    return spares(psutil.Process().children())


@pytest.fixture
def supervisor(world: World, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """One that has a spare engine."""
    monkeypatch.setattr(spare, "DELAY", 0.01)
    world.model("m")
    world.model("slow", "slow-end 0.3")
    world.model("bad", "exit 1")
    supervisor = world.supervisor(JANFLASK_SPARE_ENGINE="1")
    supervisor.restore()
    wait_for(lambda: len(kept()) == 1)
    return supervisor


def test_the_first_one_is_made_at_once_the_next_when_a_model_has_had_its_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "DELAY", 600.0)
    world.model("m")
    supervisor = world.supervisor(JANFLASK_SPARE_ENGINE="1")
    supervisor.restore()
    wait_for(lambda: len(kept()) == 1)
    (first,) = kept()
    assert supervisor.start("m", {}).pid == first
    assert kept() == [first]


@pytest.mark.parametrize("own", [None, "65536"])
def test_what_is_large_leaves_no_holes_in_its_heap(
    world: World, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    """glibc's threshold stays where it is, or where the machine's owner has put it."""
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    if own is not None:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", own)
    world.model("m")
    world.supervisor(JANFLASK_SPARE_ENGINE="1").restore()
    wait_for(lambda: len(kept()) == 1)
    assert psutil.Process(kept()[0]).environ()["MALLOC_MMAP_THRESHOLD_"] == (own or "1048576")


def test_the_next_model_gets_it_and_another_is_made(supervisor: Supervisor) -> None:
    (first,) = kept()
    assert supervisor.start("m", {}).pid == first
    wait_for(lambda: len(kept()) == 2)
    (second,) = {*kept()} - {first}
    assert supervisor.start("slow", {}).pid == second


def test_what_it_says_is_in_the_log_of_its_model(world: World, supervisor: Supervisor) -> None:
    (pid,) = kept()
    with pytest.raises(ModelLoadError, match="the fake engine's last words"):
        supervisor.start("bad", {})
    assert world.pids("bad") == [pid]
    assert "last words" in (world.data_dir / "logs" / "engine-bad.log").read_text()


def test_one_that_died_is_not_missed(supervisor: Supervisor) -> None:
    (pid,) = kept()
    psutil.Process(pid).kill()
    wait_for(lambda: not alive([pid]))
    state = supervisor.start("m", {})
    assert (state.status, state.restarts) == (ModelStatus.RUNNING, 0)
    wait_for(lambda: len(kept()) == 1)


def test_engines_that_were_spare_ones_end_in_order(world: World, supervisor: Supervisor) -> None:
    supervisor.start("slow", {})
    wait_for(lambda: len(kept()) == 2)
    children = kept()
    supervisor.close()
    wait_for(lambda: not alive(children))
    assert (world.data_dir / "models" / "slow" / "ended").exists()


def test_it_ends_with_a_killed_supervisor(world: World) -> None:
    world.model("m")
    with supervisor_process(world, JANFLASK_SPARE_ENGINE="1") as process:
        SupervisorClient(world.runtime_dir).start_and_wait("m", {}, LIMIT)
        wait_for(lambda: len(descendants(process)) == 2)
        children = descendants(process)
        process.kill()
        assert not psutil.wait_procs(children, LIMIT)[1]


def test_it_can_be_switched_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "DELAY", 0.01)
    made: list[object] = []
    monkeypatch.setattr(spare, "Newborn", lambda *args, **kwargs: made.append(args))
    world.model("m")
    supervisor = world.supervisor(JANFLASK_SPARE_ENGINE="0")
    supervisor.restore()
    supervisor.start("m", {})
    supervisor.stop("m")
    assert made == []


def test_one_that_does_not_get_ready_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "DELAY", 0.01)
    monkeypatch.setattr(spare, "LOADING_TIME", 0.01)
    spared = Spare([sys.executable, "-c", "import time; time.sleep(600)"], enabled=True)
    spared.prepare()
    wait_for(lambda: len(kept()) == 1)
    children = kept()
    wait_for(lambda: spared._kept is not None)
    assert spared.take() is None
    assert not alive(children)
    spared.close()


def test_one_that_is_being_made_at_the_end_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, command: Sequence[str], *, spare: bool) -> None:
            begun.set()
            go_on.wait(LIMIT)

        def end(self) -> None:
            ended.set()

    monkeypatch.setattr(spare, "Newborn", Slow)
    spared = Spare(["engine"], enabled=True)
    spared.prepare(at_once=True)
    assert begun.wait(LIMIT)
    closing = threading.Thread(target=spared.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive(), "the process would end without it"
    go_on.set()
    closing.join(LIMIT)
    assert ended.is_set()
