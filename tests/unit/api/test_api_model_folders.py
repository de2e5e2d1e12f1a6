"""Models whose folders have names that are no ids: by Jan's name, which is the folder's, and by an id of ours."""

from __future__ import annotations

from urllib.parse import quote

import openai
import pytest
from flask.testing import FlaskClient

from janflask.models.state import ModelStatus
from tests.unit.api.conftest import World

FOLDERS = ("Llama 3 (8B)", "Qwen2.5+coder [x]", "модель", "100% a#b?c", "author/name")


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, world: World) -> str:
    name: str = request.param
    world.write_model(name)
    return name


@pytest.fixture
def model_id(client: FlaskClient, folder: str) -> str:
    listed = client.get("/v1/models").json["data"]  # type: ignore[index]
    (model,) = (model for model in listed if model["folder"] == folder)
    found: str = model["id"]
    return found


def test_an_ordinary_model_has_its_id_for_a_folder(client: FlaskClient) -> None:
    assert client.get("/v1/models/tiny").json["folder"] == "tiny"  # type: ignore[index]


def test_its_routes(world: World, client: FlaskClient, folder: str, model_id: str) -> None:
    world.supervisor.run(model_id, world.engine)
    for name in (model_id, folder):
        path = f"/v1/models/{quote(name, safe='')}"
        got = client.get(path).json
        assert (got["id"], got["folder"]) == (model_id, folder)  # type: ignore[index]
        assert client.patch(path, json={"name": "New"}).json["name"] == "New"  # type: ignore[index]
        assert client.put(f"{path}/start").json == {"id": model_id, "object": "model", "state": "running"}
        assert client.put(f"{path}/stop").json["id"] == model_id  # type: ignore[index]
    assert {start.model_id for start in world.supervisor.starts} == {model_id}
    path = f"/v1/models/{quote(folder, safe='')}"
    assert client.delete(path).json == {"id": model_id, "object": "model", "deleted": True}
    assert not (world.settings.models_dir / folder).exists()


def test_a_chat_by_either_name(world: World, sdk: openai.OpenAI, folder: str, model_id: str) -> None:
    world.supervisor.states[model_id] = world.supervisor.run(model_id, world.engine)
    for name in (folder, model_id):
        answer = sdk.chat.completions.create(model=name, messages=[{"role": "user", "content": "hello"}])
        assert answer.choices[0].message.content
        assert sdk.completions.create(model=name, prompt="hello").choices


def test_a_thread_that_names_it_runs(world: World, client: FlaskClient, folder: str, model_id: str) -> None:
    """Jan's threads name a model by its folder."""
    for model in ({"model_id": folder}, {"assistants": [{"assistant_id": "jan", "model": {"id": folder}}]}):
        thread = client.post("/v1/threads", json=model).json["id"]  # type: ignore[index]
        run = client.post(f"/v1/threads/{thread}/runs", json={"assistant_id": "jan"}).json
        assert run["model"] == model_id, run  # type: ignore[index]


@pytest.mark.parametrize("name", ["..", "../tiny", "tiny/../tiny", "./tiny", "Llama 3", "Llama 3 (8B)/"])
def test_what_is_no_folders_name_is_no_model(world: World, client: FlaskClient, name: str) -> None:
    world.write_model("Llama 3 (8B)")
    answer = client.post("/v1/chat/completions", json={"model": name, "messages": [{"role": "user", "content": "x"}]})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")  # type: ignore[index]
    assert world.supervisor.states.keys() == {"tiny"}
    assert all(state.status is ModelStatus.RUNNING for state in world.supervisor.states.values())


@pytest.mark.parametrize(("method", "path"), [("get", "start"), ("post", "events"), ("put", "")])
def test_a_name_with_a_slash_takes_no_route_away(world: World, client: FlaskClient, method: str, path: str) -> None:
    world.write_model("author/name")
    for name in ("tiny", "author/name"):
        assert getattr(client, method)(f"/v1/models/{name}/{path}".rstrip("/")).status_code == 405
