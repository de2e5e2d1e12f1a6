"""The OpenAPI document describes every operation, and the documentation page needs no other host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import apispec
import flask_smorest
import marshmallow as ma
import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from janflask import __version__
from janflask.api.plumbing.blueprint import Api, Blueprint, BodyParser, path_id
from janflask.api.plumbing.converters import LazyRule
from janflask.api.plumbing.openapi import CONFIG
from janflask.schemas.answers import ErrorSchema
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.completions import CompletionRequestSchema
from tests.unit.api.conftest import World

ROOT = Path(__file__).resolve().parents[3]
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    document: dict[str, Any] = json.loads(response.data)
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "allOf" in schema:
        return resolve(document, schema["allOf"][0])
    return schema


def check_fits(document: dict[str, Any], value: Any, schema: dict[str, Any], path: str = "") -> None:
    """Every field of an example or answer is described, and every described field of an object is there."""
    schema = resolve(document, schema)
    if isinstance(value, dict) and "properties" in schema:
        assert set(value) <= set(schema["properties"]), path
        for name, inner in value.items():
            check_fits(document, inner, schema["properties"][name], f"{path}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            check_fits(document, inner, schema["items"], f"{path}.{number}")


def test_the_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    info = document["info"]
    assert (info["title"], info["version"]) == ("janflask", __version__)
    assert info["description"]
    assert info["license"]["name"] == "Apache-2.0"


def test_the_routes(document: dict[str, Any]) -> None:
    assert set(operations(document)) >= {
        "GET /v1/models",
        "POST /v1/models",
        "GET /v1/models/{model_id}",
        "POST /v1/models/{model_id}",
        "PATCH /v1/models/{model_id}",
        "DELETE /v1/models/{model_id}",
        "GET /v1/models/{model_id}/events",
        "PUT /v1/models/{model_id}/start",
        "PUT /v1/models/{model_id}/stop",
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "GET /healthz",
    }


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert len(operation["description"]) > 40, name
        assert operation["tags"], name
        assert any(status.startswith(("4", "5")) for status in operation["responses"]), name
        for status, response in operation["responses"].items():
            response = document["components"]["responses"].get(response.get("$ref", "").rsplit("/", 1)[-1], response)
            assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503")), (name, status)
            assert response["description"], (name, status)
            if status != "default":
                assert all("example" in content for content in response.get("content", {}).values()), (name, status)
        if "requestBody" in operation:
            assert all("example" in content for content in operation["requestBody"]["content"].values()), name


def test_the_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            if content and "example" in content:
                check_fits(document, content["example"], content["schema"], f"{name} {status}")
    for name, webhook in document["x-webhooks"].items():
        content = webhook["post"]["requestBody"]["content"]["application/json"]
        check_fits(document, content["example"], content["schema"], name)


@pytest.mark.parametrize(
    ("path", "schema"), [("/v1/chat/completions", ChatRequestSchema()), ("/v1/completions", CompletionRequestSchema())]
)
def test_the_example_requests_work(
    client: FlaskClient, world: World, document: dict[str, Any], path: str, schema: Any
) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    schema.load(body)
    world.write_model(body["model"])
    world.supervisor.states[body["model"]] = world.supervisor.run(body["model"], world.engine)
    answer = client.post(path, json=body).json
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
    assert answer is not None
    check_fits(document, answer, content["application/json"]["schema"], path)
    assert set(answer) == set(content["application/json"]["example"])
    assert content["text/event-stream"]["example"].endswith("data: [DONE]\n\n")


def test_model_answers_fit_their_schemas(client: FlaskClient, document: dict[str, Any]) -> None:
    for path, route in (
        ("/v1/models", "/v1/models"),
        ("/v1/models/tiny", "/v1/models/{model_id}"),
        ("/healthz", "/healthz"),
    ):
        content = document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]
        answer = client.get(path).json
        assert answer is not None
        check_fits(document, answer, content["schema"], path)
        assert set(answer) == set(content["example"])
    runtime = content_of_model(client)["runtime"]
    described = document["components"]["schemas"]["Runtime"]["properties"]
    assert set(runtime) == set(described)


def content_of_model(client: FlaskClient) -> dict[str, Any]:
    model: dict[str, Any] | None = client.get("/v1/models/tiny").json
    assert model is not None
    return model


def test_the_objects_out_of_band(document: dict[str, Any]) -> None:
    assert set(document["x-webhooks"]) == {"ModelObject", "MessageObject", "ThreadObject"}
    for name in document["x-webhooks"]:
        assert document["components"]["schemas"][name]["properties"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


class Thing(ma.Schema):
    """A thing."""

    name = ma.fields.String(required=True)


class PlainBlueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """As flask-smorest has it, with our status for a wrong body."""

    ARGUMENTS_PARSER = BodyParser()


class PlainApi(flask_smorest.Api):  # type: ignore[misc]
    """As flask-smorest has it, with our errors."""

    ERROR_SCHEMA = ErrorSchema


def described(blueprint: type[flask_smorest.Blueprint], api_type: type[flask_smorest.Api]) -> dict[str, Any]:
    app = Flask("things")
    app.config.update(CONFIG)
    api = api_type(app)
    for name in ("Things", "Others"):
        blp = blueprint(name, name, description=f"{name}.")
        text = {"schema": {"type": "string"}, "content_type": "text/plain", "description": "Or as text."}

        @blp.route(f"/{name}/<thing_id>", methods=["PUT", "POST"], parameters=[path_id("thing", "a")])
        @blp.doc(operationId=f"put{name}", **{"x-more": {"a": {"b": 1}}})
        @blp.doc(tags=["a", "b"], **{"x-more": {"a": {"c": 2}}})
        @blp.arguments(Thing, example={"name": "a"})
        @blp.response(200, Thing, description="It.", example={"name": "b"}, headers={"X": {"description": "One."}})
        @blp.alt_response(200, **text, success=True)
        @blp.alt_response(404, schema=ErrorSchema, description="None.")
        @blp.alt_response(503, schema=ErrorSchema, description="Later.")
        @blp.doc(**{"x-more": {"a": 1}})
        def put(body: dict[str, Any], thing_id: str) -> None:
            """Put a thing

            A thing is put where there was none.
            """

        api.register_blueprint(blp)
    document: dict[str, Any] = api.spec.to_dict()
    return document


def test_the_document_is_what_flask_smorest_makes_of_it() -> None:
    """Neither what is noted without copies nor the writing later on changes a word."""
    ours = described(Blueprint, Api)
    assert len(ours["paths"]) == 2
    assert json.dumps(ours) == json.dumps(described(PlainBlueprint, PlainApi))


def test_a_document_that_cannot_be_written_is_not_told_in_part() -> None:
    app = Flask("things")
    app.config.update(CONFIG)
    api = Api(app)

    def fail(spec: apispec.APISpec) -> None:
        raise ValueError("no")

    api.describe(fail)
    api.describe(lambda spec: spec.tag({"name": "a"}))
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            _ = api.spec


@pytest.mark.parametrize("values", [{"name": "a b"}, {"name": "a", "q": "1", "none": None}, {"name": "a/b"}])
def test_urls_are_built_as_ever(values: dict[str, Any]) -> None:
    urls = []
    for rule in (Rule, LazyRule):
        app = Flask("things")
        app.url_rule_class = rule
        app.add_url_rule("/things/<path:name>", "thing", lambda name: name, methods=["GET"], defaults={"kind": "x"})
        with app.test_request_context():
            urls += [url_for("thing", **values), url_for("thing", **values)]
    assert len(set(urls)) == 1


def test_the_page_is_served_from_here(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(links) == 3
    scripts = []
    for link in links:
        assert link.startswith("/docs/assets/")
        with client.get(link) as asset:
            assert asset.status_code == 200
            assert len(asset.data) > 300
            scripts += [asset.text] if link.endswith("docs.js") else []
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "validatorUrl: null" in scripts[0]
    assert 'data-document="/openapi.json"' in page.text


def test_the_page_runs_nothing_that_stands_in_it(client: FlaskClient) -> None:
    page = client.get("/docs")
    policy = dict(part.partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.findall(r"<script(?![^>]* src=)|<style| on\w+=| style=|javascript:", page.text)


def test_health(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json) == (
        200,
        {"status": "ok", "version": __version__, "models_running": 1},
    )


def test_the_version_is_the_packages() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


WORKER = """
import sys
from pathlib import Path
before = set(sys.modules)
import janflask
assert "flask" not in sys.modules, "importing janflask must load nothing"
from janflask.settings import Settings
app = janflask.create_app(Settings(data_dir=Path(sys.argv[1]), runtime_dir=Path(sys.argv[1])))
client = app.test_client()
for path in ("/openapi.json", "/docs", "/v1/models"):
    client.get(path)
client.post("/v1/chat/completions", json={"model": "x", "messages": [{"role": "user", "content": "Hi"}]})
print(*sys.modules)
import psutil  # after the modules are listed; ru_maxrss would count the parent's peak, from before the exec
print(psutil.Process().memory_info().rss)
"""


def test_a_worker_is_small_and_has_nothing_native(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WORKER, str(tmp_path)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    modules, size = run.stdout.strip().split("\n")
    assert int(size) < 150 * 2**20
    loaded = set(modules.split())
    assert {"numpy", "llama_cpp", "janflask_ext", "janflask.engine"} & loaded == set()
