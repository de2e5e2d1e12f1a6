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
from janflask.processes.allocator import ALLOCATOR
from tests.fakes.arenas import THREADS
from tests.integration.gunicorn_world import environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator has no arenas")


@contextmanager
def serving(**settings: str) -> Iterator[tuple[str, Path, psutil.Process]]:
    """A server whose worker tells its arenas: its URL, its runtime folder and its master."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(url, timeout=LIMIT).status_code == 200
        except httpx.TransportError:
            return False

    with folder_with_model("") as folder, (folder / "log").open("w") as log:
        run = folder / "run"
        env = environment(folder, JANFLASK_PORT=str(port), JANFLASK_RUNTIME_DIR=str(run), **settings)
        with running("tests.fakes.arenas:app", env, answers, log, log) as process:
            yield url, run, psutil.Process(process.pid)


def test_a_thread_has_no_arena_of_its_own() -> None:
    """Without being told it has: else the next tests would show nothing."""
    command = [sys.executable, "-m", "tests.fakes.arenas"]
    assert int(subprocess.check_output(command, timeout=LIMIT)) > THREADS
    assert int(subprocess.check_output(command, env=os.environ | ALLOCATOR, timeout=LIMIT)) == 2


def test_the_processes_of_a_server() -> None:
    with serving() as (url, run, master):
        SupervisorClient(run).start_and_wait("m", {}, LIMIT)
        assert int(httpx.get(url, timeout=LIMIT).text) <= 2
        environments = {
            name: child.environ()
            for child in master.children(recursive=True)
            for name in ("janflask.supervisor", "janflask.runner", "tests.fakes.fake_engine")
            if name in child.cmdline()
        }
    assert {name: env.get("MALLOC_ARENA_MAX") for name, env in environments.items()} == dict.fromkeys(environments, "2")
    assert len(environments) == 3, environments.keys()
    tuned = {name for name, env in environments.items() if "tcache_count=0" in env.get("GLIBC_TUNABLES", "")}
    assert tuned == {"janflask.runner"}, "its threads only wait; an engine's do compute"


def test_its_owner_may_want_more() -> None:
    with serving(MALLOC_ARENA_MAX="6") as (url, _, master):
        assert 2 < int(httpx.get(url, timeout=LIMIT).text) <= 6
        runner = next(child for child in master.children() if "janflask.runner" in child.cmdline())
        assert runner.environ()["MALLOC_ARENA_MAX"] == "6"
