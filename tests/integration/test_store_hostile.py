"""Ids, files and bodies that mean harm: a 4xx with the error object, and nothing outside the data folder is touched."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from janflask import create_app
from tests.e2e.server import LIMIT, Server, serving
from tests.integration.store_records import settings

HELLO = {"role": "user", "content": "hello"}


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about every entry that a stranger's hand would change."""
    entries = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        entries[str(path)] = (about.st_ino, about.st_mode, about.st_nlink, about.st_size, about.st_mtime_ns, content)
    return entries


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that is none of the server's business, which looks as much as possible like a thread; unchanged."""
    folder = tmp_path / "outside"
    (folder / "files").mkdir(parents=True)
    thread = {"id": "outside", "title": "secret", "created": 1, "updated": 1, "assistants": []}
    message = {
        "id": "theirs",
        "thread_id": "outside",
        "role": "user",
        "metadata": {"x": "secret"},
        "created": 1,
        "status": "ready",
    }
    (folder / "thread.json").write_text(json.dumps(thread))
    (folder / "messages.jsonl").write_text(json.dumps(message) + "\n")
    (folder / "assistant.json").write_text('{"id": "outside", "name": "secret", "model": "*", "created_at": 1}')
    stored = {"id": "outside", "filename": "secret", "purpose": "assistants", "bytes": 6, "created": 1, "sha256": ""}
    (folder / "file.json").write_text(json.dumps(stored))
    (folder / "content").write_bytes(b"secret")
    (folder / "files" / "secret.txt").write_bytes(b"secret")
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before


@pytest.fixture
def data(tmp_path: Path, outside: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def client(data: Path) -> FlaskClient:
    return create_app(settings(data, runtime_dir=data.parent, max_message_mb=1)).test_client()


@pytest.fixture
def thread(client: FlaskClient) -> str:
    name: str = made(client.post("/v1/threads", json={"title": "mine", "messages": [HELLO]}))["id"]
    return name


def made(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json
    return body


def refused(answer: TestResponse, *statuses: int) -> dict[str, Any]:
    """The error object of a 4xx."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    assert not statuses or answer.status_code in statuses, (answer.status_code, answer.text[:500])
    assert answer.json is not None
    error: dict[str, Any] = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "secret" not in answer.text
    return error


# --- ids ------------------------------------------------------------------------------------------------------------

BAD_IDS = [
    "..",
    ".",
    ".hidden",
    "-x",
    "a b",
    "a\\b",
    "x" * 300,
    "x" * 129,
    "ü",
    "\udcff",
    "a\0b",
    "*",
    "~",
    "$HOME",
    "a:b",
]
RESERVED = ["export", "import", "con", "NUL", "aux.txt", "com1", "trailing."]
NAMED = [
    ("GET", "/v1/threads/{}"),
    ("POST", "/v1/threads/{}"),
    ("PATCH", "/v1/threads/{}"),
    ("DELETE", "/v1/threads/{}"),
    ("GET", "/v1/threads/{}/"),
    ("GET", "/v1/threads/{}/export"),
    ("GET", "/v1/threads/{}/assistants"),
    ("POST", "/v1/threads/{}/assistants/jan"),
    ("GET", "/v1/threads/{}/messages"),
    ("POST", "/v1/threads/{}/messages"),
    ("GET", "/v1/threads/{}/messages/m"),
    ("DELETE", "/v1/threads/{}/messages/m"),
    ("GET", "/v1/threads/{}/messages/m/files"),
    ("GET", "/v1/threads/THREAD/messages/{}"),
    ("POST", "/v1/threads/THREAD/messages/{}"),
    ("DELETE", "/v1/threads/THREAD/messages/{}"),
    ("GET", "/v1/threads/THREAD/messages/m/files/{}"),
    ("GET", "/v1/assistants/{}"),
    ("POST", "/v1/assistants/{}"),
    ("DELETE", "/v1/assistants/{}"),
    ("GET", "/v1/files/{}"),
    ("GET", "/v1/files/{}/content"),
    ("DELETE", "/v1/files/{}"),
]


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("method", "path"), NAMED)
def test_ids_that_are_none(client: FlaskClient, thread: str, data: Path, method: str, path: str) -> None:
    before = snapshot(data / "threads")
    body = {"json": HELLO} if method == "POST" else {"json": {"title": "x"}} if method == "PATCH" else {}
    for name in [*BAD_IDS, "../outside", "../../outside", f"{thread}/../../../outside", str(data.parent / "outside")]:
        place = path.replace("THREAD", thread).format(quoted(name))
        refused(client.open(place, method=method, **body), 404, 405)
    assert snapshot(data / "threads") == before


@pytest.mark.parametrize("kind", ["threads", "assistants"])
def test_ids_of_new_objects(client: FlaskClient, data: Path, kind: str) -> None:
    for name in [*BAD_IDS, *RESERVED, "", "../outside", "/etc", "a/b", 7, True, ["x"], {"x": 1}]:
        body = json.dumps({"id": name, "model": "*"})
        error = refused(client.post(f"/v1/{kind}", data=body, content_type="application/json"), 400)
        assert error["param"] == "id" or error["code"] == "invalid_json"
    assert made(client.post(f"/v1/{kind}", json={"id": "fine.id-1_2", "model": "*"}))["id"] == "fine.id-1_2"
    refused(client.post(f"/v1/{kind}", json={"id": "fine.id-1_2", "model": "*"}), 409)


def test_ids_inside_bodies_and_queries(client: FlaskClient, thread: str) -> None:
    for name in [*BAD_IDS, "../../outside/content", "no-such-file"]:
        for given in {"file_ids": [name]}, {"attachments": [{"file_id": name, "tools": []}]}:
            message = json.dumps({**HELLO, **given})
            answer = client.post(f"/v1/threads/{thread}/messages", data=message, content_type="application/json")
            refused(answer, 400)
    for place in "threads", f"threads/{thread}/messages", "assistants", "files":
        for cursor in "after", "before":
            for name in ["../outside", "no-such-id", "%00", "x" * 300]:
                error = refused(client.get(f"/v1/{place}?{cursor}={name}"), 400)
                assert error["param"] == cursor
    assert [message["content"][0]["text"]["value"] for message in messages(client, thread)] == ["hello"]


def messages(client: FlaskClient, thread: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = made(client.get(f"/v1/threads/{thread}/messages"))["data"]
    return listed


def test_names_of_uploads_lead_nowhere(client: FlaskClient, data: Path) -> None:
    for name in [
        "../../outside/content",
        "/etc/passwd",
        "..\\..\\x",
        "a\r\nSet-Cookie: x=1",
        '"; x="',
        "x" * 3000,
        "ü.txt",
    ]:
        form = {"file": (io.BytesIO(b"mine"), name), "purpose": "assistants"}
        answer = client.post("/v1/files", data=form, content_type="multipart/form-data")
        if answer.status_code != 200:
            refused(answer, 400, 413)
            continue
        with client.get(f"/v1/files/{made(answer)['id']}/content") as content:
            assert content.data == b"mine"
            assert "Set-Cookie" not in content.headers
            assert content.headers["X-Content-Type-Options"] == "nosniff"
            assert content.headers["Content-Disposition"].startswith("attachment")
    there = {path.name for path in data.parent.iterdir() if path.suffix != ".counts"}  # the server's own, of requests
    assert there == {"data", "outside"}


# --- symbolic links -------------------------------------------------------------------------------------------------


def plant(place: Path, target: Path) -> None:
    """A symbolic link where the store has, or would have, something of its own."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def every_request(client: FlaskClient, thread: str) -> list[TestResponse]:
    """All that can be asked of a thread, reading first, deleting last."""
    place = f"/v1/threads/{thread}"
    form = json.dumps({"object": "thread"})
    return [
        client.get(place),
        client.get(f"{place}/"),
        client.get(f"{place}/messages"),
        client.get(f"{place}/messages/theirs"),
        client.get(f"{place}/export"),
        client.get("/v1/threads/export"),
        client.get("/v1/threads?q=secre"),
        client.get("/v1/threads"),
        client.post(place, json={"title": "changed"}),
        client.post(place, json={"messages": [HELLO]}),
        client.post(f"{place}/assistants/jan", json={"instructions": "x"}),
        client.post(f"{place}/messages", json=HELLO),
        client.post(f"{place}/messages/theirs", json={"metadata": {"x": "y"}}),
        client.delete(f"{place}/messages/theirs"),
        client.post("/v1/threads/import", data=form, content_type="application/json"),
        client.delete(place),
    ]


LINKS: dict[str, tuple[str, str]] = {
    "the folder": ("", ""),
    "thread.json": ("thread.json", "thread.json"),
    "messages.jsonl": ("messages.jsonl", "messages.jsonl"),
    "files": ("files", "files"),
    "a file in files": ("files/secret.txt", "files/secret.txt"),
    "a name that is not there": ("messages.jsonl", "nothing"),
}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("link", LINKS)
def test_links_in_a_thread(
    client: FlaskClient, thread: str, data: Path, outside: Path, link: str, absolute: bool
) -> None:
    name, target = LINKS[link]
    place = data / "threads" / thread / name
    there = outside / target
    plant(place, there if absolute else Path(os.path.relpath(there, place.parent)))
    for answer in every_request(client, thread):
        with answer:
            assert answer.status_code < 500, (answer.request.path, answer.text)
            assert b"secret" not in answer.data, answer.request.path
            if answer.status_code >= 400:
                refused(answer)
    fresh = create_app(settings(data, runtime_dir=data.parent)).test_client()
    assert fresh.post("/v1/threads", json={"messages": [HELLO]}).status_code == 200, "the rest works"


def test_a_link_that_is_no_thread_is_left_out(client: FlaskClient, thread: str, data: Path, outside: Path) -> None:
    plant(data / "threads" / "planted", outside)
    assert [listed["id"] for listed in made_list(client.get("/v1/threads"))] == [thread]
    refused(client.get("/v1/threads/planted"), 404)
    refused(client.post("/v1/threads/planted/messages", json=HELLO), 404)
    refused(client.post("/v1/threads", json={"id": "planted"}), 409)
    refused(client.delete("/v1/threads/planted"), 404)
    assert (data / "threads" / "planted").is_symlink()


def made_list(answer: TestResponse) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    listed: list[dict[str, Any]] = answer.json
    return listed


@pytest.mark.parametrize("name", ["", "assistant.json"])
def test_links_among_assistants(client: FlaskClient, data: Path, outside: Path, name: str) -> None:
    made(client.post("/v1/assistants", json={"id": "mine", "model": "*", "name": "mine"}))
    plant(data / "assistants" / "mine" / name, outside / name)
    for answer in (
        client.get("/v1/assistants/mine"),
        client.get("/v1/assistants"),
        client.post("/v1/assistants/mine", json={"name": "changed"}),
        client.post("/v1/assistants", json={"id": "mine", "model": "*"}),
        client.delete("/v1/assistants/mine"),
    ):
        assert answer.status_code < 500, answer.text
        assert b"secret" not in answer.data


@pytest.mark.parametrize("name", ["", "file.json", "content"])
def test_links_among_uploads(client: FlaskClient, data: Path, outside: Path, name: str) -> None:
    form = {"file": (io.BytesIO(b"mine"), "mine.txt"), "purpose": "assistants"}
    file_id = made(client.post("/v1/files", data=form, content_type="multipart/form-data"))["id"]
    plant(data / "files" / file_id / name, outside / name)
    thread = made(client.post("/v1/threads", json={}))["id"]
    for answer in (
        client.get(f"/v1/files/{file_id}"),
        client.get(f"/v1/files/{file_id}/content"),
        client.get("/v1/files"),
        client.post(f"/v1/threads/{thread}/messages", json={**HELLO, "file_ids": [file_id]}),
        client.get(f"/v1/threads/{thread}/export"),
        client.delete(f"/v1/files/{file_id}"),
    ):
        with answer:
            assert answer.status_code < 500, (answer.request.path, answer.text)
            assert b"secret" not in answer.data


@pytest.mark.parametrize("special", ["fifo", "folder"])
@pytest.mark.parametrize("name", ["thread.json", "messages.jsonl"])
def test_what_is_no_plain_file(client: FlaskClient, thread: str, data: Path, name: str, special: str) -> None:
    place = data / "threads" / thread / name
    place.unlink()
    if special == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    for answer in every_request(client, thread):
        with answer:
            assert answer.status_code < 500, (answer.request.path, answer.text)


# --- bodies ---------------------------------------------------------------------------------------------------------


def nested(depth: int, start: str = "[", end: str = "]") -> str:
    return start * depth + "1" + end * depth


HOSTILE_JSON: dict[str, str | bytes] = {
    "no JSON": "{",
    "an array": "[]",
    "a number": "7",
    "a string": '"x"',
    "invalid UTF-8": b'{"role":"user","content":"\xff\xfe"}',
    "invalid UTF-8 in a key": b'{"\xc3\x28":1,"role":"user","content":7}',
    "a lone surrogate": '{"role":"user","content":"\\ud800"}',
    "a lone surrogate in metadata": '{"role":"user","content":"x","metadata":{"a":"\\udfff"}}',
    "NaN": '{"role":"user","content":"x","metadata":{"a":NaN}}',
    "infinity": '{"role":"user","content":"x","metadata":{"a":1e999}}',
    "deep metadata": f'{{"role":"user","content":"x","metadata":{{"a":{nested(100)}}}}}',
    "very deep metadata": f'{{"role":"user","content":"x","metadata":{{"a":{nested(100_000)}}}}}',
    "very deep objects": '{"role":"user","content":"x","metadata":' + nested(50_000, '{"a":', "}") + "}",
    "deep content": f'{{"role":"user","content":{nested(5_000)}}}',
    "wide metadata": json.dumps({"role": "user", "content": "x", "metadata": {str(n): "x" * 40 for n in range(4_000)}}),
    "a role that is none": '{"role":"system","content":"x"}',
    "a role of a wrong type": '{"role":1,"content":"x"}',
    "no content": '{"role":"user"}',
    "content of a wrong type": '{"role":"user","content":{"a":1}}',
    "parts of a wrong type": '{"role":"user","content":[1,2]}',
    "a part of no known type": '{"role":"user","content":[{"type":"smell"}]}',
    "a part without its text": '{"role":"user","content":[{"type":"text"}]}',
    "file_ids of a wrong type": '{"role":"user","content":"x","file_ids":"abc"}',
    "file_ids of numbers": '{"role":"user","content":"x","file_ids":[1]}',
    "attachments of a wrong type": '{"role":"user","content":"x","attachments":{"a":1}}',
    "metadata of a wrong type": '{"role":"user","content":"x","metadata":[1]}',
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_messages(client: FlaskClient, thread: str, data: Path, name: str) -> None:
    before = snapshot(data / "threads")
    for path in f"/v1/threads/{thread}/messages", f"/v1/threads/{thread}/messages/{messages(client, thread)[0]['id']}":
        answer = client.post(path, data=HOSTILE_JSON[name], content_type="application/json")
        if path.endswith("messages") or answer.status_code != 200:
            refused(answer, 400, 413)
            assert snapshot(data / "threads") == before


@pytest.mark.parametrize(
    "body",
    [
        {"title": 7},
        {"title": "\ud800"},
        {"title": "x" * 1_000_000},
        {"metadata": "x"},
        {"messages": {}},
        {"messages": [7]},
        {"messages": [HELLO, {"role": "user"}]},
        {"assistants": "jan"},
        {"assistants": [7]},
        {"assistants": [{}]},
        {"assistants": ["../jan"]},
        {"assistants": ["no-such-assistant"]},
        {"settings": {"no_such_setting": 1}},
        {"settings": []},
        {"parameters": {"temperature": "warm"}},
        {"parameters": {"no_such_parameter": 1}},
        {"tool_resources": 5},
        {"model_id": 5},
    ],
    ids=repr,
)
def test_hostile_threads(client: FlaskClient, thread: str, data: Path, body: dict[str, Any]) -> None:
    before = snapshot(data / "threads")
    text = json.dumps(body)
    refused(client.post("/v1/threads", data=text, content_type="application/json"), 400)
    refused(client.post(f"/v1/threads/{thread}", data=text, content_type="application/json"), 400)
    refused(client.patch(f"/v1/threads/{thread}", data=text, content_type="application/json"), 400)
    assert snapshot(data / "threads") == before


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=" + "9" * 400,
        "order=up",
        "after=",
        "before=%00",
    ],
)
def test_hostile_queries(client: FlaskClient, thread: str, query: str) -> None:
    for place in "threads", f"threads/{thread}/messages", "assistants":
        refused(client.get(f"/v1/{place}?{query}"), 400)


def test_integers_that_no_float_holds_come_back_as_they_were(client: FlaskClient, thread: str) -> None:
    huge = 10**17 + 1
    body = f'{{"role":"user","content":"x","metadata":{{"a":{huge}}}}}'
    answer = client.post(f"/v1/threads/{thread}/messages", data=body, content_type="application/json")
    made(answer)
    assert messages(client, thread)[0]["metadata"] == {"a": huge}
    for digits in 30, 400, 5000:
        body = f'{{"role":"user","content":"x","metadata":{{"a":{"9" * digits}}}}}'
        answer = client.post(f"/v1/threads/{thread}/messages", data=body, content_type="application/json")
        assert answer.status_code in (200, 400)
    assert client.get(f"/v1/threads/{thread}/messages").status_code == 200


def test_messages_that_are_too_large(client: FlaskClient, thread: str, data: Path) -> None:
    before = snapshot(data / "threads")
    for size in 1 << 20, 10_000_000:
        error = refused(client.post(f"/v1/threads/{thread}/messages", json={**HELLO, "content": "x" * size}), 413)
        assert error["code"] == "request_too_large"
        parts = [{"type": "text", "text": "x" * (size // 8)}] * 8
        refused(client.post(f"/v1/threads/{thread}/messages", json={**HELLO, "content": parts}), 413)
        refused(client.post("/v1/threads", json={"messages": [{**HELLO, "content": "x" * size}]}), 413)
    assert snapshot(data / "threads") == before
    made(client.post(f"/v1/threads/{thread}/messages", json={**HELLO, "content": "x" * 1_000_000}))


def test_bodies_that_are_no_json(client: FlaskClient, thread: str) -> None:
    for kind in "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml":
        refused(client.post(f"/v1/threads/{thread}/messages", data=json.dumps(HELLO), content_type=kind), 415)
    for kind in "application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300:
        refused(client.post("/v1/files", data=b"--x\r\n\r\n\0\0", content_type=kind), 400, 413, 415)


HOSTILE_IMPORTS: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"{",
    "an array": lambda: b"[]",
    "a string": lambda: b'"thread"',
    "a thread of a wrong type": lambda: b'{"thread":7,"messages":[]}',
    "messages of a wrong type": lambda: b'{"thread":{},"messages":7}',
    "a message of a wrong type": lambda: b'{"thread":{},"messages":[7]}',
    "very deep": lambda: (nested(100_000)).encode(),
    "invalid UTF-8": lambda: b'{"thread":{"title":"\xff"}}',
}


@pytest.mark.parametrize("name", HOSTILE_IMPORTS)
def test_hostile_imports(client: FlaskClient, thread: str, data: Path, name: str) -> None:
    before = snapshot(data / "threads")
    body = HOSTILE_IMPORTS[name]()
    refused(client.post("/v1/threads/import", data=body, content_type="application/json"), 400, 413)
    refused(client.post("/v1/threads/import", data=body, content_type="application/zip"), 400, 413)
    threads = data / "threads"
    assert {place: about[5] for place, about in snapshot(threads).items() if about[5]} == {
        place: about[5] for place, about in before.items() if about[5]
    }


# --- paths as they come over the wire -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server: what stands between the wire and the application is part of this."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "outside").mkdir()
    (folder / "outside" / "thread.json").write_text('{"id": "outside", "title": "secret"}')
    (folder / "outside" / "messages.jsonl").write_text("")
    with serving(folder / "data") as server:
        yield server


def raw(server: Server, method: str, path: bytes, body: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status, headers and body of the answer to a request whose path is sent just so."""
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % (method.encode(), path)
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as sock:
        sock.sendall(head + body)
        answer = b""
        while piece := sock.recv(1 << 16):
            answer += piece
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), start, content


RAW_NAMES = [
    b"..",
    b"../outside",
    b"../../outside",
    b"%2e%2e",
    b"%2e%2e%2foutside",
    b"..%2foutside",
    b"..%2f..%2foutside",
    b"%2e%2e%5coutside",
    b"..\\outside",
    b"....//outside",
    b"%252e%252e%252foutside",
    b"%00",
    b"a%00b",
    b"outside%00.json",
    b"%c0%ae%c0%ae%c0%afoutside",
    b"\xff\xfe",
    b"%ff%fe",
    b"%",
    b"%zz",
    b"x" * 300,
    b"a%0d%0aX-Injected:1",
    b";id",
    b"~root",
    b"con",
    b"NUL",
]


@pytest.mark.parametrize("name", RAW_NAMES, ids=lambda name: ascii(name[:40]))
def test_paths_over_the_wire(gunicorn: Server, name: bytes) -> None:
    watched = gunicorn.data_dir.parent / "outside"
    before = snapshot(watched)
    hello = json.dumps(HELLO).encode()
    for kind in b"threads", b"assistants", b"files":
        for method, action, body in (
            ("GET", b"", b""),
            ("DELETE", b"", b""),
            ("POST", b"", b'{"title":"x","name":"x"}'),
            ("GET", b"/content", b""),
            ("POST", b"/messages", hello),
            ("GET", b"/messages", b""),
        ):
            status, head, content = raw(gunicorn, method, b"/v1/" + kind + b"/" + name + action, body)
            assert 400 <= status < 500, (kind, method, action, status, content)
            assert b"secret" not in content
            assert b"\nX-Injected" not in head
    assert snapshot(watched) == before
    status, _, content = raw(gunicorn, "GET", b"/v1/threads/no-such-thread")
    assert (status, json.loads(content)["error"]["code"]) == (404, "not_found")
