"""Models: their objects, starting and stopping, and how a request finds its engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from janflask.api.answers.model_objects import LIST_STATE, ONE_STATE
from janflask.errors import ModelLoadError
from janflask.inference.tries import ATTEMPTS
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.models.state import ModelState, ModelStatus
from tests.fakes.scripted import DONE, INFO, STATS, Conversation, ScriptedEngine, say
from tests.unit.api.conftest import World

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def test_the_list(client: FlaskClient, world: World) -> None:
    world.write_model(
        "other", description="Another", metadata={"author": "me", "tags": ["x"]}, parameters={"top_k": "5"}
    )
    world.write_model("empty", weights=False)
    body = client.get("/v1/models").json
    assert body is not None
    assert body["object"] == "list"
    models = {model["id"]: model for model in body["data"]}
    assert {name: (model["state"], model["status"]) for name, model in models.items()} == {
        "tiny": ("ready", "running"),
        "other": ("ready", "downloaded"),
        "empty": (None, "not_downloaded"),
    }
    other = models["other"]
    assert (other["description"], other["owned_by"], other["object"], other["format"]) == (
        "Another",
        "me",
        "model",
        "gguf",
    )
    assert other["parameters"] == {"top_k": "5"}
    assert other["metadata"]["size"] == 4
    assert other["created"] == 1_700_000_000


def test_one_running_model(client: FlaskClient, world: World) -> None:
    model = client.get("/v1/models/tiny").json
    assert model is not None
    assert (model["state"], model["status"], model["error"]) == ("running", "running", None)
    runtime = model["runtime"]
    assert (runtime["ctx_len"], runtime["n_parallel"], runtime["kv_cells"], runtime["pid"]) == (512, 4, 2048, 4242)
    assert runtime["knobs"] == {
        "flash_attn": False,
        "kv_unified": True,
        "slice_size": 64,
        "cpu_threads": 2,
        "source": "measured",
        "measurements": {"flash_attn=on": 9.5},
        "sure": 1.0,
    }
    assert model["notes"] == ["a note"]
    metadata = model["metadata"]
    assert (metadata["description"], metadata["architecture"]) == ("llama 1M F32", "llama")
    assert (metadata["context_length"], metadata["parameter_count"]) == (2048, 1_000_000)
    assert model["stats"]["busy"] == STATS.busy


def test_one_model_that_does_not_run(client: FlaskClient, world: World) -> None:
    world.write_model("other")
    model = client.get("/v1/models/other").json
    assert model is not None
    assert model["metadata"] == {"size": 4}
    assert (model["state"], model["status"], model["runtime"], model["stats"]) == (
        "downloaded",
        "downloaded",
        None,
        None,
    )


def test_one_model_whose_engine_just_ended(client: FlaskClient, world: World) -> None:
    gone = replace(world.supervisor.states["tiny"], socket=str(world.folder / "gone.sock"))
    world.supervisor.states["tiny"] = gone
    response = client.get("/v1/models/tiny")
    assert response.status_code == 200
    assert response.json is not None
    assert response.json["stats"] is None


def test_a_failed_model(client: FlaskClient, world: World) -> None:
    world.supervisor.states["tiny"] = ModelState(
        model_id="tiny", status=ModelStatus.FAILED, error="no GGUF", notes=("tried twice",)
    )
    model = client.get("/v1/models/tiny").json
    assert model is not None
    assert (model["state"], model["status"], model["error"]) == ("stopped", "failed", "no GGUF")
    assert (model["notes"], model["runtime"]) == (["tried twice"], None)
    listed = client.get("/v1/models").json
    assert listed is not None
    assert listed["data"][0]["notes"] == ["tried twice"]


def test_the_words_for_states() -> None:
    """The reference's words, one set for each route."""
    assert set(LIST_STATE) == set(ONE_STATE) == set(ModelStatus)
    assert set(LIST_STATE.values()) == {None, "downloading", "ready", "starting", "stopping"}
    assert set(ONE_STATE.values()) == {
        "not_downloaded", "downloading", "downloaded", "starting", "running", "stopping", "stopped",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/models/nobody", "/v1/models/..", "/v1/models/%2e%2e", "/v1/models/a%2fb"])
def test_an_unknown_model(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


URL = "https://huggingface.co/org/repo/resolve/main/x%20y.gguf?download=true"
OTHER_URL = "https://example.com/models//x.gguf"


@pytest.fixture
def downloaded(world: World) -> None:
    """Two models that came from somewhere; one was made by an older Jan."""
    world.write_model("a-new", sources=[{"filename": "x.gguf"}, {"filename": "y.gguf", "url": URL}])
    world.write_model("an-old", source_url=OTHER_URL)


@pytest.mark.usefixtures("downloaded")
@pytest.mark.parametrize(("url", "model_id"), [(URL, "a-new"), (OTHER_URL, "an-old")])
def test_a_model_by_the_url_it_came_from(client: FlaskClient, url: str, model_id: str) -> None:
    response = client.get(f"/v1/models/{quote(url, safe='')}")
    assert response.status_code == 200
    assert response.json is not None
    assert (response.json["id"], response.json["source_url"]) == (model_id, url)
    assert client.get(f"/v1/models/{model_id}/").json == client.get(f"/v1/models/{model_id}").json == response.json


@pytest.mark.usefixtures("downloaded")
def test_starting_and_stopping_by_url(client: FlaskClient, world: World) -> None:
    world.supervisor.run("an-old", world.engine)
    for action, state in (("start", "running"), ("stop", "stopped")):
        response = client.put(f"/v1/models/{quote(OTHER_URL, safe='')}/{action}")
        assert (response.status_code, response.json) == (200, {"id": "an-old", "object": "model", "state": state})
    assert [start.model_id for start in world.supervisor.starts] == ["an-old"]


@pytest.mark.usefixtures("downloaded")
@pytest.mark.parametrize(
    "url", ["https://example.com/other.gguf", OTHER_URL + "/..", "HTTPS" + OTHER_URL[5:], "file:///etc/passwd", "a://b"]
)
def test_a_url_that_no_model_came_from(client: FlaskClient, url: str) -> None:
    for response in (
        client.get(f"/v1/models/{quote(url, safe='')}"),
        client.put(f"/v1/models/{quote(url, safe='')}/start"),
    ):
        assert response.status_code == 404
        assert response.json is not None
        assert response.json["error"]["code"] == "model_not_found"


def test_a_url_takes_no_other_routes_place(client: FlaskClient, world: World) -> None:
    world.write_model("odd", source_url="https://example.com/a/start")
    assert client.get("/v1/models/tiny/start").status_code == 405
    response = client.get(f"/v1/models/{quote('https://example.com/a/start', safe='')}")
    assert response.json is not None
    assert response.json["id"] == "odd"


@pytest.mark.parametrize("action", ["start", "stop"])
def test_an_unknown_model_can_not_be_started_or_stopped(client: FlaskClient, world: World, action: str) -> None:
    response = client.put(f"/v1/models/nobody/{action}")
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"]["code"] == "model_not_found"
    assert world.supervisor.starts == []


def test_start_and_stop(client: FlaskClient, world: World) -> None:
    response = client.put("/v1/models/tiny/stop")
    assert (response.status_code, response.json) == (200, {"id": "tiny", "object": "model", "state": "stopped"})
    assert world.supervisor.states["tiny"].status is ModelStatus.STOPPED
    response = client.put("/v1/models/tiny/start")
    assert (response.status_code, response.json) == (200, {"id": "tiny", "object": "model", "state": "running"})
    assert world.supervisor.starts[0].settings == {}


def test_start_with_settings(client: FlaskClient, world: World) -> None:
    response = client.put("/v1/models/tiny/start", json={"ctx_len": "2048", "flash_attn": True, "ngl": None})
    assert response.status_code == 200
    assert world.supervisor.starts[0].settings == {"ctx_len": "2048", "flash_attn": True}


@pytest.mark.parametrize(
    ("settings", "param"), [({"ctx_lenn": 5}, "ctx_lenn"), ({"ctx_len": 1}, "ctx_len"), ({"ngl": []}, "ngl")]
)
def test_start_with_bad_settings(client: FlaskClient, world: World, settings: dict[str, Any], param: str) -> None:
    response = client.put("/v1/models/tiny/start", json=settings)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == param
    assert world.supervisor.starts == []


def test_start_with_a_body_that_is_no_json(client: FlaskClient) -> None:
    assert client.put("/v1/models/tiny/start", data="x=1", content_type="text/plain").status_code == 415
    assert client.put("/v1/models/tiny/start", data="{", content_type="application/json").status_code == 400
    assert client.put("/v1/models/tiny/start", data="[]", content_type="application/json").status_code == 400


def test_a_start_that_fails(client: FlaskClient, world: World) -> None:
    world.supervisor.refusal = ModelLoadError("the file is truncated")
    response = client.put("/v1/models/tiny/start")
    assert response.status_code == 500
    assert response.json is not None
    assert response.json["error"]["message"] == "the file is truncated"


def test_no_supervisor(client: FlaskClient, world: World) -> None:
    world.supervisor.path.unlink()
    for response in (client.get("/v1/models"), client.get("/healthz"), client.put("/v1/models/tiny/start")):
        assert response.status_code == 503
        assert "Retry-After" in response.headers
        assert response.json is not None
        assert response.json["error"]["code"] == "unavailable"


def test_a_request_starts_its_model(client: FlaskClient, world: World) -> None:
    world.supervisor.states.clear()
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert [start.model_id for start in world.supervisor.starts] == ["tiny"]


def test_a_request_starts_nothing_when_that_is_off(world: World) -> None:
    world.supervisor.states.clear()
    client = create_app(replace(world.settings, auto_start=False)).test_client()
    response = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert response.status_code == 409
    assert response.json is not None
    assert response.json["error"]["code"] == "model_not_running"
    assert world.supervisor.starts == []


def test_a_start_under_way_is_joined_though_automatic_start_is_off(world: World) -> None:
    world.supervisor.states["tiny"] = ModelState(model_id="tiny", status=ModelStatus.STARTING)
    client = create_app(replace(world.settings, auto_start=False)).test_client()
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_the_engine_is_remembered(client: FlaskClient, world: World) -> None:
    for _ in range(3):
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert world.supervisor.asked == 1
    assert world.supervisor.starts == []


def test_an_engine_that_moved_is_found_again(client: FlaskClient, world: World) -> None:
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    other = ScriptedEngine(world.folder / "other.sock")
    other.script = say("moved")
    try:
        world.engine.path.unlink()
        world.supervisor.states["tiny"] = world.supervisor.run("tiny", other)
        response = client.post("/v1/chat/completions", json=CHAT)
    finally:
        other.close()
    assert response.json is not None
    assert response.json["choices"][0]["message"]["content"] == "moved"


def test_an_engine_at_the_same_place_is_asked_about_again(client: FlaskClient, world: World) -> None:
    """It may run with other settings, or another file."""
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    world.engine.close()
    world.engine = ScriptedEngine(world.engine.path)
    fresh = replace(INFO, chat_template="fresh {{ messages[0].content }}")
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, fresh)
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert world.engine.requests[0].prompt == "fresh Hi"


def test_an_engine_that_nobody_serves_is_started_once_more(client: FlaskClient, world: World) -> None:
    """The supervisor has not noticed yet: it still names a socket that nobody listens at."""
    dead = world.folder / "dead.sock"
    dead.touch()
    world.supervisor.states["tiny"] = replace(world.supervisor.states["tiny"], socket=str(dead))
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert len(world.supervisor.starts) == 1


def test_an_engine_that_ends_before_its_first_word_is_asked_again(client: FlaskClient, world: World) -> None:
    """It had taken the request, but no answer was begun: the client need not know."""
    ends = [True, False]

    def script(conversation: Conversation) -> None:
        if not ends.pop(0):
            conversation.send(Started(7), Chunk(0, "at last"), Finished(0, "stop"), DONE)

    world.engine.script = script
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.get_json()["choices"][0]["message"]["content"] == "at last"
    assert len(world.engine.requests) == 2


def test_an_engine_that_ends_after_its_first_word_is_not(client: FlaskClient, world: World) -> None:
    world.engine.script = lambda conversation: conversation.send(Started(7), Chunk(0, "so f"))
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.get_json()["error"]["code"] == "engine_crashed"
    assert len(world.engine.requests) == 1


def test_an_engine_that_stays_away(client: FlaskClient, world: World) -> None:
    dead = world.folder / "dead.sock"
    dead.touch()
    state = replace(world.supervisor.states["tiny"], socket=str(dead))
    world.supervisor.states["tiny"] = world.supervisor.running["tiny"] = state
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert len(world.supervisor.starts) == ATTEMPTS - 1, "the first attempt went by what was remembered"


def test_the_models_parameters_are_defaults(client: FlaskClient, world: World) -> None:
    world.write_model(
        parameters={"temperature": "0.3", "top_k": 7, "max_tokens": "99", "stop": ["END"], "stream": True, "seed": 5}
    )
    response = client.post("/v1/chat/completions", json={**CHAT, "top_k": 3})
    assert response.content_type == "application/json"
    request = world.engine.requests[0]
    assert (request.sampling.temperature, request.sampling.top_k, request.sampling.seed) == (0.3, 3, 5)
    assert (request.sampling.top_p, request.max_tokens, request.stop) == (0.95, 99, ("END",))


def test_all_fields_reach_the_engine(client: FlaskClient, world: World) -> None:
    given: dict[str, Any] = {
        "temperature": 0.1, "dynatemp_range": 0.2, "dynatemp_exponent": 1.5, "top_k": 11, "top_p": 0.5, "min_p": 0.01,
        "typical_p": 0.9, "top_n_sigma": 1.5, "xtc_probability": 0.4, "xtc_threshold": 0.2, "repeat_penalty": 1.1,
        "repeat_last_n": 32, "frequency_penalty": 0.6, "presence_penalty": -0.7, "dry_multiplier": 0.8,
        "dry_base": 1.8, "dry_allowed_length": 3, "dry_penalty_last_n": 64, "mirostat": 2, "mirostat_tau": 4.0,
        "mirostat_eta": 0.2, "seed": 42, "ignore_eos": True,
    }  # fmt: skip
    others = {
        "logit_bias": {"7": -100, "3": 1.5},
        "dry_sequence_breakers": ["."],
        "n": 3,
        "max_tokens": 5,
        "max_completion_tokens": 6,
        "stop": "END",
        "cache_prompt": False,
    }
    assert client.post("/v1/chat/completions", json={**CHAT, **given, **others}).status_code == 200
    request = world.engine.requests[0]
    assert {name: getattr(request.sampling, name) for name in given} == given
    assert request.sampling.logit_bias == ((3, 1.5), (7, -100.0))
    assert request.sampling.dry_sequence_breakers == (".",)
    assert (request.n, request.max_tokens, request.stop, request.cache_prompt) == (3, 6, ("END",), False)
    assert request.parse_special


def test_jans_template_of_the_model(client: FlaskClient, world: World) -> None:
    world.write_model(settings={"prompt_template": "S:{system_message} U:{prompt} A:"})
    client.post("/v1/chat/completions", json=CHAT)
    assert world.engine.requests[0].prompt == "S: U:Hi A:"


def test_an_unusable_model_file(client: FlaskClient, world: World) -> None:
    world.write_model(parameters={"temperature": "hot"})
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 409
    assert response.json is not None
    assert "temperature" in response.json["error"]["message"]
    assert json.loads(client.get("/v1/models").data)["data"][0]["parameters"] == {"temperature": "hot"}
