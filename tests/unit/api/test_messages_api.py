"""The messages of threads over HTTP, on the memory repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types.beta.threads import Message as SdkMessage
from openai.types.beta.threads import MessageDeleted as SdkDeleted

from janflask.storage.base import Repository
from janflask.storage.records import Message
from tests.unit.api.stored import Store, make_store, refused


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path, max_message_mb=1)


@pytest.fixture
def client(store: Store) -> FlaskClient:
    return store.client


@pytest.fixture
def repository(store: Store) -> Repository:
    return store.repository


@pytest.fixture
def path(client: FlaskClient) -> str:
    """The messages of a new thread."""
    return f"/v1/threads/{client.post('/v1/threads').json['id']}/messages"  # type: ignore[index]


def say(client: FlaskClient, path: str, **fields: Any) -> dict[str, Any]:
    response = client.post(path, json={"role": "user", "content": "Hi", **fields})
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json  # type: ignore[assignment]
    SdkMessage.model_validate({**message, "metadata": {}}, strict=True)  # ours may hold more than strings
    return message


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def values(page: Any) -> list[str]:
    return [message["content"][0]["text"]["value"] for message in page["data"]]


def test_a_message_of_text(client: FlaskClient, path: str) -> None:
    message = say(client, path, content="Hello", metadata={"a": {"b": [1]}}, unknown=1)
    assert message["id"].startswith("msg_")
    assert message["created_at"] > 1_700_000_000
    assert message["thread_id"] in path
    assert message == {
        "id": message["id"],
        "object": "thread.message",
        "created_at": message["created_at"],
        "thread_id": message["thread_id"],
        "role": "user",
        "content": [text("Hello")],
        "file_ids": [],
        "attachments": [],
        "assistant_id": None,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": None,
        "incomplete_at": None,
        "metadata": {"a": {"b": [1]}},
    }
    assert client.get(f"{path}/{message['id']}").json == message


def test_the_parts_of_a_message(client: FlaskClient, store: Store, path: str) -> None:
    picture = store.upload("a.png", "vision")
    annotations = [
        {"type": "file_path", "text": "as", "start_index": 0, "end_index": 2, "file_path": {"file_id": picture}}
    ]
    message = say(
        client,
        path,
        role="assistant",
        content=[
            {"type": "text", "text": "as the SDK sends it"},
            {"type": "text", "text": {"value": "as it is answered", "annotations": annotations}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
            {"type": "image_file", "image_file": {"file_id": picture}},
        ],
    )
    assert message["content"] == [
        text("as the SDK sends it"),
        {"type": "text", "text": {"value": "as it is answered", "annotations": annotations}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_file", "image_file": {"file_id": picture, "detail": "auto"}},
    ]
    assert message["file_ids"] == []
    listed = client.get(f"{path}/{message['id']}/files").json
    assert listed is not None
    assert [item["id"] for item in listed["data"]] == [picture]


def test_files_are_told_in_both_ways(client: FlaskClient, store: Store, path: str) -> None:
    one, two = store.upload("1.txt"), store.upload("2.txt")
    attachment = {"file_id": two, "tools": [{"type": "file_search"}]}
    message = say(client, path, file_ids=[one, one], attachments=[attachment])
    assert message["file_ids"] == [one, two]
    assert message["attachments"] == [attachment, {"file_id": one, "tools": []}]


def test_the_files_of_a_message(client: FlaskClient, store: Store, path: str) -> None:
    files = [store.upload(f"{number}.txt") for number in range(3)]
    message = say(client, path, file_ids=files)
    folder = f"{path}/{message['id']}/files"
    page = client.get(f"{folder}?order=asc&limit=2").json
    assert page is not None
    assert [item["id"] for item in page["data"]] == files[:2]
    assert page["data"][0] == {
        "id": files[0],
        "object": "thread.message.file",
        "created_at": message["created_at"],
        "message_id": message["id"],
    }
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", *files[:2], True)
    rest = client.get(f"{folder}?order=asc&after={files[1]}").json
    assert rest is not None
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (files[2:], False)
    assert client.get(f"{folder}/{files[0]}").json == page["data"][0]
    refused(client.get(f"{folder}/{store.upload('other.txt')}"), 404, "file_id")
    refused(client.get(f"{folder}?after=nothing"), 400, "after")
    assert client.get(f"{path}/{say(client, path)['id']}/files").json == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"role": "system"}, "role"),
        ({"role": None}, "role"),
        ({"role": ["user"]}, "role"),
        ({"content": ""}, "content"),
        ({"content": []}, "content"),
        ({"content": None}, "content"),
        ({"content": 5}, "content"),
        ({"content": {"type": "text"}}, "content"),
        ({"content": ["x"]}, "content.0"),
        ({"content": [text("a"), text("")]}, "content.1.text"),
        ({"content": [{"type": "text", "text": {"value": 3}}]}, "content.0.text"),
        ({"content": [{"type": "text", "text": {"value": "a", "annotations": 3}}]}, "content.0.text"),
        ({"content": [{"type": "text", "text": {"value": "a", "annotations": [3]}}]}, "content.0.text.0"),
        ({"content": [{"type": ["text"]}]}, "content.0.type"),
        ({"content": [{"type": "video"}]}, "content.0.type"),
        ({"content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, "content.0.image_url.url"),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "https://a", "detail": []}}]},
            "content.0.image_url.detail",
        ),
        ({"content": [{"type": "image_file", "image_file": "x"}]}, "content.0.image_file.file_id"),
        ({"content": [{"type": "image_file", "image_file": {"file_id": "file-none"}}]}, "content"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"file_ids": [3]}, "file_ids.0"),
        ({"file_ids": ["file-none"]}, "file_ids"),
        ({"file_ids": ["../../etc/passwd"]}, "file_ids"),
        ({"file_ids": ["x"] * 101}, "file_ids"),
        ({"attachments": [{"tools": []}]}, "attachments.0.file_id"),
        ({"attachments": [{"file_id": "x", "tools": [{"type": "shell"}]}]}, "attachments.0.tools.0.type"),
        ({"attachments": [{"file_id": "file-none"}]}, "file_ids"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 70_000}}, "metadata"),
    ],
)
def test_a_message_that_is_refused(client: FlaskClient, path: str, fields: dict[str, Any], param: str) -> None:
    refused(client.post(path, json={"role": "user", "content": "Hi", **fields}), 400, param)
    assert client.get(path).json["data"] == []  # type: ignore[index]


def test_a_body_that_is_refused(client: FlaskClient, path: str) -> None:
    refused(client.post(path), 400)
    refused(client.post(path, json=[]), 400)
    refused(client.post(path, data=b'{"role":', content_type="application/json"), 400)
    refused(client.post(path, data=b'{"role":"user","content":"\xff"}', content_type="application/json"), 400)
    refused(client.post(path, data="role=user", content_type="application/x-www-form-urlencoded"), 415)
    deep = b'{"role":"user","content":"Hi","metadata":' + b'{"a":' * 33 + b"1" + b"}" * 34
    refused(client.post(path, data=deep, content_type="application/json"), 400, "metadata")
    refused(client.post(path, data=b"[" * 100_000, content_type="application/json"), 400)


def test_the_largest_message(client: FlaskClient, path: str) -> None:
    assert say(client, path, content="x" * ((1 << 20) - 200))
    refused(client.post(path, json={"role": "user", "content": "x" * (1 << 20)}), 413, "content")
    message = say(client, path)
    refused(client.post(f"{path}/{message['id']}", json={"content": "x" * (1 << 20)}), 413, "content")
    assert client.get(f"{path}/{message['id']}").json == message


@pytest.mark.parametrize("method", ["post", "patch"])
def test_a_message_is_changed_in_its_place(client: FlaskClient, path: str, method: str) -> None:
    one, two, three = (say(client, path, content=word, metadata={"n": word}) for word in ("one", "two", "three"))
    change = getattr(client, method)
    changed = change(f"{path}/{two['id']}", json={"metadata": {"x": "y"}}).json
    assert changed == {**two, "metadata": {"x": "y"}}
    changed = change(f"{path}/{two['id']}", json={"content": "zwei", "role": "assistant", "id": "x"}).json
    assert changed == {**two, "metadata": {"x": "y"}, "content": [text("zwei")]}
    assert client.get(f"{path}?order=asc").json["data"] == [one, changed, three]  # type: ignore[index]


def test_a_change_of_nothing_or_to_nonsense(client: FlaskClient, path: str) -> None:
    message = say(client, path)
    place = f"{path}/{message['id']}"
    assert client.post(place).json == message
    assert client.post(place, json={"metadata": None}).json == message
    refused(client.post(place, json={"metadata": {}, "content": ""}), 400, "content")
    picture = [{"type": "image_file", "image_file": {"file_id": "file-none"}}]
    refused(client.post(place, json={"content": picture}), 400, "content")
    assert client.get(place).json == message


def test_a_message_of_a_file_that_is_gone_can_be_changed(
    client: FlaskClient, repository: Repository, path: str
) -> None:
    thread_id = path.split("/")[3]
    repository.threads.append(
        thread_id, [Message(id="old", thread_id=thread_id, created_ms=1, content=(text("a"),), file_ids=("gone",))]
    )
    assert client.post(f"{path}/old", json={"content": "b"}).json["file_ids"] == ["gone"]  # type: ignore[index]


def test_a_message_is_deleted(client: FlaskClient, path: str) -> None:
    message, kept = say(client, path), say(client, path)
    place = f"{path}/{message['id']}"
    answer = client.delete(place).json
    assert answer == {"id": message["id"], "object": "thread.message.deleted", "deleted": True}
    SdkDeleted.model_validate(answer, strict=True)
    for response in (
        client.get(place),
        client.delete(place),
        client.post(place, json={}),
        client.get(f"{place}/files"),
    ):
        refused(response, 404)
    assert client.get(path).json["data"] == [kept]  # type: ignore[index]


def test_pages(client: FlaskClient, path: str) -> None:
    made = [say(client, path, content=str(number)) for number in range(25)]
    page = client.get(path).json
    assert page is not None
    assert values(page) == [str(number) for number in range(24, 4, -1)]
    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (made[24]["id"], made[5]["id"])
    rest = client.get(f"{path}?after={page['last_id']}").json
    assert rest is not None
    assert (values(rest), rest["has_more"]) == (["4", "3", "2", "1", "0"], False)
    back = client.get(f"{path}?before={rest['first_id']}&limit=2").json
    assert back is not None
    assert (values(back), back["has_more"]) == (["6", "5"], True)
    ascending = client.get(f"{path}?order=asc&limit=100").json
    assert (values(ascending), ascending["has_more"]) == ([str(number) for number in range(25)], False)  # type: ignore[index]


def test_the_messages_of_a_run(client: FlaskClient, repository: Repository, path: str) -> None:
    thread_id = path.split("/")[3]
    say(client, path)
    made = Message(
        id="msg", thread_id=thread_id, created_ms=1_700_000_000_999, role="assistant", run_id="run_1",
        assistant_id="jan", completed_ms=1_700_000_001_999, content=(text("a"),),
    )  # fmt: skip
    repository.threads.append(thread_id, [made])
    page = client.get(f"{path}?run_id=run_1").json
    assert page is not None
    assert [message["id"] for message in page["data"]] == ["msg"]
    message = page["data"][0]
    assert (message["created_at"], message["completed_at"]) == (1_700_000_000, 1_700_000_001)
    assert (message["run_id"], message["assistant_id"]) == ("run_1", "jan")
    assert client.get(f"{path}?run_id=other").json["data"] == []  # type: ignore[index]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("order=up", "order"),
        ("after=nothing", "after"),
        ("before=nothing", "before"),
        ("after=", "after"),
        ("before=..%2F..%2Fetc", "before"),
        ("after=%00", "after"),
        ("after=%ff", "after"),
    ],
)
def test_a_page_that_is_refused(client: FlaskClient, path: str, query: str, param: str) -> None:
    refused(client.get(f"{path}?{query}"), 400, param)


@pytest.mark.parametrize("bad", ["..", "%2e%2e", "a%00b", "-x", "x" * 129, "%ff", "nothing"])
def test_ids_that_name_nothing(client: FlaskClient, path: str, bad: str) -> None:
    message = say(client, path)
    for place in (f"{path}/{bad}", f"{path}/{bad}/files", f"{path}/{message['id']}/files/{bad}"):
        refused(client.get(place), 404)
    body = {"role": "user", "content": "Hi", "file_ids": ["file-none"]}
    refused(client.post(f"/v1/threads/{bad}/messages", json=body), 404)
    refused(client.get(f"/v1/threads/{bad}/messages"), 404)
    refused(client.post(f"{path}/{bad}", json={"content": "x"}), 404)
    refused(client.delete(f"{path}/{bad}"), 404)
