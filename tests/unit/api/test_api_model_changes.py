"""Models are changed and deleted over HTTP; how they are started is described."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any
from urllib.parse import quote

import openai
import pytest
from flask.testing import FlaskClient

from janflask.models.engine_settings import JAN_SETTINGS, EngineSettings
from janflask.models.state import ModelState, ModelStatus
from janflask.schemas.models import JAN_DESCRIBED
from tests.unit.api.conftest import World

URL = "https://example.com/x.gguf"


@pytest.fixture
def stopped(world: World) -> World:
    world.supervisor.states.clear()
    return world


def stored(world: World, model_id: str = "tiny") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((world.settings.models_dir / model_id / "model.json").read_text())
    return content


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("name", ["tiny", quote(URL, safe="")])
def test_changes(client: FlaskClient, stopped: World, method: str, name: str) -> None:
    stopped.write_model(
        source_url=URL,
        settings={"ctx_len": 64, "ngl": 1, "grp_attn_n": 1},
        parameters={"top_k": 5, "mine": 1},
        metadata={"author": "me", "tags": []},
    )
    body = {
        "name": "New",
        "description": "A new one",
        "settings": {"ctx_len": "2048", "ngl": None},
        "parameters": {"temperature": "0.5", "top_k": None, "mine": None, "nonsense": None},
        "metadata": {"tags": ["x"], "author": None},
    }
    model = client.open(f"/v1/models/{name}", method=method, json=body).json
    assert model is not None
    assert (model["id"], model["name"], model["description"], model["notes"]) == ("tiny", "New", "A new one", [])
    assert model["settings"] == {"ctx_len": 2048, "grp_attn_n": 1}
    assert model["parameters"] == {"temperature": 0.5}
    assert model["metadata"] == {"size": 4, "tags": ["x"]}
    content = stored(stopped)
    assert {name: content[name] for name in ("created", "source_url", "settings", "parameters", "metadata")} == {
        "created": 1_700_000_000,
        "source_url": URL,
        "settings": {"ctx_len": 2048, "grp_attn_n": 1},
        "parameters": {"temperature": 0.5},
        "metadata": {"tags": ["x"]},
    }
    assert client.get("/v1/models/tiny").json == model


def test_settings_of_a_running_model_hold_from_its_next_start(client: FlaskClient, world: World) -> None:
    model = client.patch("/v1/models/tiny", json={"settings": {"ctx_len": 64}}).json
    assert model is not None
    assert model["notes"][0] == "a note"
    assert "next start" in model["notes"][1]
    model = client.patch("/v1/models/tiny", json={"name": "Tiny"}).json
    assert model is not None
    assert (model["settings"], model["notes"]) == ({"ctx_len": 64}, ["a note"])


def test_nothing_to_change(client: FlaskClient, stopped: World) -> None:
    before = stored(stopped)
    assert client.patch("/v1/models/tiny", json={"name": None, "unknown": 1}).status_code == 200
    assert stored(stopped) == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "name"),
        ({"description": 5}, "description"),
        ({"settings": {"nonsense": 1}}, "settings.nonsense"),
        ({"settings": {"ctx_len": 1}}, "settings.ctx_len"),
        ({"settings": {"prompt_template": "no place for it"}}, "settings.prompt_template"),
        ({"settings": {"llama_model_path": "/etc/passwd"}}, "settings.llama_model_path"),
        ({"settings": {"mmproj": "../x.gguf"}}, "settings.mmproj"),
        ({"settings": {"lora": "/etc/passwd"}}, "settings.lora"),
        ({"settings": {"lora": "no.gguf"}}, "settings.lora"),
        ({"parameters": {"nonsense": 1}}, "parameters.nonsense"),
        ({"parameters": {"top_p": "2"}}, "parameters.top_p"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_bad_changes_change_nothing(client: FlaskClient, stopped: World, body: dict[str, Any], param: str) -> None:
    before = stored(stopped)
    response = client.patch("/v1/models/tiny", json={"description": "x", **body})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == param
    assert stored(stopped) == before


@pytest.mark.parametrize("name", ["nobody", "..", quote("https://example.com/no.gguf", safe="")])
def test_an_unknown_model(client: FlaskClient, name: str) -> None:
    for method in ("POST", "PATCH"):
        assert client.open(f"/v1/models/{name}", method=method, json={"name": "x"}).status_code == 404
    assert client.delete(f"/v1/models/{name}").status_code == 404


def test_nothing_is_changed_when_nobody_can_tell_how_the_model_is(client: FlaskClient, world: World) -> None:
    before = stored(world)
    world.supervisor.path.unlink()
    assert client.patch("/v1/models/tiny", json={"name": "x"}).status_code == 503
    assert client.delete("/v1/models/tiny").status_code == 503
    assert stored(world) == before


@pytest.mark.parametrize("name", ["tiny", quote(URL, safe="")])
def test_delete(client: FlaskClient, stopped: World, name: str) -> None:
    stopped.write_model(source_url=URL)
    measured = stopped.settings.cache_dir / "tuning" / "tiny.json"
    measured.parent.mkdir(parents=True)
    measured.write_text("{}")
    response = client.delete(f"/v1/models/{name}")
    assert (response.status_code, response.json) == (200, {"id": "tiny", "object": "model", "deleted": True})
    assert not (stopped.settings.models_dir / "tiny").exists()
    assert not measured.exists()
    body = client.get("/v1/models").json
    assert body is not None
    assert body["data"] == []
    assert client.get("/v1/models/tiny").status_code == 404


def test_a_deleted_models_engine_is_not_asked(client: FlaskClient, world: World) -> None:
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    assert client.post("/v1/chat/completions", json=chat).status_code == 200
    world.supervisor.states.clear()
    assert client.delete("/v1/models/tiny").status_code == 200
    world.write_model()
    assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert len(world.supervisor.starts) == 1


def test_the_openai_sdk(sdk: openai.OpenAI, stopped: World) -> None:
    stopped.supervisor.fetch("new", "hf:org/repo:Q4_K_M")
    assert [(model.id, model.created, model.owned_by) for model in sdk.models.list()] == [
        ("new", 1_700_000_000, "local"),
        ("tiny", 1_700_000_000, "local"),
    ]
    assert sdk.models.retrieve("new").object == "model"
    for model_id in ("new", "tiny"):
        deleted = sdk.models.delete(model_id)
        assert (deleted.id, deleted.object, deleted.deleted) == (model_id, "model", True)
    assert list(sdk.models.list()) == []


@pytest.mark.parametrize("status", ["starting", "running", "stopping"])
def test_a_model_in_use_stays(client: FlaskClient, world: World, status: str) -> None:
    world.supervisor.states["tiny"] = ModelState(model_id="tiny", status=ModelStatus(status))
    response = client.delete("/v1/models/tiny")
    assert response.status_code == 409
    assert response.json is not None
    assert response.json["error"]["code"] == "model_in_use"
    assert (world.settings.models_dir / "tiny" / "model.gguf").exists()
    assert world.supervisor.cancelled == []


@pytest.mark.parametrize("place", ["/etc/passwd", "../x.gguf", "no.gguf"])
def test_a_start_names_no_adapter_elsewhere(client: FlaskClient, world: World, place: str) -> None:
    response = client.put("/v1/models/tiny/start", json={"lora": place})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == "lora"
    assert world.supervisor.starts == []


def test_a_start_may_repeat_what_the_owner_wrote(client: FlaskClient, world: World) -> None:
    """Jan sends a model's own settings with a start."""
    own = {"llama_model_path": "model.gguf", "mmproj": "/elsewhere/p.gguf", "lora": "/elsewhere/a.gguf"}
    world.write_model(settings=own)
    assert client.put("/v1/models/tiny/start", json=own).status_code == 200
    assert world.supervisor.starts[0].settings == own
    assert client.put("/v1/models/tiny/start", json={**own, "lora": "/elsewhere/b.gguf"}).status_code == 400


# --- the table of settings --------------------------------------------------------------------------------------------


def test_the_document_tells_the_defaults(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    assert document is not None
    described = document["components"]["schemas"]["ModelSettings"]["properties"]
    assert set(described) == {item.name for item in fields(EngineSettings)} | set(JAN_DESCRIBED)
    assert set(JAN_DESCRIBED) <= JAN_SETTINGS
    for item in fields(EngineSettings):
        default = f"Default: {item.metadata['auto']}." if item.default is None else item.default
        about = described[item.name]
        assert about["description"].endswith(str(default)) if item.default is None else about["default"] == default
    assert described["lora"]["description"].endswith("in the model's own folder. Default: none.")
    types = {name: described[name]["type"] for name in ("embedding", "ctx_len", "start_timeout", "lora")}
    assert types == {"embedding": "boolean", "ctx_len": "integer", "start_timeout": "number", "lora": "string"}
    assert described["cache_type_k"]["default"] == EngineSettings().cache_type_k
    assert described["mmap"]["default"] is True
    assert "Default: guessed, then measured." in described["flash_attn"]["description"]
    reference = {"$ref": "#/components/schemas/ModelSettings"}
    bodies = document["components"]["schemas"]
    for name in ("NewModel", "ModelChanges"):
        assert bodies[name]["properties"]["settings"]["anyOf"][0] == reference
    start = document["paths"]["/v1/models/{model_id}/start"]["put"]
    assert start["requestBody"]["content"]["application/json"]["schema"] == reference


def test_post_and_patch_are_one_operation(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    assert document is not None
    operations = document["paths"]["/v1/models/{model_id}"]
    assert (operations["post"]["operationId"], operations["patch"]["operationId"]) == (
        "modifyModel",
        "modifyModelByPatch",
    )
    assert {name: item for name, item in operations["post"].items() if name != "operationId"} == {
        name: item for name, item in operations["patch"].items() if name != "operationId"
    }
