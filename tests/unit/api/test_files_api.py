"""Uploaded files over HTTP: what is stored, what is refused, and how little a browser may do with what it downloads."""

from __future__ import annotations

import gc
import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai.types import FileObject
from werkzeug.test import TestResponse

from janflask import create_app
from janflask.services.files import IncomingFile
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.records import Message, Thread
from tests.unit.api.conftest import World

PATH = "/v1/files"
BOUNDARY = "frontier"


def upload(client: FlaskClient, content: bytes = b"hello", filename: str = "a.txt", purpose: str = "assistants") -> Any:
    response = client.post(PATH, data={"file": (io.BytesIO(content), filename), "purpose": purpose})
    assert response.status_code == 200, response.text
    FileObject.model_validate(response.json)
    return response.json


def part(disposition: str, content: bytes = b"hello", *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n"


PURPOSE = part('name="purpose"', b"assistants")
FILE = part('name="file"; filename="a.txt"')
END = f"--{BOUNDARY}--\r\n".encode()


def send(client: FlaskClient, body: bytes) -> TestResponse:
    return client.post(PATH, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}")


def stored_files(settings: Settings) -> set[str]:
    """Every file below the data folder's files/, whatever it is."""
    folder = settings.files_dir
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_refused(client: FlaskClient, world: World, body: bytes, status: int, param: str | None) -> str:
    before = stored_files(world.settings)
    response = send(client, body)
    assert response.status_code == status, response.text
    error = (response.json or {})["error"]
    assert error["param"] == param
    assert (client.get(PATH).json or {})["data"] == []
    assert stored_files(world.settings) == before
    message: str = error["message"]
    return message


def test_upload_and_download(client: FlaskClient) -> None:
    content = bytes(range(256)) * 1000
    earliest = int(time.time())
    file = upload(client, content, "data.bin", "user_data")
    file_id = file["id"]
    assert file_id.startswith("file-")
    assert earliest <= file["created_at"] <= time.time()
    assert file == {
        "id": file_id,
        "object": "file",
        "bytes": len(content),
        "created_at": file["created_at"],
        "filename": "data.bin",
        "purpose": "user_data",
        "status": "processed",
    }
    assert client.get(f"{PATH}/{file_id}").json == file
    assert client.get(PATH).json == {
        "object": "list",
        "data": [file],
        "first_id": file_id,
        "last_id": file_id,
        "has_more": False,
    }
    with client.get(f"{PATH}/{file_id}/content") as response:
        assert response.data == content
        assert response.headers["Content-Length"] == str(len(content))
        assert response.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'


@pytest.mark.parametrize("content", [b"", b"\r\n", b"x--frontier", b"\r\n--frontie", b"\r" * 200_000, b"a\n" * 100_000])
def test_contents_that_look_like_the_form(client: FlaskClient, content: bytes) -> None:
    response = send(client, part('name="file"; filename="a"', content) + PURPOSE + END)
    assert response.status_code == 200
    file_id = (response.json or {})["id"]
    with client.get(f"{PATH}/{file_id}/content") as download:
        assert download.data == content


def test_the_purpose_may_come_first_or_last_among_other_fields(client: FlaskClient) -> None:
    other = part('name="user"', b"somebody")
    for body in (PURPOSE + other + FILE, FILE + other + PURPOSE):
        assert send(client, body + END).status_code == 200


@pytest.mark.parametrize("purpose", ["assistants", "vision", "user_data", "batch", "fine-tune"])
def test_lists_by_purpose(client: FlaskClient, purpose: str) -> None:
    file = upload(client, purpose=purpose)
    other = upload(client, purpose="assistants" if purpose != "assistants" else "vision")
    assert (client.get(f"{PATH}?purpose={purpose}").json or {})["data"] == [file]
    assert (client.get(f"{PATH}?purpose=nothing").json or {})["data"] == []
    assert (client.get(f"{PATH}?order=asc").json or {})["data"] == [file, other]


def test_pages(client: FlaskClient) -> None:
    ids = [upload(client)["id"] for _ in range(4)][::-1]
    first = client.get(f"{PATH}?limit=3").json or {}
    assert ([file["id"] for file in first["data"]], first["has_more"]) == (ids[:3], True)
    rest = client.get(f"{PATH}?limit=3&after={first['last_id']}").json or {}
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[3:], False)
    assert client.get(f"{PATH}?limit=10000").status_code == 200
    for query in ("limit=10001", "limit=0", "order=x", "after=unknown"):
        assert client.get(f"{PATH}?{query}").status_code == 400


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (PURPOSE + END, "file", "no file"),
        (FILE + END, "purpose", "purpose"),
        (part('name="wrong"; filename="a.txt"') + PURPOSE + END, "file", "no file"),
        (part('name="file"', b"text") + PURPOSE + END, "file", "file name"),
        (FILE + FILE + PURPOSE + END, "file", "more than one"),
        (part('name="file"; filename=""') + PURPOSE + END, "file", "file name"),
        (part('name="file"; filename="dir/"') + PURPOSE + END, "file", "file name"),
        (part('name="file"; filename=".."') + PURPOSE + END, "file", "file name"),
        (part(f'name="file"; filename="{"a" * 256}"') + PURPOSE + END, "file", "255"),
        (FILE + part('name="purpose"', b"mischief") + END, "purpose", "user_data"),
        (FILE + part('name="purpose"', b"") + END, "purpose", "user_data"),
        (END, "file", "no file"),
        (b"", "file", "no file"),
        (b"no form at all", None, "complete"),
        (FILE + PURPOSE, None, "complete"),
        (FILE + PURPOSE[:-20], None, "complete"),
        (FILE[:-3], None, "complete"),
        (FILE + PURPOSE + part('no="name"', b"x") + END, None, "without a name"),
        (b"--frontier\r\nNo-Disposition: x\r\n\r\nhello\r\n" + END, None, "complete"),
        (
            b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="\xff"\r\n\r\nx\r\n' + END,
            None,
            "form",
        ),
    ],
)
def test_wrong_forms(client: FlaskClient, world: World, body: bytes, param: str | None, words: str) -> None:
    assert words in check_refused(client, world, body, 400, param)


@pytest.mark.parametrize(
    "body",
    [
        FILE + part('name="purpose"', b"x" * (1 << 20)) + END,
        FILE + part('name="x"', b"") * 50 + PURPOSE + END,
        FILE + part('name="purpose"', b"x", "X-Long: " + "y" * (1 << 20)) + END,
    ],
    ids=["long field", "many fields", "long header"],
)
def test_fields_beyond_their_limits(client: FlaskClient, world: World, body: bytes) -> None:
    check_refused(client, world, body, 413, None)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=frontier", None],
)
def test_bodies_of_another_type(client: FlaskClient, content_type: str | None) -> None:
    response = client.post(PATH, data=FILE + PURPOSE + END, content_type=content_type)
    assert response.status_code == 415
    assert "multipart/form-data" in (response.json or {})["error"]["message"]


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=ä"]
)
def test_forms_without_a_boundary(client: FlaskClient, content_type: str) -> None:
    response = client.post(PATH, data=FILE + PURPOSE + END, content_type=content_type)
    assert response.status_code == 400


def small(world: World) -> FlaskClient:
    """A client of an application that takes files of 1 MiB and other bodies of 1 MiB."""
    settings = Settings(
        data_dir=world.settings.data_dir, runtime_dir=world.settings.runtime_dir, max_upload_mb=1, max_body_mb=1
    )
    return create_app(settings).test_client()


def large(size: int) -> bytes:
    return part('name="file"; filename="a"', b"x" * size) + PURPOSE + END


def test_a_file_as_large_as_the_limit(world: World) -> None:
    assert (send(small(world), large(1 << 20)).json or {})["bytes"] == 1 << 20


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20], ids=["one byte", "much"])
def test_a_file_beyond_the_limit(world: World, size: int) -> None:
    body = large(size)
    assert "larger than 1 MiB" in check_refused(small(world), world, body, 413, "file")


def test_the_limit_for_files_is_not_that_for_other_bodies(client: FlaskClient, world: World) -> None:
    assert world.settings.max_body_mb < 40
    assert (send(client, large(40 << 20)).json or {})["bytes"] == 40 << 20
    response = small(world).post("/v1/assistants", json={"name": "x" * (2 << 20)})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("disposition", "stored"),
    [
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="..\\\\..\\\\boot.ini"', "boot.ini"),
        ('filename="C:\\\\temp\\\\a.txt"', "a.txt"),
        ('filename="/etc/passwd"', "passwd"),
        ("filename*=UTF-8''a%0D%0AX-Evil%3A%201.txt", "aX-Evil: 1.txt"),
        ("filename*=UTF-8''a%00b.txt", "ab.txt"),
        ("filename*=UTF-8''%E2%80%AEtxt.exe", "txt.exe"),
        ("filename*=UTF-8''%E2%80%A8line", "line"),
        ('filename="a;b=\\"c\\".txt"', 'a;b="c".txt'),
        ("filename*=UTF-8''na%C3%AFve%20%F0%9F%A6%89.txt", "naïve 🦉.txt"),
        ('filename="<script>alert(1)<script>.html"', "<script>alert(1)<script>.html"),
        ('filename="CON"', "CON"),
        ('filename=".hidden"', ".hidden"),
    ],
)
def test_hostile_names(client: FlaskClient, world: World, disposition: str, stored: str) -> None:
    response = send(client, part(f'name="file"; {disposition}') + PURPOSE + END)
    assert response.status_code == 200, response.text
    file = response.json or {}
    assert file["filename"] == stored
    with client.get(f"{PATH}/{file['id']}/content") as download:
        assert download.data == b"hello"
        assert "X-Evil" not in download.headers
        assert download.headers["Content-Disposition"].startswith("attachment; ")
        assert not set("\r\n\0") & set(download.headers["Content-Disposition"])
    assert {name.split("/")[0] for name in stored_files(world.settings) if not name.startswith(".")} == {file["id"]}


def test_a_name_beyond_ascii_in_the_download(client: FlaskClient) -> None:
    file_id = upload(client, filename="Übung 🦉.txt")["id"]
    with client.get(f"{PATH}/{file_id}/content") as download:
        disposition = download.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"Ubung .txt\"; filename*=UTF-8''%C3%9Cbung%20%F0%9F%A6%89.txt"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("a.png", "image/png"),
        ("a.JPG", "image/jpeg"),
        ("a.pdf", "application/pdf"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.mp3", "audio/mpeg"),
        ("a.html", "application/octet-stream"),
        ("a.svg", "application/octet-stream"),
        ("a.xhtml", "application/octet-stream"),
        ("a.js", "application/octet-stream"),
        ("a.xml", "application/octet-stream"),
        ("a.png.html", "application/octet-stream"),
        ("png", "application/octet-stream"),
    ],
)
def test_types_are_safe(client: FlaskClient, filename: str, content_type: str) -> None:
    """Whatever the sender says the type is."""
    body = part(f'name="file"; filename="{filename}"', b"<script>", "Content-Type: text/html")
    file_id = (send(client, body + PURPOSE + END).json or {})["id"]
    with client.get(f"{PATH}/{file_id}/content") as download:
        assert download.headers["Content-Type"] == content_type
        assert download.headers["X-Content-Type-Options"] == "nosniff"
        policy = download.headers["Content-Security-Policy"].split("; ")
        assert {"sandbox", "default-src 'none'"} <= set(policy)
        assert download.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("header", "status", "content", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("lines=1-2", 416, None, "bytes */10"),
        ("nonsense", 416, None, "bytes */10"),
    ],
)
def test_ranges(
    client: FlaskClient, header: str, status: int, content: bytes | None, content_range: str | None
) -> None:
    file_id = upload(client, b"0123456789")["id"]
    with client.get(f"{PATH}/{file_id}/content", headers={"Range": header}) as download:
        assert download.status_code == status
        assert download.headers.get("Content-Range") == content_range
        if content is not None:
            assert download.data == content
            assert download.headers["Accept-Ranges"] == "bytes"


def test_what_the_client_has_already(client: FlaskClient) -> None:
    file_id = upload(client)["id"]
    path = f"{PATH}/{file_id}/content"
    with client.get(path) as download:
        etag = download.headers["ETag"]
    with client.get(path, headers={"If-None-Match": etag}) as same:
        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
    with client.get(path, headers={"If-None-Match": '"other"'}) as other:
        assert other.status_code == 200
    with client.get(path, headers={"Range": "bytes=1-2", "If-Range": '"other"'}) as whole:
        assert (whole.status_code, whole.data) == (200, b"hello")
    with client.head(path) as head:
        assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", "5")


def test_every_download_closes_its_file(client: FlaskClient) -> None:
    """An unclosed one would end in a ResourceWarning, which is an error here."""
    file_id = upload(client)["id"]
    for headers in ({}, {"Range": "bytes=1-2"}, {"Range": "bytes=99-"}, {"If-None-Match": "*"}):
        with client.get(f"{PATH}/{file_id}/content", headers=headers):
            pass
    with client.head(f"{PATH}/{file_id}/content"):
        pass
    gc.collect()


def test_deleting(client: FlaskClient) -> None:
    file_id = upload(client)["id"]
    response = client.delete(f"{PATH}/{file_id}")
    assert (response.status_code, response.json) == (200, {"id": file_id, "object": "file", "deleted": True})
    for method, path in (("GET", file_id), ("DELETE", file_id), ("GET", f"{file_id}/content")):
        assert client.open(f"{PATH}/{path}", method=method).status_code == 404


@pytest.mark.parametrize("file_id", ["nothing", "..", "%2e%2e", "a%2fb", "a" * 129, ".staging", "a%00", "ä"])
def test_ids_that_name_nothing(client: FlaskClient, file_id: str) -> None:
    for method, path in (("GET", file_id), ("DELETE", file_id), ("GET", f"{file_id}/content")):
        assert client.open(f"{PATH}/{path}", method=method).status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        lambda file_id: {"file_ids": (file_id,)},
        lambda file_id: {"attachments": ({"file_id": file_id, "tools": []},)},
        lambda file_id: {"content": ({"type": "image_file", "image_file": {"file_id": file_id}},)},
    ],
    ids=["file_ids", "attachment", "picture"],
)
def test_a_file_that_a_message_holds(client: FlaskClient, world: World, fields: Callable[[str], Any]) -> None:
    file_id = upload(client)["id"]
    repository = open_repository(world.settings)
    with repository.files.holding([file_id], "thread_1"):
        repository.threads.create(
            Thread(id="thread_1", created_ms=1, updated_ms=1),
            [Message(id="msg_1", thread_id="thread_1", created_ms=1, **fields(file_id))],
        )
    response = client.delete(f"{PATH}/{file_id}")
    assert response.status_code == 409
    assert "thread_1" in (response.json or {})["error"]["message"]
    assert client.get(f"{PATH}/{file_id}").status_code == 200
    repository.threads.delete_message("thread_1", "msg_1")
    assert client.delete(f"{PATH}/{file_id}").status_code == 200


def test_a_file_of_a_deleted_thread(client: FlaskClient, world: World) -> None:
    file_id = upload(client)["id"]
    repository = open_repository(world.settings)
    with repository.files.holding([file_id], "thread_1"):
        repository.threads.create(Thread(id="thread_1", created_ms=1, updated_ms=1))
    repository.threads.delete("thread_1")
    assert client.delete(f"{PATH}/{file_id}").status_code == 200


def test_a_content_that_was_cut_on_disk(app: Flask, world: World) -> None:
    client = app.test_client()
    file_id = upload(client)["id"]
    (world.settings.files_dir / file_id / "content").write_bytes(b"hel")
    response = client.get(f"{PATH}/{file_id}/content")
    assert response.status_code == 500
    assert (response.json or {})["error"]["code"] == "store_damaged"


def test_the_sdk(sdk: openai.OpenAI) -> None:
    made = [sdk.files.create(file=(f"{i}.txt", b"content %d" % i), purpose="assistants") for i in range(3)]
    assert [file.id for file in sdk.files.list(limit=2)] == [file.id for file in reversed(made)]
    assert sdk.files.retrieve(made[0].id) == made[0]
    assert sdk.files.content(made[1].id).read() == b"content 1"
    gone = sdk.files.delete(made[0].id)
    assert (gone.id, gone.deleted, gone.object) == (made[0].id, True, "file")
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(made[0].id)


def test_every_refused_upload_is_discarded_at_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when nothing refers to it any longer, which would clean up, too."""
    discarded: list[IncomingFile] = []
    discard = IncomingFile.discard
    monkeypatch.setattr(IncomingFile, "discard", lambda self: (discarded.append(self), discard(self))[1])
    for number, body in enumerate([FILE + END, FILE + FILE + PURPOSE + END, FILE[:-3]], start=1):
        assert send(client, body).status_code == 400
        assert len(discarded) == number
