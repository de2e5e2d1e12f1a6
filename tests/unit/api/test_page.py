"""What a browser gets at ``/``."""

from __future__ import annotations

import gzip
import re

import pytest
from flask.testing import FlaskClient

LINK = re.compile(r'(?:src|href)="\./([^"]+)"')


def test_the_page_and_its_files(client: FlaskClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.headers["Cache-Control"] == "no-cache"
    assert 'blocking="render"' in page.text  # no frame is drawn before there is something in it
    links = LINK.findall(page.text)
    assert {link.rpartition(".")[2] for link in links} == {"js", "css", "png"}
    for link in links:
        file = client.get(f"/{link}")
        assert file.status_code == 200
        assert file.content_type.split(";")[0] in {"text/javascript", "text/css", "image/png"}
        if link.startswith("assets/"):
            assert "immutable" in file.headers["Cache-Control"]


def test_its_policy_lets_nothing_else_in(client: FlaskClient) -> None:
    page = client.get("/")
    policy = dict(part.partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.findall(r"<script(?![^>]* src=)|<style| on\w+=| style=|javascript:|https?://", page.text)


def test_the_first_scripts_are_compiled_while_they_come(client: FlaskClient) -> None:
    scripts = [link for link in LINK.findall(client.get("/").text) if link.endswith(".js")]
    assert {link.partition("-")[0] for link in scripts} == {"assets/index", "assets/svelte"}
    for link in scripts:
        assert client.get(f"/{link}").text.startswith("//# allFunctionsCalledOnLoad\n"), link


def test_compressed_for_who_takes_it(client: FlaskClient) -> None:
    script = next(link for link in LINK.findall(client.get("/").text) if link.endswith(".js"))
    plain, packed = client.get(f"/{script}"), client.get(f"/{script}", headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert "accept-encoding" in packed.vary


def test_what_a_browser_has_is_not_sent_again(client: FlaskClient) -> None:
    tag = client.get("/").headers["ETag"]
    again = client.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/", headers={"If-None-Match": 'W/"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/assets/no.js", "/assets/../index.html", "/assets/%2e%2e/index.html", "/index.html"])
def test_nothing_else_is_there(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_below_a_proxys_path_its_address_ends_in_a_slash(client: FlaskClient) -> None:
    answer = client.get("/", environ_overrides={"SCRIPT_NAME": "/llm", "PATH_INFO": ""})
    assert (answer.status_code, answer.headers["Location"]) == (308, "/llm/")
