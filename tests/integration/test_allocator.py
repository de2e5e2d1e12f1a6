"""Threads that come and go leave no holes in arenas of their own, in any process of a server."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.processes.allocator import ALLOCATOR, ARENAS
from tests.integration.gunicorn_world import folder_with_model
from tests.integration.proxy_world import started
from tests.integration.waiting import LIMIT, free_port

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator has no arenas")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serving(**settings: str) -> Iterator[tuple[str, Path, psutil.Process]]:
    """A server whose worker tells its arenas: its URL, its runtime folder and its master."""
    port = free_port()
    with folder_with_model("") as folder:
        run = folder / "run"
        with started(folder, port, "tests.fakes.arenas:app", JANFLASK_RUNTIME_DIR=str(run), **settings) as process:
            yield f"http://127.0.0.1:{port}", run, psutil.Process(process.pid)


def arenas_of(url: str) -> int:
    return int(httpx.get(url, timeout=LIMIT).text)


def test_threads_have_arenas_of_their_own_unless_glibc_is_told() -> None:
    """Else the next tests would show nothing."""
    command = [sys.executable, "-m", "tests.fakes.arenas"]
    assert int(subprocess.check_output(command, timeout=LIMIT)) > ARENAS
    assert int(subprocess.check_output(command, env=os.environ | ALLOCATOR, timeout=LIMIT)) == ARENAS


def test_the_processes_of_a_server() -> None:
    with serving() as (url, run, master):
        SupervisorClient(run).start_and_wait("m", {}, LIMIT)
        assert arenas_of(url) <= ARENAS
        environments = {
            name: child.environ()
            for child in master.children(recursive=True)
            for name in ("janflask.supervisor", "janflask.runner", "tests.fakes.fake_engine")
            if name in child.cmdline()
        }
    assert len(environments) == 3, environments.keys()
    assert {env["MALLOC_ARENA_MAX"] for env in environments.values()} == {str(ARENAS)}
    tuned = {name for name, env in environments.items() if "tcache_count=0" in env.get("GLIBC_TUNABLES", "")}
    assert tuned == {"janflask.runner"}, "its threads only wait; an engine's do compute"


@pytest.mark.parametrize(
    "own", [{"MALLOC_ARENA_MAX": "6"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=6"}], ids=lambda own: next(iter(own))
)
def test_its_owner_may_want_more(own: dict[str, str]) -> None:
    with serving(**own) as (url, _, master):
        assert ARENAS < arenas_of(url) <= 6
        runner = next(child for child in master.children() if "janflask.runner" in child.cmdline())
        assert own.items() <= runner.environ().items()
