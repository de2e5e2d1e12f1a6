"""Who gets in: each operation of the document by no key, a wrong one and each scope, and what lies beside them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask import create_app
from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring, Limits, id_in, new_key
from janflask.access.scopes import EVERY, Scope, Scopes, missing
from janflask.api.plumbing import access
from tests.unit.api.conftest import World

METHODS = {"get", "post", "put", "patch", "delete"}
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
NOBODY = "jf_" + "a" * 12 + "_" + "b" * 43
OPEN = {"GET /healthz", "GET /livez", "GET /readyz"}  # whoever opens another one says so here


@dataclass(frozen=True)
class Operation:
    """One of the document's, with a path that names nothing that is there."""

    name: str
    method: str
    path: str
    scopes: Scopes
    is_open: bool
    statuses: frozenset[str]

    def sent(self, client: FlaskClient, **headers: str) -> Any:
        """With a body that asks for nothing to be stored, which some of them would need more for."""
        body = None if self.method in ("GET", "DELETE") else {"store": False}
        return client.open(self.path, method=self.method, headers=headers, json=body)


@dataclass
class Locked:
    """A server that has keys."""

    file: KeyFile
    client: FlaskClient

    def key(self, *scopes: Scope) -> str:
        key, text = new_key("a", frozenset(scopes), Limits(), 1)
        self.file.change(lambda keyring: keyring.with_key(key))
        return text

    def revoked_key(self) -> str:
        text = self.key(*Scope)
        self.file.change(lambda keyring: keyring.without(id_in(text)))
        return text


@pytest.fixture(autouse=True)
def _nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no runner, and many requests here would like one."""
    monkeypatch.setattr("janflask.container.PATIENCE", 0.01)


@pytest.fixture
def locked(world: World, client: FlaskClient) -> Locked:
    file = KeyFile(world.settings.secrets_dir)
    file.change(lambda _: Keyring(required=True))
    return Locked(file, client)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def operations(client: FlaskClient) -> Iterator[Operation]:
    document = client.get("/openapi.json").json
    assert document is not None
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if method in METHODS:
                assert "x-janflask-scope" in told, f"{method} {path} has no rule: say what it needs where it is made"
                scopes = frozenset(map(Scope, told["x-janflask-scope"]))
                filled = re.sub(r"{[^}]*}", "x", path)
                is_open = told["security"] == []
                assert is_open == (not scopes), "an open operation needs no scope, and says that it needs no key"
                name = f"{method.upper()} {path}"
                yield Operation(name, method.upper(), filled, scopes, is_open, frozenset(told["responses"]))


def code(response: Any) -> tuple[int, str | None]:
    body = response.json
    error = (body.get("error") if isinstance(body, dict) else None) or {}
    return response.status_code, error.get("code") or error.get("details", {}).get("error_code")


# --- every operation --------------------------------------------------------------------------------------------------


def test_every_operation_asks_for_a_key_and_for_its_scopes(locked: Locked) -> None:
    found = list(operations(locked.client))
    assert len(found) > 80
    assert {each.name for each in found if each.is_open} == OPEN
    holders = {scope: bearer(locked.key(scope)) for scope in Scope}
    nobodys = [{}, bearer(NOBODY), bearer(locked.revoked_key())]
    for each in found:
        for headers in nobodys:
            refused = code(each.sent(locked.client, **headers)) == (401, "invalid_api_key")
            assert refused != each.is_open, each
        for scope, headers in holders.items():
            response = each.sent(locked.client, **headers)
            lacking = missing(each.scopes, frozenset({scope}))
            assert (code(response) == (403, "missing_scope")) == bool(lacking), (each, scope, response.data)
            assert response.status_code != 401, (each, scope)
            for one in lacking:
                assert f"lacks {one}" in response.text or f", {one}" in response.text, (each, scope)


def test_the_scopes_together_are_enough(locked: Locked) -> None:
    both = bearer(locked.key(Scope.INFERENCE, Scope.CONVERSATIONS))
    for each in operations(locked.client):
        assert (code(each.sent(locked.client, **both))[1] == "missing_scope") == (Scope.ADMIN in each.scopes), each


def test_the_document_tells_of_the_refusals(locked: Locked) -> None:
    for each in operations(locked.client):
        assert each.is_open != ({"401", "429"} <= each.statuses), each
        assert "403" in each.statuses


def test_without_keys_every_operation_is_everybodys(client: FlaskClient) -> None:
    for each in operations(client):
        for headers in ({}, bearer(NOBODY), bearer("none")):
            assert code(each.sent(client, **headers)) not in {(401, "invalid_api_key"), (403, "missing_scope")}, each


def test_a_route_that_nobody_made_a_rule_for_is_the_administrators(locked: Locked, app: Flask) -> None:
    fresh = create_app(replace(app.extensions["janflask"].settings))
    fresh.add_url_rule("/new", "new", lambda: "done")
    client = fresh.test_client()
    assert client.get("/new").status_code == 401
    assert code(client.get("/new", headers=bearer(locked.key(Scope.INFERENCE)))) == (403, "missing_scope")
    assert client.get("/new", headers=bearer(locked.key(Scope.ADMIN))).status_code == 200


def test_views_without_a_document_have_a_rule_too(app: Flask) -> None:
    beside = {"api-docs.openapi_json", "api-docs.openapi_swagger_ui"}
    for endpoint, view in app.view_functions.items():
        assert endpoint in beside or access.has_rule(view), endpoint
    assert all(access.rule_of(view) is None for name, view in app.view_functions.items() if name.startswith("page."))


# --- beside the operations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"])
def test_the_documentation_is_open(locked: Locked, path: str) -> None:
    with locked.client.get(path) as response:
        assert response.status_code in (200, 302)
    with locked.client.head(path, headers=bearer(NOBODY)) as response:
        assert response.status_code in (200, 302)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_strangers_learn_nothing_of_what_there_is(locked: Locked, method: str) -> None:
    """Neither which paths there are, nor which methods they know."""
    any_key = bearer(locked.key(Scope.INFERENCE))
    there = ["/v1/threads", "/v1//threads"]
    for path in ["/nowhere", "/v1", "/v1/threads/x/y/z", "/metrics2", "/docs/assets", "/healthz/x", *there]:
        for headers in ({}, bearer(NOBODY)):
            response = locked.client.open(path, method=method, headers=headers)
            assert response.status_code == 401, path
            assert "Allow" not in response.headers
            assert response.headers["WWW-Authenticate"] == "Bearer"
        if path not in there:
            assert locked.client.open(path, method=method, headers=any_key).status_code == 404
        elif method in ("PUT", "PATCH", "DELETE", "TRACE", "FOO"):
            assert locked.client.open(path, method=method, headers=any_key).status_code == 405


def test_what_methods_there_are_is_told_to_any_key(locked: Locked) -> None:
    response = locked.client.options("/v1/threads", headers=bearer(locked.key(Scope.INFERENCE)))
    assert response.status_code == 200
    assert "POST" in response.headers["Allow"]


def test_health_tells_strangers_that_it_is_well_and_no_more(locked: Locked) -> None:
    for headers in ({}, bearer(NOBODY)):
        assert locked.client.get("/healthz", headers=headers).json == {"status": "ok"}
    told = locked.client.get("/healthz", headers=bearer(locked.key(Scope.INFERENCE))).json
    assert told is not None
    assert told["models_running"] == 1


# --- how a key is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        {"Authorization": "Bearer {}"},
        {"Authorization": "bearer {}"},
        {"Authorization": "  BEARER   {}  "},
        {"x-api-key": "{}"},
        {"X-Api-Key": " {} "},
        {"Authorization": "Basic dXNlcjpwYXNz", "x-api-key": "{}"},  # a proxy's own
        {"Authorization": "Bearer {}", "x-api-key": "none"},
    ],
)
def test_the_ways_to_send_a_key(locked: Locked, form: dict[str, str]) -> None:
    key = locked.key(Scope.CONVERSATIONS)
    headers = {name: text.format(key) for name, text in form.items()}
    assert locked.client.get("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"Authorization": "{}"},
        {"Authorization": "Basic {}"},
        {"Authorization": "Bearer{}"},
        {"Authorization": "Bearer Bearer {}"},
        {"Authorization": "Bearer {} {}"},
        {"Authorization": "Bearer {},{}"},
        {"Authorization": "Bearer none", "x-api-key": "{}"},  # not the better of two
        {"Cookie": "api_key={}"},
        {"Api-Key": "{}"},
        {"X-Forwarded-Authorization": "Bearer {}"},
    ],
)
def test_ways_that_are_none(locked: Locked, form: dict[str, str]) -> None:
    key = locked.key(Scope.CONVERSATIONS)
    headers = {name: text.replace("{}", key) for name, text in form.items()}
    assert locked.client.get("/v1/threads", headers=headers).status_code == 401


def test_a_key_in_the_query_is_none(locked: Locked) -> None:
    key = locked.key(*Scope)
    for name in ("key", "api_key", "api-key", "access_token", "x-api-key", "Authorization"):
        assert locked.client.get("/v1/threads", query_string={name: key}).status_code == 401


def test_a_key_of_any_bytes_is_a_wrong_one(locked: Locked) -> None:
    for text in ("\xff\xfe", "jf_\xe4", "x" * 8000, "jf_" * 1000, "\t"):
        response = locked.client.get("/v1/threads", headers={"Authorization": f"Bearer {text}"})
        assert response.status_code == 401


def test_what_is_added_and_revoked_counts_at_once(locked: Locked) -> None:
    key = locked.key(Scope.CONVERSATIONS)
    assert locked.client.get("/v1/threads", headers=bearer(key)).status_code == 200
    locked.file.change(lambda keyring: keyring.without(key[3:15]))
    assert code(locked.client.get("/v1/threads", headers=bearer(key))) == (401, "invalid_api_key")
    assert locked.client.get("/v1/threads").status_code == 401, "the last key that goes opens nothing"


# --- how it is refused ------------------------------------------------------------------------------------------------


def test_the_error_is_openais(locked: Locked) -> None:
    response = locked.client.get("/v1/threads", headers=bearer(NOBODY))
    assert response.json == {
        "error": {
            "message": "this API key is none of the server's, or it was revoked",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
    assert NOBODY not in response.text
    assert "Bearer KEY" in locked.client.get("/v1/threads").text


def test_the_error_is_anthropics_on_its_routes(locked: Locked) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        response = locked.client.post(path, json=BODY)
        assert response.status_code == 401
        assert response.json["type"] == "error"  # type: ignore[index]
        assert response.json["error"]["type"] == "authentication_error"  # type: ignore[index]
        response = locked.client.post(path, json=BODY, headers={"x-api-key": locked.key(Scope.CONVERSATIONS)})
        assert response.status_code == 403
        assert response.json["error"]["type"] == "permission_error"  # type: ignore[index]


def test_hosts_and_origins_come_first_and_bodies_last(world: World, locked: Locked) -> None:
    assert code(locked.client.get("/v1/threads", headers={"Host": "evil.example"})) == (403, "unknown_host")
    assert code(locked.client.post("/v1/threads", headers={"Origin": "https://evil.example"}))[1] == "foreign_origin"
    listed = create_app(replace(world.settings, cors_origins=("https://app.example",))).test_client()
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert listed.options("/v1/threads", headers=asks).status_code == 204, "a browser sends no key in a preflight"
    refused = listed.get("/v1/threads", headers={"Origin": "https://app.example"})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://app.example")
    for given in ({"data": b"{", "content_type": "application/json"}, {"data": b"x", "content_type": "text/plain"}):
        assert locked.client.post("/v1/threads", **given).status_code == 401  # type: ignore[arg-type]
    packed = {"Content-Encoding": "br", **bearer(NOBODY)}
    assert locked.client.post("/v1/threads", data=b"x", headers=packed).status_code == 401


def test_an_upload_without_a_key_leaves_nothing(world: World, locked: Locked) -> None:
    def upload(**headers: str) -> int:
        form = {"purpose": "assistants", "file": (io.BytesIO(b"x" * 100_000), "a.txt")}
        return locked.client.post("/v1/files", data=form, headers=headers).status_code

    assert (upload(), upload(**bearer(NOBODY)), upload(**bearer(locked.key(Scope.INFERENCE)))) == (401, 401, 403)
    assert not world.settings.files_dir.exists() or not list(world.settings.files_dir.iterdir())
    assert upload(**bearer(locked.key(Scope.CONVERSATIONS))) == 200


def test_nothing_runs_for_a_stranger(world: World, locked: Locked) -> None:
    body = {**BODY, "stream": True}
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/threads/runs"):
        assert locked.client.post(path, json=body).status_code == 401
    assert world.engine.requests == []


def test_keys_that_cannot_be_read_let_nobody_in(locked: Locked, caplog: pytest.LogCaptureFixture) -> None:
    key = locked.key(*Scope)
    locked.file.path.write_text("{")
    response = locked.client.get("/v1/threads", headers=bearer(key))
    assert code(response) == (500, "keys_unreadable")
    assert str(locked.file.path) not in response.text
    assert str(locked.file.path) in caplog.text
    assert locked.client.get("/nowhere").status_code == 500
    assert locked.client.get("/healthz", headers=bearer(key)).json == {"status": "ok"}
    locked.file.path.unlink()
    assert code(locked.client.get("/v1/threads")) == (500, "keys_unreadable"), "it does not open by going away"


# --- more than the route ----------------------------------------------------------------------------------------------


RESPONSE: dict[str, Any] = {"model": "tiny", "input": "Hi", "store": False}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**BODY, "store": True}),
        ("/v1/responses", {**RESPONSE, "store": True}),
        ("/v1/responses", {"model": "tiny", "input": "Hi"}),
        ("/v1/responses", {**RESPONSE, "previous_response_id": "resp_x"}),
        ("/v1/responses", {**RESPONSE, "conversation": "conv_x"}),
        ("/v1/responses", {**RESPONSE, "input": [{"type": "item_reference", "id": "msg_x"}]}),
        ("/v1/responses", {**RESPONSE, "prompt_cache_options": {"comparison_response_id": "resp_x"}}),
        ("/v1/responses/input_tokens", {**RESPONSE, "previous_response_id": "resp_x"}),
        ("/v1/responses/compact", {**RESPONSE, "conversation": {"id": "conv_x"}}),
        ("/v1/messages", {**BODY, "conversation": "conv_x"}),
    ],
)
def test_what_is_stored_needs_its_scope_wherever_it_is_asked_for(locked: Locked, path: str, body: Any) -> None:
    refused = locked.client.post(path, json=body, headers=bearer(locked.key(Scope.INFERENCE)))
    assert code(refused) == (403, "missing_scope"), refused.data
    both = bearer(locked.key(Scope.INFERENCE, Scope.CONVERSATIONS))
    assert code(locked.client.post(path, json=body, headers=both))[1] != "missing_scope"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", BODY), ("/v1/messages", BODY), ("/v1/completions", {"model": "tiny", "prompt": "Hi"})],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_inference_alone_is_enough_to_be_answered(locked: Locked, path: str, body: Any, is_streamed: bool) -> None:
    headers = bearer(locked.key(Scope.INFERENCE))
    response = locked.client.post(path, json={**body, "stream": is_streamed}, headers=headers)
    assert response.status_code == 200
    assert response.data


# --- where a request comes from ---------------------------------------------------------------------------------------


class Connection:
    """What a server says a request came over."""

    def __init__(self, address: Any, family: int) -> None:
        self.address, self.family = address, family

    def getsockname(self) -> Any:
        return self.address

    def setsockopt(self, *_: Any) -> None:
        pass


INET, INET6, UNIX = 2, 10, 1
HERE = [
    (("127.0.0.1", 1), INET),
    (("127.9.9.9", 1), INET),
    (("::1", 1, 0, 0), INET6),
    (("::ffff:127.0.0.1", 1, 0, 0), INET6),
    ("", UNIX),
]
ELSEWHERE = [
    (("192.168.1.5", 1), INET),
    (("::ffff:10.0.0.1", 1, 0, 0), INET6),
    (("fe80::1%eth0", 1, 0, 3), INET6),
    (("2001:db8::1", 1, 0, 0), INET6),
]


@pytest.mark.parametrize(("address", "family"), [*HERE, *ELSEWHERE])
def test_without_keys_only_what_came_over_loopback_gets_in(world: World, address: Any, family: int) -> None:
    """Whatever a server was told to listen on: also after `janflask keys off`, or when the file has gone."""
    is_here = (address, family) in HERE
    over = {"environ_overrides": {"gunicorn.socket": Connection(address, family)}}
    client = create_app(world.settings).test_client()
    response = client.get("/v1/threads", **over)  # type: ignore[arg-type]
    assert response.status_code == (200 if is_here else 401)
    assert is_here or "janflask keys add" in response.text
    assert client.get("/healthz", **over).status_code == 200  # type: ignore[arg-type]
    careless = create_app(replace(world.settings, allow_keyless=True)).test_client()
    assert careless.get("/v1/threads", **over).status_code == 200  # type: ignore[arg-type]
    key, text = new_key("a", EVERY, Limits(), 1)
    KeyFile(world.settings.secrets_dir).change(lambda keyring: keyring.with_key(key))
    assert client.get("/v1/threads", headers=bearer(text), **over).status_code == 200  # type: ignore[arg-type]
    assert careless.get("/v1/threads", **over).status_code == 401  # type: ignore[arg-type]


def test_no_key_is_in_a_log_or_an_answer(locked: Locked, caplog: pytest.LogCaptureFixture, world: World) -> None:
    caplog.set_level("DEBUG")
    key = locked.key(Scope.INFERENCE)
    answers = [
        locked.client.get(path, headers=headers).text
        for path in ("/v1/models", "/v1/threads", "/nowhere", "/healthz")
        for headers in (bearer(key), bearer(key + "x"), {"x-api-key": key[:-1]})
    ]
    secret = key[16:40]
    assert secret not in caplog.text
    assert secret not in json.dumps(answers)
    assert not [
        path for path in Path(world.settings.data_dir).rglob("*") if path.is_file() and secret in path.read_text()
    ]


def test_strangers_are_not_told_which_models_are_missing(locked: Locked) -> None:
    assert "missing" not in locked.client.get("/readyz").json
    assert "missing" in locked.client.get("/readyz", headers=bearer(locked.key(Scope.INFERENCE))).json
