"""/v1/server: what is going on, and what becomes of those that say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from flask.testing import FlaskClient

import janflask.metrics.overview as overview
from janflask import __version__
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.engine_info import OpenAnswer
from janflask.models.state import ModelState, ModelStatus
from tests.fakes.scripted import INFO, STATS
from tests.unit.api.conftest import World
from tests.unit.api.test_health import FakeRunner

ANSWER = OpenAnswer(
    request_id="req_1",
    conversation="thread_1",
    state="answering",
    age_seconds=2.5,
    prompt_tokens=30,
    cached_tokens=10,
    computed_tokens=20,
    answer_tokens=7,
    tokens_per_second=12.345,
)


@pytest.fixture
def runner(world: World) -> Iterator[FakeRunner]:
    fake = FakeRunner(world.folder)
    yield fake
    fake.close()


def look(client: FlaskClient) -> dict[str, Any]:
    response = client.get("/v1/server")
    assert response.status_code == 200
    assert response.json is not None
    return dict(response.json)


def test_what_is_going_on(client: FlaskClient, world: World, runner: FakeRunner) -> None:
    world.write_model("waiting")
    running = world.supervisor.states["tiny"]
    world.supervisor.states["tiny"] = replace(running, memory_bytes=700, used_bytes=500)
    world.supervisor.states["starting"] = ModelState(
        model_id="starting", status=ModelStatus.STARTING, memory_bytes=50, used_bytes=None
    )
    world.supervisor.states["deleted"] = ModelState(model_id="deleted", status=ModelStatus.STOPPED)
    found = look(client)
    assert (found["object"], found["version"], found["missing"]) == ("server", __version__, [])
    assert found["started_at"] > 0
    assert found["cores"] >= 1
    memory = found["memory"]
    assert memory.pop("available_bytes") > 0
    assert memory == {"budget_bytes": 3 << 30, "promised_bytes": 750, "used_bytes": 500, "total_bytes": 4 << 30}
    models = {model["id"]: model for model in found["models"]}
    assert {name: model["status"] for name, model in models.items()} == {
        "tiny": "running",
        "waiting": "downloaded",
        "starting": "starting",
    }
    assert models["tiny"]["stats"] == asdict(STATS)
    assert models["tiny"]["runtime"]["kv_cells"] == INFO.kv_cells
    assert (models["waiting"]["runtime"], models["waiting"]["stats"]) == (None, None)
    kinds = {process["kind"]: process for process in found["processes"]}
    assert kinds["worker"]["rss_bytes"] > 1 << 20
    assert kinds["worker"]["cpu_seconds"] > 0


def test_requests_say_which_run_they_are_of(client: FlaskClient, world: World, runner: FakeRunner) -> None:
    world.engine.owed = [
        ANSWER,
        replace(ANSWER, conversation="a secret of a client", state="waiting"),
        replace(ANSWER, request_id=None, conversation=None, state="prompt", tokens_per_second=0.0),
    ]
    first, second, third = look(client)["requests"]
    assert first == {
        "id": "req_1",
        "model": "tiny",
        "state": "answering",
        "age_seconds": 2.5,
        "prompt_tokens": 30,
        "cached_tokens": 10,
        "computed_tokens": 20,
        "answer_tokens": 7,
        "tokens_per_second": 12.35,
        "run_id": "run_1",
        "thread_id": "thread_1",
    }
    assert (second["state"], second["run_id"], second["thread_id"]) == ("waiting", None, None)
    assert (third["id"], third["state"], third["run_id"]) == (None, "prompt", None)
    assert "secret" not in client.get("/v1/server").text


def test_what_does_not_answer_is_left_out_and_named(
    client: FlaskClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "LIMIT", 0.2)
    world.engine.is_mute = True
    found = look(client)
    assert [(each["kind"], each["name"]) for each in found["missing"]] == [("process", "runner"), ("model", "tiny")]
    assert all(each["reason"] for each in found["missing"])
    (model,) = found["models"]
    assert (model["status"], model["stats"], found["requests"]) == ("running", None, [])


def test_without_a_supervisor(client: FlaskClient, world: World, runner: FakeRunner) -> None:
    (world.folder / SUPERVISOR_SOCKET).unlink()
    found = look(client)
    assert [each["name"] for each in found["missing"]] == ["supervisor"]
    assert found["memory"]["budget_bytes"] is None
    assert [(model["id"], model["status"]) for model in found["models"]] == [("tiny", "downloaded")]


def test_weights_that_came_otherwise_count(client: FlaskClient, world: World, runner: FakeRunner) -> None:
    world.write_model("fetched")
    world.supervisor.states["fetched"] = ModelState(model_id="fetched", status=ModelStatus.NOT_DOWNLOADED, error="no")
    assert [model["status"] for model in look(client)["models"] if model["id"] == "fetched"] == ["downloaded"]
