"""``Idempotency-Key``: sent again, a request has no second effect and the same answer."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from janflask import create_app
from janflask.access import once
from janflask.access.once import Answer, Held, Once
from janflask.errors import IdempotencyKeyInUseError, IdempotencyOutcomeUnknownError
from janflask.files.disk import Disk
from tests.unit.api.conftest import World
from tests.unit.api.running import running

HEADER = "Idempotency-Key"


@pytest.fixture
def keys(world: World) -> Once:
    return Once(world.settings.idempotency_dir, Disk(durable=False))


def threads(client: FlaskClient, **headers: str) -> int:
    found = client.get("/v1/threads", headers=headers).json
    assert found is not None
    return len(found)


def make(client: FlaskClient, title: str = "x", key: str = "k", **headers: str) -> TestResponse:
    return client.post("/v1/threads", json={"title": title}, headers={HEADER: key, **headers})


def code(response: TestResponse) -> tuple[int, str]:
    assert response.json is not None
    return response.status_code, response.json["error"]["code"]


def test_the_same_again_is_the_same_answer(client: FlaskClient) -> None:
    first, second, third = make(client), make(client), make(client)
    assert first.status_code == 200
    assert first.data == second.data == third.data
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert threads(client) == 1


def test_it_outlives_the_process(client: FlaskClient, world: World) -> None:
    first = make(client)
    again = create_app(world.settings).test_client()
    assert make(again).data == first.data
    assert threads(again) == 1


def test_another_request_with_the_key_is_refused(client: FlaskClient) -> None:
    first = make(client)
    assert code(make(client, "y")) == (422, "idempotency_key_reused")
    other = client.post("/v1/assistants", json={"name": "x", "model": "tiny"}, headers={HEADER: "k"})
    assert code(other) == (422, "idempotency_key_reused")
    assert code(client.post("/v1/threads?x=1", json={"title": "x"}, headers={HEADER: "k"}))[0] == 422
    assert make(client, "y", "another").status_code == 200
    assert make(client).data == first.data
    assert threads(client) == 2


def test_what_was_refused_may_be_sent_again(client: FlaskClient) -> None:
    headers = {HEADER: "k"}
    assert client.post("/v1/threads", json={"title": 7}, headers=headers).status_code == 400
    assert client.post("/v1/threads", data=b"{", content_type="application/json", headers=headers).status_code == 400
    assert client.post("/v1/threads/none/messages", json={}, headers=headers).status_code in (400, 404)
    assert make(client).status_code == 200


def test_while_it_is_under_way_the_same_waits(client: FlaskClient, keys: Once) -> None:
    held = keys.begin(None, "k")
    assert isinstance(held, Held)
    response = make(client)
    assert code(response) == (409, "idempotency_key_in_use")
    assert response.headers["Retry-After"] == "1"
    held.forget()
    assert make(client).status_code == 200


def test_one_that_was_cut_off_is_not_done_again(client: FlaskClient, keys: Once) -> None:
    held = keys.begin(None, "k")
    assert isinstance(held, Held)
    held.leave()  # as the end of its process
    assert code(make(client)) == (409, "idempotency_outcome_unknown")
    assert threads(client) == 0


def test_each_caller_has_keys_of_its_own(client: FlaskClient, world: World) -> None:
    sent = [world.make_key().header for _ in range(2)]
    first, second = (make(client, **headers) for headers in sent)
    assert first.status_code == second.status_code == 200
    assert first.data != second.data
    assert make(client, **sent[0]).data == first.data


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\xe9", "a\tb"])
def test_keys_that_are_none(client: FlaskClient, key: str) -> None:
    response = make(client, key=key)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == HEADER
    assert threads(client) == 0


def upload(client: FlaskClient, content: bytes, boundary: str, **headers: str) -> TestResponse:
    lines = [
        f"--{boundary}",
        'Content-Disposition: form-data; name="file"; filename="a.txt"',
        "",
        content.decode("latin-1"),
        f"--{boundary}",
        'Content-Disposition: form-data; name="purpose"',
        "",
        "assistants",
        f"--{boundary}--",
        "",
    ]
    body = "\r\n".join(lines).encode("latin-1")
    media = f"multipart/form-data; boundary={boundary}"
    sent: Any = {"input_stream": io.BytesIO(body), "content_type": media, "content_length": len(body)}
    return client.post("/v1/files", **sent, headers={HEADER: "k", **headers})


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_an_upload_has_another_boundary_each_time(client: FlaskClient, size: int) -> None:
    content = os.urandom(size)
    first, second = upload(client, content, "abcdefgh" * 4), upload(client, content, "-------0123456")
    assert first.status_code == 200, first.data
    assert first.data == second.data
    assert second.headers["Idempotent-Replayed"] == "true"
    assert code(upload(client, content + b"x", "abcdefgh" * 4))[0] == 422
    found = client.get("/v1/files").json
    assert found is not None
    assert len(found["data"]) == 1


def test_a_thread_is_imported_once(client: FlaskClient) -> None:
    made = client.post("/v1/threads", json={"title": "x"}).json
    assert made is not None
    document = client.get(f"/v1/threads/{made['id']}/export").data
    sent: Any = {"data": document, "content_type": "application/json", "headers": {HEADER: "k"}}
    first, second = (client.post("/v1/threads/import", **sent) for _ in range(2))
    assert first.status_code == 200
    assert first.data == second.data
    assert threads(client) == 2


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}


def test_what_stores_nothing_takes_no_key(client: FlaskClient, world: World) -> None:
    for path, body in (
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", {"model": "tiny", "input": "x", "store": False}),
    ):
        first, second = (client.post(path, json=body, headers={HEADER: "k"}) for _ in range(2))
        assert first.status_code == second.status_code == 200, first.data
        assert "Idempotent-Replayed" not in second.headers
    assert not world.settings.idempotency_dir.exists()


@pytest.fixture
def app_with_runner(world: World) -> Iterator[Flask]:
    with running(world):
        yield create_app(world.settings)


@pytest.mark.parametrize("stream", [False, True])
def test_stored_answers_are_made_once(app_with_runner: Flask, stream: bool) -> None:
    client = app_with_runner.test_client()
    bodies = {"/v1/responses": {"model": "tiny", "input": "x"}, "/v1/chat/completions": {**CHAT, "store": True}}
    for path, body in bodies.items():
        sent: Any = {"json": {**body, "stream": stream}, "headers": {HEADER: path}}
        first = client.post(path, **sent)
        assert first.status_code == 200, first.data
        assert first.data  # to its end
        second = client.post(path, **sent)
        assert first.data == second.data
        assert first.headers["Content-Type"] == second.headers["Content-Type"]
        assert second.headers["Idempotent-Replayed"] == "true"
    found = client.get("/v1/chat/completions").json
    assert found is not None
    assert len(found["data"]) == 1


def test_a_stream_that_nobody_heard_to_its_end(app_with_runner: Flask) -> None:
    client = app_with_runner.test_client()
    sent: Any = {"json": {"model": "tiny", "input": "x", "stream": True}, "headers": {HEADER: "k"}}
    response = client.post("/v1/responses", **sent)
    next(iter(response.response))
    response.close()
    assert code(client.post("/v1/responses", **sent)) == (409, "idempotency_outcome_unknown")


def test_a_disk_that_is_full(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        assert code(make(client)) == (507, "insufficient_storage")
    assert threads(client) == 0
    assert make(client).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(once, "write_all", full)
        assert make(client, key="other").status_code == 200  # it is done; only its answer is not kept
    assert code(make(client, key="other")) == (409, "idempotency_outcome_unknown")
    assert threads(client) == 2


# --- the keys themselves ----------------------------------------------------------------------------------------------

ANSWER = Answer("asked", 200, [("Content-Type", "a/b")], b"body\nwith lines")


def done(keys: Once, key: str, owner: str | None = None, answer: Answer = ANSWER) -> None:
    held = keys.begin(owner, key)
    assert isinstance(held, Held)
    held.done(answer)


def test_of_many_at_once_one_goes_on(keys: Once) -> None:
    held: list[Held] = []
    refused: list[Exception] = []
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait()
        try:
            found = keys.begin("a", "k")
        except (IdempotencyKeyInUseError, IdempotencyOutcomeUnknownError) as error:
            refused.append(error)
        else:
            assert isinstance(found, Held)
            held.append(found)

    some = [threading.Thread(target=begin) for _ in range(8)]
    for thread in some:
        thread.start()
    for thread in some:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].done(ANSWER)
    assert keys.begin("a", "k") == ANSWER


def test_an_answer_is_kept_for_a_day(keys: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    done(keys, "k")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + once.AGE - 10)
    assert keys.begin(None, "k") == ANSWER
    monkeypatch.setattr(time, "time", lambda: now + once.AGE + 10)
    assert isinstance(keys.begin(None, "k"), Held)


def test_an_answer_that_is_too_large(keys: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_ANSWER", 10)
    done(keys, "k")
    found = keys.begin(None, "k")
    assert isinstance(found, Answer)
    assert found.body is None


@pytest.mark.parametrize("content", [b"{", b"\x00", b"{}", b'{"at": "x"}\n', b'{"at": 1e12, "status": "x"}\n'])
def test_a_damaged_file_is_of_a_request_that_was_cut_off(keys: Once, world: World, content: bytes) -> None:
    done(keys, "k")
    (path,) = world.settings.idempotency_dir.iterdir()
    path.write_bytes(content)
    with pytest.raises(IdempotencyOutcomeUnknownError):
        keys.begin(None, "k")


def test_the_oldest_of_a_caller_go(keys: Once, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MAX_KEYS", 5)
    for number in range(9):
        done(keys, str(number), "a")
        done(keys, str(number), "b") if number < 3 else None
        for path in world.settings.idempotency_dir.iterdir():
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    under_way = keys.begin("a", "new")
    assert isinstance(under_way, Held)
    keys._looked = -once._LOOK
    done(keys, "last", "c")
    left = [path.name.partition("-")[0] for path in world.settings.idempotency_dir.iterdir()]
    assert sorted(left.count(owner) for owner in set(left)) == [1, 3, 5]
    assert keys.begin("b", "0") == ANSWER
    assert keys.begin("a", "8") == ANSWER
    assert isinstance(keys.begin("a", "0"), Held)
    under_way.done(ANSWER)


def test_nothing_of_a_key_is_readable_on_the_disk(keys: Once, world: World) -> None:
    done(keys, "my-secret-key", "owner")
    (path,) = world.settings.idempotency_dir.iterdir()
    assert "secret" not in path.name
    assert path.stat().st_mode & 0o077 == 0
    assert world.settings.idempotency_dir.stat().st_mode & 0o077 == 0
