"""Models that another server runs, as the API shows and treats them; and that no request can make one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask.errors import ConflictError
from janflask.models.card import ModelCard
from janflask.models.state import ModelState, ModelStatus
from janflask.models.upstream_health import BaseUrlHealth
from janflask.services.upstream_models import UpstreamModels
from tests.unit.api.conftest import World

ONE, TWO = "http://10.0.0.2:8000/v1", "http://10.0.0.3:8000/v1"
KEY_FILE = "/secrets/place/big.key"
UPSTREAM: dict[str, Any] = {
    "base_urls": [ONE, TWO],
    "model": "org/Big",
    "kind": "vllm",
    "api_key_file": KEY_FILE,
    "ctx_len": 32768,
}
UP, DOWN = (
    BaseUrlHealth(base_url=ONE, reachable=True, since=1_700_000_000, under_way=3),
    BaseUrlHealth(base_url=TWO, reachable=False, since=1_700_000_100, error="connection refused", next_try=4.0),
)


class Pool:
    """An ``UpstreamHealth`` that knows what a test tells it, and learns ``asking`` when it is asked."""

    def __init__(self) -> None:
        self.health: Sequence[BaseUrlHealth] = (UP, DOWN)
        self.asking: Sequence[BaseUrlHealth] = (UP, DOWN)
        self.asked: list[str] = []
        self.error: Exception | None = None

    def known(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        return self.health

    def ask(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        self.asked.append(card.id)
        if self.error is not None:
            raise self.error
        self.health = self.asking
        return self.health


@pytest.fixture
def pool(world: World, app: Flask, monkeypatch: pytest.MonkeyPatch) -> Pool:
    world.write_model("big", weights=False, name="Big", upstream=UPSTREAM)
    pool = Pool()
    monkeypatch.setattr(app.extensions["janflask"].models, "_upstreams", UpstreamModels(pool))
    return pool


def stored(world: World, model_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((world.settings.models_dir / model_id / "model.json").read_text())
    return content


# --- shown ------------------------------------------------------------------------------------------------------------


def test_an_upstream_is_in_the_list_with_its_servers(client: FlaskClient, pool: Pool) -> None:
    models = {model["id"]: model for model in client.get("/v1/models").get_json()["data"]}
    big = models["big"]
    assert (big["state"], big["status"], big["error"], big["engine"]) == ("ready", "running", None, "vllm")
    assert (big["owned_by"], big["format"], big["metadata"]) == (
        "upstream",
        "api",
        {"size": 0, "context_length": 32768},
    )
    assert big["upstream"] == {
        "kind": "vllm",
        "model": "org/Big",
        "ctx_len": 32768,
        "max_concurrent": 64,
        "servers": [
            {
                "base_url": ONE,
                "reachable": True,
                "since": 1_700_000_000,
                "error": None,
                "under_way": 3,
                "next_try": None,
            },
            {
                "base_url": TWO,
                "reachable": False,
                "since": 1_700_000_100,
                "error": "connection refused",
                "under_way": 0,
                "next_try": 4.0,
            },
        ],
    }
    assert (models["tiny"]["upstream"], models["tiny"]["format"], models["tiny"]["owned_by"]) == (None, "gguf", "local")


def test_nothing_of_the_key_is_shown(client: FlaskClient, pool: Pool) -> None:
    for path in ("/v1/models", "/v1/models/big", "/v1/models/big/events"):
        text = client.get(path).get_data(as_text=True)
        assert "big" in text
        assert "secrets" not in text
        assert "key" not in text


def test_one_upstream(client: FlaskClient, pool: Pool) -> None:
    big = client.get("/v1/models/big").get_json()
    assert (big["state"], big["status"], big["runtime"], big["stats"]) == ("running", "running", None, None)
    assert [server["reachable"] for server in big["upstream"]["servers"]] == [True, False]


def test_one_that_nobody_has_asked(client: FlaskClient, pool: Pool) -> None:
    pool.health = [BaseUrlHealth(base_url=ONE), DOWN]
    big = client.get("/v1/models/big").get_json()
    assert (big["state"], big["status"], big["error"]) == ("downloaded", "downloaded", None)


def test_one_that_cannot_be_reached(client: FlaskClient, pool: Pool) -> None:
    pool.health = [DOWN]
    big = client.get("/v1/models/big").get_json()
    assert (big["state"], big["status"], big["error"]) == ("stopped", "failed", f"{TWO}: connection refused")
    assert {model["id"]: model["state"] for model in client.get("/v1/models").get_json()["data"]}["big"] is None


def test_what_is_wrong_with_the_whole_entry_is_said_once(client: FlaskClient, pool: Pool) -> None:
    pool.health = [BaseUrlHealth(base_url=url, error="ca_file x.pem cannot be used") for url in (ONE, TWO)]
    big = client.get("/v1/models/big").get_json()
    assert (big["status"], big["error"]) == ("failed", "ca_file x.pem cannot be used")
    pool.health = [replace(DOWN, error=f"the upstream {TWO} failed")]
    assert client.get("/v1/models/big").get_json()["error"] == f"the upstream {TWO} failed"


def test_a_table_that_is_wrong_is_said(client: FlaskClient, world: World) -> None:
    world.write_model("odd", weights=False, upstream={**UPSTREAM, "kind": "tgi", "api_key": "sk-secret"})
    odd = client.get("/v1/models/odd")
    assert "upstream.kind must be one of" in odd.get_json()["error"]
    assert (odd.get_json()["status"], odd.get_json()["upstream"]) == ("not_downloaded", None)
    assert "sk-secret" not in odd.get_data(as_text=True)


def test_openais_list_has_it(sdk: openai.OpenAI, pool: Pool) -> None:
    models = {model.id: model for model in sdk.models.list()}
    assert (models["big"].owned_by, models["big"].object) == ("upstream", "model")


def test_the_events_of_an_upstream_are_one(client: FlaskClient, world: World, pool: Pool) -> None:
    world.supervisor.states["big"] = ModelState(model_id="big", status=ModelStatus.DOWNLOADED)  # as it says of any card
    lines = [line for line in client.get("/v1/models/big/events").get_data(as_text=True).splitlines() if line]
    (event,) = [json.loads(line.removeprefix("data: ")) for line in lines if not line.startswith((":", "data: [DONE]"))]
    assert (event["id"], event["status"], event["error"]) == ("big", "running", None)


# --- started, stopped, deleted ----------------------------------------------------------------------------------------


def test_a_start_asks_its_servers_and_no_engine(client: FlaskClient, world: World, pool: Pool) -> None:
    pool.health = [BaseUrlHealth(base_url=ONE)]
    answer = client.put("/v1/models/big/start", json={"prompt_template": "", "ctx_len": None})
    assert (answer.status_code, answer.get_json()) == (200, {"id": "big", "object": "model", "state": "running"})
    assert (pool.asked, world.supervisor.starts) == (["big"], [])


def test_a_start_of_one_that_cannot_be_reached(client: FlaskClient, pool: Pool) -> None:
    pool.asking = [DOWN]
    answer = client.put("/v1/models/big/start")
    assert answer.status_code == 503
    assert answer.get_json()["error"]["message"] == f"big cannot be reached: {TWO}: connection refused"


def test_a_start_with_a_key_that_cannot_be_read(client: FlaskClient, pool: Pool) -> None:
    pool.error = ConflictError("the file /x.key, which has the upstream's key, is not there", param="model")
    assert client.put("/v1/models/big/start").status_code == 409


def test_a_start_with_settings_of_an_engine_is_refused(client: FlaskClient, pool: Pool) -> None:
    answer = client.put("/v1/models/big/start", json={"ctx_len": 4096})
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["param"] == "ctx_len"
    assert "big is run by another server" in error["message"]
    assert pool.asked == []


def test_an_upstream_is_not_stopped(client: FlaskClient, world: World, pool: Pool) -> None:
    answer = client.put("/v1/models/big/stop")
    assert answer.status_code == 409
    assert answer.get_json()["error"]["code"] == "model_upstream"
    assert ONE in answer.get_json()["error"]["message"]
    assert "big" not in world.supervisor.states


def test_an_engine_that_still_runs_where_an_upstream_came_is_stopped(
    client: FlaskClient, world: World, pool: Pool
) -> None:
    world.supervisor.states["big"] = ModelState(model_id="big", status=ModelStatus.RUNNING)
    assert client.delete("/v1/models/big").status_code == 409
    assert client.put("/v1/models/big/stop").status_code == 200
    assert world.supervisor.states["big"].status is ModelStatus.STOPPED


def test_deleting_an_upstream_removes_its_entry(client: FlaskClient, world: World, pool: Pool) -> None:
    assert client.delete("/v1/models/big").get_json() == {"id": "big", "object": "model", "deleted": True}
    assert not (world.settings.models_dir / "big").exists()
    assert client.get("/v1/models/big").status_code == 404


# --- changed ----------------------------------------------------------------------------------------------------------


def test_what_may_change_of_an_upstream(client: FlaskClient, world: World, pool: Pool) -> None:
    world.write_model("big", weights=False, upstream=UPSTREAM, settings={"ctx_len": 64})
    body = {
        "name": "Large",
        "description": "There",
        "parameters": {"temperature": 0.2},
        "metadata": {"author": "me"},
        "settings": {"ctx_len": None},
    }
    big = client.patch("/v1/models/big", json=body).get_json()
    assert (big["name"], big["description"], big["parameters"]) == ("Large", "There", {"temperature": 0.2})
    assert (big["owned_by"], big["settings"], big["notes"]) == ("me", {}, [])
    assert stored(world, "big")["upstream"] == UPSTREAM
    assert stored(world, "big")["metadata"] == {"author": "me"}


@pytest.mark.parametrize(
    "settings", [{"ctx_len": 4096}, {"llama_model_path": "x.gguf"}, {"prompt_template": "{prompt}"}, {"mmproj": "a"}]
)
def test_settings_of_an_engine_are_refused_by_name(
    client: FlaskClient, world: World, pool: Pool, settings: dict[str, Any]
) -> None:
    before = stored(world, "big")
    answer = client.patch("/v1/models/big", json={"name": "New", "settings": settings})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == f"settings.{next(iter(settings))}"
    assert stored(world, "big") == before


# --- no request makes one ---------------------------------------------------------------------------------------------

EVIL = {"base_urls": ["http://evil.example/v1"], "model": "x", "api_key_env": "JANFLASK_UPSTREAM_KEY"}


@pytest.mark.parametrize("model_id", ["tiny", "big"])
@pytest.mark.parametrize(
    "body",
    [
        {"name": "n", "upstream": EVIL},
        {"metadata": {"upstream": EVIL}},
        {"parameters": {"upstream": EVIL}},
        {"settings": {"upstream": EVIL}},
        {"name": "n", "base_urls": EVIL["base_urls"]},
    ],
)
def test_a_change_writes_no_upstream(
    client: FlaskClient, world: World, pool: Pool, model_id: str, body: dict[str, Any]
) -> None:
    before = stored(world, model_id).get("upstream")
    client.patch(f"/v1/models/{model_id}", json=body)
    assert stored(world, model_id).get("upstream") == before
    assert "evil" not in json.dumps(client.get(f"/v1/models/{model_id}").get_json()["upstream"])


@pytest.mark.parametrize("place", ["", "metadata", "parameters", "settings"])
def test_a_download_asks_for_no_upstream(client: FlaskClient, world: World, pool: Pool, place: str) -> None:
    body: dict[str, Any] = {"source_url": "hf:org/repo:Q4_K_M"}
    (body.setdefault(place, {}) if place else body)["upstream"] = EVIL
    client.post("/v1/models", json=body)
    for request in world.supervisor.downloads:
        assert "upstream" not in (*request.settings, *request.parameters)  # of metadata only, which is only shown
