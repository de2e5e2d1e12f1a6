"""What proxies say of a request, and who is believed."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from janflask.api.plumbing.proxies import Trust
from janflask.errors import SettingsError
from janflask.processes.proxied import place, trusted_addresses
from janflask.settings import Settings
from tests.unit.api.conftest import World

HERE = ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("::ffff:127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("", "192.0.2.7", "192.0.2.7"),  # a Unix socket
        ("127.0.0.1", "203.0.113.1, 192.0.2.7", "192.0.2.7"),  # the client wrote the first itself
        ("127.0.0.1", "203.0.113.1, 192.0.2.7, 127.0.0.1", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "2001:DB8::7", "2001:db8::7"),
        ("127.0.0.1", "203.0.113.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.1,", "127.0.0.1"),
        ("198.51.100.9", "192.0.2.7", "198.51.100.9"),
        ("10.1.2.3", "192.0.2.7", "10.1.2.3"),
    ],
)
def test_who_sent_a_request(peer: str, forwarded: str, client: str) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}
    assert Trust(HERE).client_of(environ) == client


def test_a_chain_of_proxies() -> None:
    environ = {"REMOTE_ADDR": "10.1.2.3", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 192.0.2.7, 10.9.9.9"}
    assert Trust(("10.0.0.0/8",)).client_of(environ) == "192.0.2.7"
    assert Trust(("*",)).client_of(environ) == "1.1.1.1"
    assert Trust(()).client_of(environ) == "10.1.2.3"


def client_of(world: World, **settings: Any) -> FlaskClient:
    return create_app(replace(world.settings, **settings)).test_client()


def place_of(client: FlaskClient, **request: Any) -> str:
    """Where the server believes to be found."""
    document = client.get("/openapi.json", **request).json
    assert document is not None
    (server,) = document["servers"]
    return str(server["url"])


def test_a_prefix(world: World) -> None:
    client = client_of(world)
    headers = {"X-Forwarded-Prefix": "/llm/"}
    assert place_of(client, headers=headers) == "/llm"
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert place_of(client, headers={"X-Forwarded-Prefix": "/a/b"}) == "/a/b"
    beside = {"REMOTE_ADDR": "192.0.2.7"}
    assert place_of(client, headers=headers, environ_overrides=beside) == "/"


@pytest.mark.parametrize(
    "prefix", ["llm", "//evil.example", "/\\evil.example", "/a//b", "/..", "/a/../b", "/./a", "/a?b", "/", "/é", "/a b"]
)
def test_what_is_no_prefix(world: World, prefix: str) -> None:
    assert place_of(client_of(world), headers={"X-Forwarded-Prefix": prefix}) == "/"


def test_the_log_has_the_client(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(world)
    with caplog.at_level(logging.INFO, "janflask.api.plumbing.counting"):
        client.get("/livez", headers={"X-Forwarded-For": "192.0.2.7"}).close()
        beside = {"REMOTE_ADDR": "198.51.100.9"}
        client.get("/livez", headers={"X-Forwarded-For": "192.0.2.7"}, environ_overrides=beside).close()
    told = [record.fields["client"] for record in caplog.records if hasattr(record, "fields")]
    assert told == ["192.0.2.7", "198.51.100.9"]


def trusted(text: str | None, other: str | None = None) -> tuple[str, ...]:
    named = {"JANFLASK_TRUSTED_PROXIES": text, "FORWARDED_ALLOW_IPS": other}
    return Settings.from_env({name: value for name, value in named.items() if value is not None}).trusted_proxies


def test_the_setting() -> None:
    assert trusted(None) == HERE
    assert trusted("10.0.0.0/8, 192.0.2.7/32,2001:DB8::1") == ("10.0.0.0/8", "192.0.2.7", "2001:db8::1")
    assert trusted("*") == ("*",)
    assert trusted("none") == trusted("") == ()
    assert trusted(None, "10.1.1.1") == ("10.1.1.1",), "gunicorn's own name for it"
    assert trusted("none", "10.1.1.1") == ()
    for wrong in ("proxy.example.com", "10.0.0.1/8", "10.0.0.0/33"):
        with pytest.raises(SettingsError, match="JANFLASK_TRUSTED_PROXIES"):
            trusted(wrong)
        with pytest.raises(SettingsError, match=r"^FORWARDED_ALLOW_IPS"):
            trusted(None, wrong)


@pytest.mark.parametrize("text", ["none", "*", "127.0.0.1,::1", "10.0.0.0/8"])
def test_processes_are_given_the_same(text: str) -> None:
    settings = Settings.from_env({"JANFLASK_TRUSTED_PROXIES": text, "FORWARDED_ALLOW_IPS": "192.0.2.1"})
    assert Settings.from_env(settings.to_env() | {"FORWARDED_ALLOW_IPS": "192.0.2.1"}) == settings


def test_gunicorn_believes_the_same() -> None:
    assert trusted_addresses(Settings.from_env({})) == "127.0.0.1,::1,::ffff:127.0.0.1/128"
    assert trusted_addresses(Settings.from_env({"JANFLASK_TRUSTED_PROXIES": "10.0.0.0/8"})) == (
        "10.0.0.0/8,::ffff:10.0.0.0/104"
    )
    assert trusted_addresses(Settings.from_env({"JANFLASK_TRUSTED_PROXIES": "*"})) == "*"


@pytest.mark.parametrize(
    ("prefix", "path", "is_below"),
    [
        ("/llm", "/llm/v1/models", True),
        ("/llm", "/llm", True),
        ("/llm/", "/llm/v1/models", True),
        ("/llm", "/llmx/v1", False),
        ("/llm", "/livez", False),
    ],
)
def test_paths_that_are_not_below_the_prefix(prefix: str, path: str, is_below: bool) -> None:
    given = [("HOST", "a"), ("SCRIPT_NAME", prefix)]
    request = SimpleNamespace(headers=list(given), path=path)
    place(request)
    assert request.headers == (given if is_below else [("HOST", "a"), ("SCRIPT_NAME", "")])
