"""/livez and /readyz: whether this worker answers, and whether requests should be sent here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring
from janflask.ipc.frames import Message, encode
from janflask.ipc.messages.runner import GetOpenRuns, GetRunnerStats, OpenRuns, RunnerStats
from janflask.ipc.messages.supervisor import Awaited
from janflask.ipc.shutdown import DRAINING_NAME
from janflask.ipc.sockets import RUNNER_SOCKET, SUPERVISOR_SOCKET
from tests.fakes.scripted import Server
from tests.unit.api.conftest import World


class FakeRunner(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder / RUNNER_SOCKET)

    def answer(self, connection: socket.socket, message: Message) -> None:
        if isinstance(message, GetRunnerStats):
            connection.sendall(encode(RunnerStats(under_way=1, queued=0, parked=2, ended={"completed": 3})))
        elif isinstance(message, GetOpenRuns):
            connection.sendall(encode(OpenRuns([("thread_1", "run_1")], pid=4)))


@pytest.fixture
def runner(world: World) -> Iterator[FakeRunner]:
    fake = FakeRunner(world.folder)
    yield fake
    fake.close()


def test_ready(client: FlaskClient, runner: FakeRunner) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json == {"status": "ready", "draining": False, "missing": []}


def test_a_model_that_has_to_run_is_named(client: FlaskClient, runner: FakeRunner, world: World) -> None:
    world.supervisor.awaited = [Awaited("big", "starting"), Awaited("broken", "failed", "no such file")]
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json == {
        "status": "not_ready",
        "draining": False,
        "missing": [
            {"kind": "model", "name": "big", "reason": "starting"},
            {"kind": "model", "name": "broken", "reason": "failed: no such file"},
        ],
    }
    assert client.get("/livez").status_code == 200, "it is alive all the same"


def test_draining(client: FlaskClient, runner: FakeRunner, world: World) -> None:
    (world.folder / DRAINING_NAME).touch()
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (503, {"status": "not_ready", "draining": True, "missing": []})
    assert client.get("/livez").json == {"status": "ok"}


def test_processes_that_do_not_answer(client: FlaskClient, world: World) -> None:
    (world.folder / SUPERVISOR_SOCKET).unlink()
    response = client.get("/readyz")
    assert response.status_code == 503
    assert [(each["kind"], each["name"]) for each in response.json["missing"]] == [
        ("process", "supervisor"),
        ("process", "runner"),
    ]
    assert client.get("/livez").status_code == 200


def test_a_stranger_is_told_the_status_alone(client: FlaskClient, runner: FakeRunner, world: World) -> None:
    world.supervisor.awaited = [Awaited("big", "starting")]
    KeyFile(world.settings.secrets_dir).change(lambda _: Keyring(required=True))
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (503, {"status": "not_ready", "draining": False})
    assert client.get("/metrics").status_code == 401
