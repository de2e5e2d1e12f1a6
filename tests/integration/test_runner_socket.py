"""The runner's socket: questions, watchers, and nonsense."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from janflask.errors import JanflaskError, UnavailableError
from janflask.ipc.channel import wait_readable
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.messages.runner import RunChanged, RunSaid
from janflask.ipc.sockets import RUNNER_SOCKET
from janflask.runner.server import runner_server
from janflask.storage.records import RunStatus
from janflask.storage.run_log import texts_of
from tests.integration.waiting import LIMIT
from tests.unit.runner.run_world import RunWorld, hanging, saying


@contextmanager
def serving(world: RunWorld) -> Iterator[RunnerClient]:
    with tempfile.TemporaryDirectory(prefix="jf", dir="/tmp") as name:  # a socket's path must be short
        folder = Path(name)
        with runner_server(folder / RUNNER_SOCKET, lambda: world.runner) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield RunnerClient(folder)
            finally:
                server.shutdown()
                thread.join()
                world.runner.close()


def all_news(client: RunnerClient, thread_id: str, run_id: str) -> list[RunChanged | RunSaid]:
    """Everything until the end of the stream."""
    heard: list[RunChanged | RunSaid] = []
    with client.watch(thread_id, run_id) as watch:
        while wait_readable(watch.fileno(), LIMIT):
            news = watch.receive()
            if news is None:
                return heard
            heard += news
    raise TimeoutError


def test_a_run_is_begun_watched_and_watched_again() -> None:
    world = RunWorld(saying("one", " two"))
    run = world.run(world.thread("hi"))
    with serving(world) as client:
        assert client.begin(run.thread_id, run.id, LIMIT).id == run.id
        for _ in range(2):
            news = all_news(client, run.thread_id, run.id)
            said = [event for item in news if isinstance(item, RunSaid) for event in item.events]
            assert "".join(texts_of(said)) == "one two"
            runs = [item.run for item in news if isinstance(item, RunChanged)]
            assert runs[-1].status is RunStatus.COMPLETED


def test_a_run_that_hangs_is_cancelled_from_elsewhere() -> None:
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"))
    with serving(world) as client:
        client.begin(run.thread_id, run.id, LIMIT)
        world.saying(run, "x")
        assert client.open_runs(LIMIT).runs == [(run.thread_id, run.id)]
        assert client.cancel(run.thread_id, run.id, LIMIT).status is RunStatus.CANCELLING
        assert all_news(client, run.thread_id, run.id)[-1] is not None
        assert world.repository.runs.get(run.thread_id, run.id).status is RunStatus.CANCELLED
        assert client.open_runs(LIMIT).runs == []
        with pytest.raises(JanflaskError, match="Cannot cancel") as caught:
            client.cancel(run.thread_id, run.id, LIMIT)
        assert caught.value.status == 400


def test_a_run_that_is_not_there_and_a_runner_that_is_not() -> None:
    world = RunWorld(saying("x"))
    with serving(world) as client:
        with pytest.raises(JanflaskError) as caught:
            client.begin("thread_x", "run_x", LIMIT)
        assert caught.value.status == 404
    with pytest.raises(UnavailableError, match="runner"):
        client.begin("thread_x", "run_x", LIMIT)
