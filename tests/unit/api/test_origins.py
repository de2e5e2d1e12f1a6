"""Which pages may use the server: every route by every foreign host and origin, and what listed origins may read."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from janflask import create_app
from janflask.api.plumbing.origins import METHODS
from janflask.errors import SettingsError
from janflask.settings import Settings
from janflask.settings.hosts import plain_host, plain_origin
from tests.unit.api.conftest import World

APP = "https://app.example.com"
EVIL = "https://evil.example"
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def client_of(world: World, **settings: Any) -> FlaskClient:
    return create_app(replace(world.settings, **settings)).test_client()


def refused(response: Any, code: str) -> bool:
    if response.status_code != 403:
        return False
    error = response.json["error"]
    return code == (error["details"]["error_code"] if "details" in error else error["code"])  # Anthropic's, or ours


def routes(app: Flask) -> list[tuple[str, str]]:
    """(method, path) of all there is; what stands in for an id does not matter."""
    rules = [(rule, re.sub(r"<[^>]*>", "x", rule.rule)) for rule in app.url_map.iter_rules()]
    return [(method, path) for rule, path in rules for method in rule.methods or ()]


def operations(client: FlaskClient) -> list[tuple[str, str]]:
    """(method, path) of all that the document tells of."""
    document: Any = client.get("/openapi.json").json
    paths = {path: re.sub(r"{[^}]*}", "x", path) for path in document["paths"]}
    found = [(key.upper(), paths[path]) for path, item in document["paths"].items() for key in item]
    return [(method, path) for method, path in found if method in METHODS.split(", ")]


def told(response: Any, start: str = "Access-Control-") -> dict[str, str]:
    """The headers by which a page gets at the answer."""
    return {name: value for name, value in response.headers if name.startswith(start)}


def readable(response: Any) -> set[str]:
    """The headers that a page may read beside the usual ones, in small letters."""
    return {name.lower() for name in response.headers["Access-Control-Expose-Headers"].split(", ")}


@pytest.fixture
def _nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no runner, and many requests here would like one."""
    monkeypatch.setattr("janflask.container.PATIENCE", 0.01)


# --- every route ------------------------------------------------------------------------------------------------------


FOREIGN = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Origin": EVIL, "Sec-Fetch-Site": "same-origin"},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
]
VISIT = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_every_operation_of_the_document_is_a_route(app: Flask, client: FlaskClient) -> None:
    found = operations(client)
    assert len(found) > 80
    assert set(found) <= set(routes(app))


@pytest.mark.parametrize("has_keys", [False, True])
def test_no_route_answers_a_foreign_page(world: World, app: Flask, client: FlaskClient, has_keys: bool) -> None:
    """Nor does a key help: a page of anybody's may have been given one."""
    headers = world.make_key().header if has_keys else {}
    listed = client_of(world, cors_origins=(APP,))
    for method, path in {*routes(app), *operations(client)}:
        for each in FOREIGN if method != "OPTIONS" else []:
            for one in (client, listed):
                response = one.open(path, method=method, headers={**headers, **each})
                assert response.status_code == 403, (method, path, each)
                assert method == "HEAD" or refused(response, "foreign_origin"), (method, path)
                assert not told(response)


@pytest.mark.usefixtures("_nobody_is_waited_for")
def test_who_follows_a_link_sees_the_answer_and_changes_nothing(app: Flask, client: FlaskClient) -> None:
    for method, path in {*routes(app), *operations(client)}:
        if method == "OPTIONS":
            continue
        response = client.open(path, method=method, headers=VISIT)
        was_refused = response.status_code == 403
        assert was_refused == (method not in ("GET", "HEAD")), (method, path)
        assert not told(response)
        response.close()


def test_no_route_answers_under_a_foreign_name(app: Flask, client: FlaskClient) -> None:
    for method, path in routes(app):
        response = client.open(path, method=method, headers={"Host": "evil.example"})
        assert response.status_code == 403, (method, path)
        assert method == "HEAD" or refused(response, "unknown_host"), (method, path)


@pytest.mark.usefixtures("_nobody_is_waited_for")
def test_a_listed_page_may_use_every_operation(world: World, client: FlaskClient) -> None:
    listed = client_of(world, cors_origins=(APP,))
    for method, path in operations(client):
        for headers in ({}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}):
            asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
            preflight = listed.options(path, headers={"Origin": APP, **asks, **headers})
            assert preflight.status_code == 204
            assert method in preflight.headers["Access-Control-Allow-Methods"].split(", "), (method, path)
            assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
            response = listed.open(path, method=method, headers={"Origin": APP, **headers}, json={})
            assert response.headers["Access-Control-Allow-Origin"] == APP, (method, path)
            assert response.status_code != 403 or not refused(response, "foreign_origin"), (method, path)
            response.close()


@pytest.mark.usefixtures("_nobody_is_waited_for")
def test_every_answer_tells_a_browser_what_it_may_not_do(app: Flask, client: FlaskClient) -> None:
    for method, path in {*routes(app), *operations(client), ("GET", "/nowhere"), ("PUT", "/v1/threads")}:
        for headers in ({}, {"Origin": EVIL}, {"Host": "evil.example"}):
            with client.open(path, method=method, headers=headers) as response:
                assert_guarded(response.headers)
                assert response.vary.as_set() >= {"origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"}


def assert_guarded(headers: Any) -> None:
    policies = headers.getlist("Content-Security-Policy")
    assert len(policies) == 1
    policy = dict(part.strip().partition(" ")[::2] for part in policies[0].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in policies[0]
    assert "script-src" not in policy or "sandbox" not in policy  # the documentation alone runs anything
    assert headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert headers.getlist("X-Frame-Options") == ["DENY"]
    assert headers.getlist("Referrer-Policy") == ["no-referrer"]
    assert headers.getlist("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert headers.getlist("Cross-Origin-Opener-Policy") == ["same-origin"]
    assert len(headers.getlist("Cache-Control")) == 1


@pytest.mark.parametrize(
    ("path", "kept"),
    [("/v1/threads", "no-store"), ("/nowhere", "no-store"), ("/docs/assets/docs.js", "public, max-age=86400")],
)
def test_what_a_browser_keeps(client: FlaskClient, path: str, kept: str) -> None:
    with client.get(path) as response:
        assert response.headers["Cache-Control"] == kept


def test_nothing_is_changed_by_what_is_refused(client: FlaskClient) -> None:
    before = client.get("/v1/threads").json
    assert refused(client.post("/v1/threads", headers={"Origin": EVIL}), "foreign_origin")
    form = {"purpose": "assistants", "file": (io.BytesIO(b"x"), "a.txt")}
    assert refused(client.post("/v1/files", data=form, headers={"Origin": EVIL}), "foreign_origin")
    assert client.get("/v1/threads").json == before
    assert client.get("/v1/files").json["data"] == []  # type: ignore[index]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1337",
        "LocalHost.",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]",
        "[::1]:1337",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:80",
        "",
    ],
)
def test_loopback_is_always_known(client: FlaskClient, host: str) -> None:
    assert client.get("/v1/threads", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:1337",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "192.168.1.5",
        "0.0.0.0",
        "[::]",
        "2130706433",
        "127.1",
        "[::1",
        "::1",
        "a b",
        "localhost:x",
        "localhost,evil",
    ],
)
def test_other_names_are_refused(client: FlaskClient, host: str) -> None:
    response = client.get("/v1/threads", headers={"Host": host})
    assert refused(response, "unknown_host")
    assert "JANFLASK_ALLOWED_HOSTS" in response.json["error"]["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("settings", "known", "unknown"),
    [
        ({"host": "192.168.1.5"}, ["192.168.1.5:1337", "localhost"], ["192.168.1.6", "box.lan"]),
        ({"host": "box.lan"}, ["box.lan", "BOX.lan.:80"], ["other.lan"]),
        ({"host": "0.0.0.0"}, ["192.168.1.5", "[fe80::1]:1337", "0.0.0.0:1"], ["box.lan", "evil.example"]),
        ({"host": "::"}, ["192.168.1.5", "[2001:db8::1]"], ["box.lan"]),
        ({"allowed_hosts": ("box.lan",)}, ["box.lan:1337"], ["x.box.lan", "lan"]),
        ({"allowed_hosts": ("*.box.lan",)}, ["a.box.lan", "a.b.box.lan"], ["box.lan", "evilbox.lan"]),
        ({"allowed_hosts": ("10.0.0.1",)}, ["10.0.0.1"], ["10.0.0.2"]),
        ({"allowed_hosts": ("*",)}, ["evil.example", "what ever"], []),
    ],
)
def test_settings_add_names(world: World, settings: Any, known: list[str], unknown: list[str]) -> None:
    client = client_of(world, **settings)
    assert [client.get("/v1/threads", headers={"Host": host}).status_code for host in known] == [200] * len(known)
    assert all(refused(client.get("/v1/threads", headers={"Host": host}), "unknown_host") for host in unknown)


def test_a_forwarded_name_counts_for_nothing(client: FlaskClient) -> None:
    headers = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
    assert refused(client.get("/v1/threads", headers={"Host": "evil.example", **headers}), "unknown_host")
    origin = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert refused(client.post("/v1/threads", headers=origin), "foreign_origin")


# --- origins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:80"},
        {"Host": "localhost:1337", "Origin": "http://localhost:1337"},
        {"Host": "LOCALHOST:1337", "Origin": "http://localhost:1337"},
        {"Host": "[::1]:1337", "Origin": "http://[::1]:1337"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_own_pages_and_other_programs_may_change_things(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://localhost"},  # another scheme
        {"Origin": "http://localhost:3000"},  # another port
        {"Origin": "http://127.0.0.1"},  # another name
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost, https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "localhost"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-origin"},
        {"Host": "", "Origin": "http://localhost"},
        {"Host": "", "Origin": "null"},  # neither has an origin, which does not make them one
        {"Host": "", "Origin": "file://"},
    ],
)
def test_other_pages_may_not(client: FlaskClient, headers: dict[str, str]) -> None:
    assert refused(client.post("/v1/threads", headers=headers), "foreign_origin")
    response = client.get("/v1/threads", headers=headers)
    assert refused(response, "foreign_origin")
    assert not told(response)
    assert not told(client.options("/v1/threads", headers={**headers, "Access-Control-Request-Method": "GET"}))


def test_no_host_that_has_no_spelling_is_the_page_itself(world: World) -> None:
    client = client_of(world, allowed_hosts=("*",))
    assert refused(client.post("/v1/threads", headers={"Host": "what ever", "Origin": "null"}), "foreign_origin")


@pytest.mark.parametrize("headers", [{"Origin": EVIL}, {"Host": "evil.example"}, {"Content-Encoding": "br"}])
def test_a_refusal_has_the_id_that_the_client_chose(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.post("/v1/threads", json={}, headers={"X-Request-Id": "mine", **headers})
    assert response.status_code in (403, 415)
    assert response.headers["X-Request-Id"] == "mine"


def test_the_scheme_is_the_clients(client: FlaskClient) -> None:
    """A server that ends TLS tells of it; gunicorn believes the proxies that it trusts."""
    given: Any = {"headers": {"Host": "localhost", "Origin": "https://localhost"}}
    assert client.post("/v1/threads", **given, environ_overrides={"wsgi.url_scheme": "https"}).status_code == 200
    assert refused(client.post("/v1/threads", **given), "foreign_origin")


def test_a_listed_origin_reads_everything(world: World) -> None:
    client = client_of(world, cors_origins=(APP,))
    headers = {"Origin": APP}
    for response in (
        client.get("/v1/threads", headers=headers),
        client.post("/v1/threads", headers=headers),
        client.post("/v1/chat/completions", json=BODY, headers=headers),
        client.post("/v1/chat/completions", json={**BODY, "stream": True}, headers=headers),
        client.post("/v1/chat/completions", json={}, headers=headers),  # 400
        client.get("/v1/threads/none", headers=headers),  # 404 of ours
        client.get("/nowhere", headers=headers),  # 404 of Flask's
        client.put("/v1/threads", headers=headers),  # 405
        client.post("/v1/chat/completions", data="x", content_type="text/plain", headers=headers),  # 415
        client.get("/v1/threads", headers={**headers, "Host": "evil.example"}),  # 403
    ):
        assert response.headers["Access-Control-Allow-Origin"] == APP, response.status
        assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]
        assert "Origin" in response.vary
        assert "Access-Control-Allow-Credentials" not in response.headers
    plain = client.get("/v1/threads")
    assert "Origin" in plain.vary
    assert "Access-Control-Allow-Origin" not in plain.headers
    assert refused(client.get("/v1/threads", headers={"Origin": EVIL}), "foreign_origin")
    assert refused(client.post("/v1/threads", headers={"Origin": EVIL}), "foreign_origin")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_listed_page_sees_what_is_left_of_its_keys_limits(world: World, path: str) -> None:
    key = world.make_key(requests_per_minute=10, tokens_per_minute=10_000)
    headers = {"Origin": APP, **key.header}
    response = client_of(world, cors_origins=(APP,)).post(path, json={**BODY, "max_tokens": 8}, headers=headers)
    assert response.status_code == 200
    exposed = readable(response)
    sent = {name.lower() for name, _ in response.headers if "ratelimit" in name.lower()}
    assert len(sent) == 6
    assert sent <= exposed


def test_a_listed_page_sees_that_an_answer_is_given_again(world: World) -> None:
    client = client_of(world, cors_origins=(APP,))
    _, again = (client.post("/v1/threads", headers={"Origin": APP, "Idempotency-Key": "k"}) for _ in range(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "idempotent-replayed" in readable(again)


def test_an_unexpected_error_is_readable_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(world, cors_origins=(APP,))
    monkeypatch.setattr("janflask.services.threads.ThreadService.list", lambda *_: 1 / 0, raising=True)
    response = client.get("/v1/threads", headers={"Origin": APP})
    assert response.status_code == 500
    assert response.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize("path", ["/v1/threads", "/v1/chat/completions", "/v1/models/x/start", "/nowhere"])
def test_a_browser_asks_before_it_sends(world: World, path: str) -> None:
    client = client_of(world, cors_origins=(APP,))
    wanted = "authorization,content-type,x-stainless-retry-count"
    asks = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": wanted}
    answer = client.options(path, headers={"Origin": APP, **asks})
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Access-Control-Allow-Headers"] == wanted
    assert {"POST", "PUT", "PATCH", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert not told(client.options(path, headers={"Origin": EVIL, **asks}))


@pytest.mark.parametrize("network", ["Private", "Local"])
def test_a_browser_asks_whether_the_internet_may_reach_into_a_network(world: World, network: str) -> None:
    client = client_of(world, cors_origins=(APP,))
    asks = {"Access-Control-Request-Method": "POST", f"Access-Control-Request-{network}-Network": "true"}
    answer = client.options("/v1/threads", headers={"Origin": APP, **asks})
    assert told(answer, "Access-Control-Allow-")[f"Access-Control-Allow-{network}-Network"] == "true"
    assert len([name for name in told(answer) if name.endswith("-Network")]) == 1
    assert not told(client.options("/v1/threads", headers={"Origin": EVIL, **asks}))
    for headers in ({"Origin": APP}, {"Origin": APP, f"Access-Control-Request-{network}-Network": "true"}):
        assert not [name for name in told(client.get("/v1/threads", headers=headers)) if name.endswith("-Network")]


def test_every_origin_if_the_settings_say_so(world: World) -> None:
    client = client_of(world, cors_origins=("*",))
    for origin in (EVIL, "null"):
        response = client.post("/v1/threads", headers={"Origin": origin})
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    for headers in ({}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}):
        response = client.get("/v1/threads", headers=headers)
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == "*", "also what a cache may give to a page later"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert refused(client.post("/v1/threads", headers={"Host": "evil.example", "Origin": EVIL}), "unknown_host")


# --- spelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("https://App.Example.com", APP),
        ("https://app.example.com:443", APP),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_has_one_spelling(text: str, plain: str) -> None:
    assert plain_origin(text) == plain


@pytest.mark.parametrize("text", ["null", "example.com", "https://", "https://a/b", "https://a:b", "https://u@a", "*"])
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError):
        plain_origin(text)


@pytest.mark.parametrize("text", ["", ".", "a..b", "a/b", "a:1", "[localhost]", "[127.0.0.1", "-a", "ä"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError):
        plain_host(text)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("allowed_hosts", " Box.lan., *.example.com ,[::1], * ", ("box.lan", "*.example.com", "::1", "*")),
        ("cors_origins", "https://APP.example.com:443, *", (APP, "*")),
        ("cors_origins", "", ()),
    ],
)
def test_the_settings(name: str, text: str, value: tuple[str, ...]) -> None:
    settings = Settings.from_env({f"JANFLASK_{name.upper()}": text})
    assert getattr(settings, name) == value
    assert getattr(Settings.from_env(settings.to_env()), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("allowed_hosts", "http://box.lan"),
        ("allowed_hosts", "box.lan:80"),
        ("allowed_hosts", "*lan"),
        ("cors_origins", "null"),
        ("cors_origins", "app.example.com"),
        ("cors_origins", "https://a.com/x"),
    ],
)
def test_settings_that_are_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"JANFLASK_{name.upper()}"):
        Settings.from_env({f"JANFLASK_{name.upper()}": text})
