"""Packed bodies: unpacked with the limits on what comes out, or refused by name."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from tests.unit.api.conftest import World

THREAD = json.dumps({"title": "packed"}).encode()
MIB = 1 << 20


@pytest.fixture
def small(world: World) -> FlaskClient:
    return create_app(replace(world.settings, max_body_mb=1, max_upload_mb=2)).test_client()


def sent(
    client: FlaskClient, body: bytes, encoding: str, path: str = "/v1/threads", kind: str = "application/json"
) -> Any:
    return client.post(path, data=body, content_type=kind, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "x-gzip", "identity, gzip"])
def test_it_is_unpacked(small: FlaskClient, encoding: str) -> None:
    for body in (gzip.compress(THREAD), gzip.compress(THREAD[:7]) + gzip.compress(THREAD[7:])):
        response = sent(small, body, encoding)
        assert (response.status_code, response.json["title"]) == (200, "packed")


@pytest.mark.parametrize("encoding", ["", "identity", "identity, identity"])
def test_what_is_plain_stays_so(small: FlaskClient, encoding: str) -> None:
    assert sent(small, THREAD, encoding).json["title"] == "packed"


@pytest.mark.parametrize(
    "encoding", ["br", "deflate", "zstd", "compress", "gzip, gzip", "gzip, br", "aes128gcm", "x" * 999]
)
def test_other_codings_are_refused(small: FlaskClient, encoding: str) -> None:
    response = sent(small, gzip.compress(THREAD), encoding)
    assert (response.status_code, response.json["error"]["code"]) == (415, "unsupported_encoding")
    assert response.headers["Accept-Encoding"] == "gzip"
    assert small.get("/v1/threads").json == []


@pytest.mark.parametrize(
    "body",
    [THREAD, gzip.compress(THREAD)[:-4], gzip.compress(THREAD) + b"junk", gzip.compress(THREAD)[:-8] + b"\0" * 8],
    ids=["plain", "cut", "more", "another sum"],
)
def test_what_is_not_whole_is_refused(small: FlaskClient, body: bytes) -> None:
    response = sent(small, body, "gzip")
    assert (response.status_code, response.json["error"]["code"]) == (400, "invalid_encoding")
    assert small.get("/v1/threads").json == []


@pytest.mark.parametrize(
    "plain", [b'{"title": "' + b"x" * MIB + b'"}', THREAD + b" " * MIB], ids=["cut in a text", "cut behind its end"]
)
def test_the_limit_is_on_what_comes_out(small: FlaskClient, plain: bytes) -> None:
    assert sent(small, gzip.compress(plain), "gzip").status_code == 413
    assert small.get("/v1/threads").json == []


def test_nothing_out_of_much_is_too_much(small: FlaskClient) -> None:
    assert sent(small, gzip.compress(b"") * 100_000, "gzip").status_code == 413


def test_files_and_archives_too(small: FlaskClient) -> None:
    head = b'--f\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b'\r\n--f\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--f--\r\n'
    form: Any = {"encoding": "gzip", "path": "/v1/files", "kind": "multipart/form-data; boundary=f"}
    assert sent(small, gzip.compress(head + b"x" * MIB + tail), **form).json["bytes"] == MIB
    assert sent(small, gzip.compress(head + b"x" * (4 * MIB) + tail), **form).status_code == 413
    kept = small.get("/v1/threads/export").data
    archive: Any = {"encoding": "gzip", "path": "/v1/threads/import", "kind": "application/zip"}
    assert sent(small, gzip.compress(kept), **archive).json["object"] == "thread.import"
    assert sent(small, gzip.compress(kept + b"\0" * (2 * MIB)), **archive).status_code == 413
    assert len(small.get("/v1/files").json["data"]) == 1  # type: ignore[index]


def test_what_has_no_body_is_not_packed(small: FlaskClient) -> None:
    assert small.get("/v1/threads", headers={"Content-Encoding": "br"}).status_code == 200
    assert sent(small, b"", "br").status_code == 200
    assert sent(small, THREAD, "br", path="/nowhere").status_code == 404
