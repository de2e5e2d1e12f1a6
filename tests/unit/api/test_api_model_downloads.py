"""Models that are being fetched: asked for, listed, watched."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask.testing import FlaskClient

from janflask.errors import ConflictError, InvalidRequestError, ModelNotFoundError
from janflask.ipc.messages.supervisor import State
from janflask.models.state import DownloadRequest, ModelState, ModelStatus
from tests.fakes.scripted import PATIENCE, Line
from tests.unit.api.conftest import World

URL = "https://example.com/x%20y.gguf?download=true"
HUB = "hf:org/repo:Q4_K_M"
SHA = "AB" * 32


def events(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, without comments."""
    parts = data.decode().splitlines()
    return [json.loads(part.removeprefix("data: ")) for part in parts if part.startswith("data: ")]


# --- asking for one ---------------------------------------------------------------------------------------------------


def test_a_download_begins(client: FlaskClient, world: World) -> None:
    response = client.post("/v1/models", json={"source_url": HUB})
    assert (response.status_code, response.json) == (
        200,
        {"id": "fetched", "object": "model", "state": "downloading"},
    )
    assert world.supervisor.downloads == [DownloadRequest(source=HUB)]


def test_all_fields_arrive(client: FlaskClient, world: World) -> None:
    body = {
        "source_url": URL,
        "id": "new",
        "name": "New",
        "sha256": SHA,
        "settings": {"ctx_len": "2048", "ngl": None, "prompt_template": "{prompt}"},
        "parameters": {"temperature": "0.5", "stop": ["END"], "top_k": None},
        "metadata": {"tags": ["x"]},
        "model": "an unknown field is ignored",
    }
    assert client.post("/v1/models", json=body).json == {"id": "new", "object": "model", "state": "downloading"}
    assert world.supervisor.downloads == [
        DownloadRequest(
            source=URL,
            model_id="new",
            name="New",
            sha256=SHA.lower(),
            settings={"ctx_len": 2048, "prompt_template": "{prompt}"},
            parameters={"temperature": 0.5, "stop": ["END"]},
            metadata={"tags": ["x"]},
        )
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "source_url"),
        ({"source_url": None}, "source_url"),
        ({"source_url": ""}, "source_url"),
        ({"source_url": 5}, "source_url"),
        ({"id": "../x"}, "id"),
        ({"id": ".x"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": ""}, "id"),
        ({"name": ""}, "name"),
        ({"name": ["x"]}, "name"),
        ({"sha256": "ab"}, "sha256"),
        ({"sha256": "g" * 64}, "sha256"),
        ({"sha256": "a" * 64 + "\n"}, "sha256"),
        ({"settings": []}, "settings"),
        ({"settings": {"nonsense": 1}}, "settings.nonsense"),
        ({"settings": {"ctx_len": "many"}}, "settings.ctx_len"),
        ({"settings": {"prompt_template": "x"}}, "settings.prompt_template"),
        ({"settings": {"prompt_template": {"a": 1}}}, "settings.prompt_template"),
        ({"settings": {"llama_model_path": "/etc/passwd"}}, "settings.llama_model_path"),
        ({"settings": {"mmproj": "x.gguf"}}, "settings.mmproj"),
        ({"settings": {"lora": "x.gguf"}}, "settings.lora"),
        ({"parameters": {"nonsense": 1}}, "parameters.nonsense"),
        ({"parameters": {"temperature": 3}}, "parameters.temperature"),
        ({"metadata": "x"}, "metadata"),
    ],
)
def test_what_can_not_be_asked_for(client: FlaskClient, world: World, body: dict[str, Any], param: str) -> None:
    response = client.post("/v1/models", json={"source_url": URL, **body} if body else body)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == param
    assert world.supervisor.downloads == []


def test_a_body_that_is_no_json(client: FlaskClient) -> None:
    assert client.post("/v1/models").status_code == 400
    assert client.post("/v1/models", data="x=1", content_type="text/plain").status_code == 415


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidRequestError("no source", param="source_url"), 400), (ConflictError("it is there", param="id"), 409)],
)
def test_what_the_supervisor_refuses(client: FlaskClient, world: World, error: Any, status: int) -> None:
    world.supervisor.refusal = error
    response = client.post("/v1/models", json={"source_url": URL})
    assert response.status_code == status
    assert response.json is not None
    assert (response.json["error"]["message"], response.json["error"]["param"]) == (error.message, error.param)


# --- how it is --------------------------------------------------------------------------------------------------------


def test_one_that_is_coming(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("new", HUB, transferred=50, total=400, bytes_per_second=10.5, eta_seconds=33.0)
    for name in ("new", quote(HUB, safe="")):
        model = client.get(f"/v1/models/{name}").json
        assert model is not None
        assert (model["id"], model["name"], model["source_url"], model["created"]) == ("new", "new", HUB, 1_700_000_000)
        assert (model["state"], model["status"], model["error"]) == ("downloading", "downloading", None)
        assert model["metadata"] == {"size": 400}
        assert model["download"] == {
            "stage": "downloading",
            "transferred": 50,
            "total": 400,
            "percent": 12.5,
            "bytes_per_second": 10.5,
            "eta_seconds": 33.0,
            "error": None,
        }


def test_one_whose_download_failed(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("new", URL, error="the server answers 404")
    model = client.get(f"/v1/models/{quote(URL, safe='')}").json
    assert model is not None
    assert (model["state"], model["status"], model["error"]) == (
        "not_downloaded",
        "not_downloaded",
        "the server answers 404",
    )
    download = model["download"]
    assert (download["stage"], download["percent"], download["error"]) == ("failed", None, "the server answers 404")


def test_they_are_listed_by_id(client: FlaskClient, world: World) -> None:
    world.write_model("m-on-disk")
    world.write_model("jans", weights=False, source_url=URL)
    world.supervisor.fetch("a-new", HUB)
    world.supervisor.fetch("z-new", URL, error="no")
    world.supervisor.fetch("jans", URL)
    world.supervisor.states["gone"] = ModelState(model_id="gone", status=ModelStatus.STOPPED)
    body = client.get("/v1/models").json
    assert body is not None
    assert [(model["id"], model["state"], model["download"] is None) for model in body["data"]] == [
        ("a-new", "downloading", False),
        ("jans", "downloading", False),
        ("m-on-disk", "ready", True),
        ("tiny", "ready", True),
        ("z-new", None, False),
    ]


def test_a_failed_download_takes_nothing_from_a_model_that_is_there(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("tiny", URL, error="no")
    model = client.get("/v1/models/tiny").json
    assert model is not None
    assert (model["status"], model["download"]["error"]) == ("downloaded", "no")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PUT", "start", None), ("PUT", "stop", None), ("PATCH", "", {"name": "x"}), ("POST", "", {"name": "x"})],
)
def test_there_is_nothing_yet_to_work_with(
    client: FlaskClient, world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    world.supervisor.fetch("new", HUB)
    world.supervisor.fetch("bad", URL, error="the server answers 404")
    for name, says in (("new", "is being downloaded"), ("bad", "the server answers 404")):
        response = client.open(f"/v1/models/{name}/{path}".rstrip("/"), method=method, json=body)
        assert response.status_code == 409
        assert response.json is not None
        assert response.json["error"]["code"] == "model_not_downloaded"
        assert says in response.json["error"]["message"]
    assert world.supervisor.starts == []


def test_a_chat_with_a_model_that_is_coming(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("new", HUB)
    chat = {"model": "new", "messages": [{"role": "user", "content": "Hi"}]}
    response = client.post("/v1/chat/completions", json=chat)
    assert response.status_code == 409
    assert response.json is not None
    assert (response.json["error"]["code"], response.json["error"]["param"]) == ("model_not_downloaded", "model")
    assert client.post("/v1/chat/completions", json={**chat, "model": HUB}).status_code == 404


@pytest.mark.parametrize("name", ["new", quote(HUB, safe="")])
def test_delete_cancels(client: FlaskClient, world: World, name: str) -> None:
    world.supervisor.fetch("new", HUB)
    response = client.delete(f"/v1/models/{name}")
    assert (response.status_code, response.json) == (200, {"id": "new", "object": "model", "deleted": True})
    assert world.supervisor.cancelled == ["new"]
    assert client.get("/v1/models/new").status_code == 404
    assert client.delete("/v1/models/new").status_code == 404


def test_delete_takes_what_was_there_before_the_download(client: FlaskClient, world: World) -> None:
    world.write_model("jans", weights=False)
    world.supervisor.fetch("jans", HUB)
    assert client.delete("/v1/models/jans").status_code == 200
    assert not (world.settings.models_dir / "jans").exists()


# --- watching ---------------------------------------------------------------------------------------------------------


def test_the_events_of_a_download(client: FlaskClient, world: World) -> None:
    states = [
        world.supervisor.fetch("new", HUB, stage="queued"),
        world.supervisor.fetch("new", HUB, transferred=1, total=2),
        ModelState(model_id="new", status=ModelStatus.DOWNLOADED),
    ]
    told = threading.Semaphore(0)

    def watch(line: Line, model_id: str) -> None:
        for state in states:
            if state.status is ModelStatus.DOWNLOADED:
                world.write_model(model_id)
            line.send(State(state))
            assert told.acquire(timeout=PATIENCE)

    world.supervisor.watch = watch
    response = client.get(f"/v1/models/{quote(HUB, safe='')}/events", buffered=False)
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    got = []
    for piece in response.response:
        assert isinstance(piece, bytes)
        found = events(piece)
        got += found
        if found:
            told.release()
    assert [(event["id"], event["object"], event["state"], event["status"]) for event in got] == [
        ("new", "model", "downloading", "downloading"),
        ("new", "model", "downloading", "downloading"),
        ("new", "model", "downloaded", "downloaded"),
    ]
    assert [event["download"] and (event["download"]["stage"], event["download"]["percent"]) for event in got] == [
        ("queued", None),
        ("downloading", 50.0),
        None,
    ]


def test_of_changes_that_come_together_only_the_last_is_told(client: FlaskClient, world: World) -> None:
    first = world.supervisor.fetch("new", HUB)
    world.write_model("new")
    last = ModelState(model_id="new", status=ModelStatus.DOWNLOADED)
    world.supervisor.watch = lambda line, _: line.send(State(first), State(last))
    assert [event["status"] for event in events(client.get("/v1/models/new/events").data)] == ["downloaded"]


@pytest.mark.usefixtures("impatient")
def test_silence_is_filled_with_comments(client: FlaskClient, world: World) -> None:
    comes = threading.Event()

    def watch(line: Line, model_id: str) -> None:
        line.send(State(world.supervisor.states["new"]))
        assert comes.wait(PATIENCE)
        world.write_model(model_id)
        line.send(State(replace(world.supervisor.states["new"], status=ModelStatus.DOWNLOADED, download=None)))

    world.supervisor.fetch("new", HUB)
    world.supervisor.watch = watch
    data = b""
    for piece in client.get("/v1/models/new/events", buffered=False).response:
        assert isinstance(piece, bytes)
        data += piece
        if data.count(b": keep-alive\n") == 2:
            comes.set()
    assert [event["status"] for event in events(data)] == ["downloading", "downloaded"]


def test_a_settled_model_is_told_once(client: FlaskClient) -> None:
    assert [event["status"] for event in events(client.get("/v1/models/tiny/events").data)] == ["running"]


@pytest.mark.parametrize("name", ["nobody", "..", quote("https://example.com/no.gguf", safe=""), "hf%3Anobody"])
def test_nobody_is_watched(client: FlaskClient, name: str) -> None:
    response = client.get(f"/v1/models/{name}/events")
    assert response.status_code == 404
    assert response.content_type == "application/json"


def test_a_deleted_model_that_the_supervisor_remembers(client: FlaskClient, world: World) -> None:
    world.supervisor.states["gone"] = ModelState(model_id="gone", status=ModelStatus.STOPPED)
    assert client.get("/v1/models/gone/events").status_code == 404


def test_the_described_events_are_those(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("new", HUB)
    event = events(client.get("/v1/models/new/events").data)[0]
    document = client.get("/openapi.json").json
    assert document is not None
    answer = document["paths"]["/v1/models/{model_id}/events"]["get"]["responses"]["200"]
    assert set(answer["content"]) == {"text/event-stream"}
    for described in events(answer["content"]["text/event-stream"]["example"].encode()):
        assert set(described) == set(event)
        assert set(described["download"] or event["download"]) == set(event["download"])


def test_a_model_that_is_deleted_while_it_is_watched(client: FlaskClient, world: World) -> None:
    told = threading.Event()

    def watch(line: Line, model_id: str) -> None:
        line.send(State(world.supervisor.states[model_id]))
        assert told.wait(PATIENCE)
        line.fail(ModelNotFoundError("it was deleted"))

    world.supervisor.fetch("new", HUB)
    world.supervisor.watch = watch
    data = b""
    for piece in client.get("/v1/models/new/events", buffered=False).response:
        assert isinstance(piece, bytes)
        data += piece
        told.set()
    first, last = events(data)
    assert first["status"] == "downloading"
    assert last == {
        "error": {
            "message": "it was deleted",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }


def test_a_supervisor_that_ends_meanwhile(client: FlaskClient, world: World) -> None:
    world.supervisor.fetch("new", HUB)
    told = events(client.get("/v1/models/new/events").data)
    assert [event.get("status") for event in told] == ["downloading", None]
    assert told[-1]["error"]["code"] == "unavailable"


@pytest.fixture
def left(server: str, world: World) -> threading.Event:
    """Set once the supervisor sees that nobody watches any more."""
    seen = threading.Event()

    def watch(line: Line, model_id: str) -> None:
        line.send(State(world.supervisor.states[model_id]))
        if line.is_closed_by_peer():
            seen.set()

    world.supervisor.fetch("new", HUB)
    world.supervisor.watch = watch
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE)
    connection.request("GET", "/v1/models/new/events")
    assert connection.getresponse().readline().startswith(b"data: ")
    connection.close()
    return seen


def test_a_client_that_has_left_is_noticed(left: threading.Event) -> None:
    assert left.wait(PATIENCE)
