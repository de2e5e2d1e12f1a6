"""A data folder that Jan wrote opens as it is, and Jan can open what we write into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from janflask.models.catalog import ModelCatalog
from tests.integration.store_records import settings

THREAD = "jan_1717666232"
MESSAGE = "01HZPKMAT2GANGVWPM4W78SW41"
MODEL_JSON = {
    "sources": [{"filename": "x.gguf", "url": "https://example.org/x.gguf"}],
    "id": "tinyllama-1.1b",
    "object": "model",
    "name": "TinyLlama",
    "version": "1.0",
    "description": "small",
    "format": "gguf",
    "settings": {"ctx_len": 4096, "llama_model_path": "x.gguf"},
    "parameters": {"temperature": 0.7, "stream": True, "max_tokens": 2048, "stop": []},
    "metadata": {"author": "somebody", "tags": ["tiny"], "size": 669000000},
    "engine": "nitro",
}
ASSISTANT_JSON = {
    "avatar": "",
    "id": "jan",
    "object": "assistant",
    "created_at": 1712600000000,
    "name": "Jan",
    "description": "A default assistant.",
    "model": "*",
    "instructions": "Be kind.",
    "tools": [{"type": "retrieval", "enabled": False, "settings": {"top_k": 2}, "useTimeWeightedRetriever": False}],
    "file_ids": [],
    "of_a_later_version": {"a": [1, None]},
}
THREAD_JSON = {
    "title": "A talk",
    "assistants": [
        {
            "assistant_id": "jan",
            "assistant_name": "Jan",
            "model": {"id": "tinyllama-1.1b", "settings": {}, "parameters": {}, "engine": "nitro", "later": 1},
            "tools": [{"type": "retrieval", "enabled": False}],
        }
    ],
    "id": THREAD,
    "created": 1717666232000,
    "updated": 1717666232000,
    "metadata": {"lastMessage": "test"},
    "of_a_later_version": {"b": 2},
}
MESSAGE_JSON = {
    "id": MESSAGE,
    "thread_id": THREAD,
    "role": "user",
    "status": "ready",
    "created": 1717671963458,
    "updated": 1717671963458,
    "object": "thread.message",
    "content": [{"type": "text", "text": {"value": "test", "annotations": []}}],
    "of_a_later_version": "c",
}
ANSWER_JSON = {
    **MESSAGE_JSON,
    "id": "01HZPKMAT2GANGVWPM4W78SW42",
    "role": "assistant",
    "created": 1717671964000,
    "updated": 1717671964000,
    "content": [{"type": "text", "text": {"value": "answer", "annotations": []}}],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "jan"
    files = {
        "models/tinyllama-1.1b/model.json": json.dumps(MODEL_JSON, indent=2),
        "assistants/jan/assistant.json": json.dumps(ASSISTANT_JSON, indent=2),
        f"threads/{THREAD}/thread.json": json.dumps(THREAD_JSON, indent=2),
        # The last line has no end: Jan's writers did not always put one.
        f"threads/{THREAD}/messages.jsonl": json.dumps(MESSAGE_JSON) + "\n" + json.dumps(ANSWER_JSON),
        "threads/empty_1717666233/thread.json": json.dumps(
            {**THREAD_JSON, "id": "empty_1717666233", "created": 1717666233}
        ),
        "settings/settings.json": "{}",
    }
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def client(data: Path) -> FlaskClient:
    return create_app(settings(data, runtime_dir=data.parent)).test_client()


def got(client: FlaskClient, path: str) -> Any:
    answer = client.get(f"/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json


def done(client: FlaskClient, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def lines(data: Path, thread: str = THREAD) -> list[dict[str, Any]]:
    text = (data / "threads" / thread / "messages.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_opens_as_it_is(client: FlaskClient, data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*.json*")}
    thread = got(client, f"threads/{THREAD}")
    assert (thread["title"], thread["created"], thread["created_at"]) == ("A talk", 1717666232, 1717666232)
    assert thread["updated"] == 1717671964, "its last message is later than its own last change"
    assert thread["messages"] == [MESSAGE, ANSWER_JSON["id"]]
    (assistant,) = thread["assistants"]
    assert (assistant["assistant_id"], assistant["assistant_name"]) == ("jan", "Jan")
    assert (assistant["model"]["id"], assistant["model"]["engine"]) == ("tinyllama-1.1b", "nitro")
    answer, message = got(client, f"threads/{THREAD}/messages")["data"]
    assert message["content"] == MESSAGE_JSON["content"]
    assert (message["created_at"], message["status"], message["role"]) == (1717671963, "completed", "user")
    assert answer["role"] == "assistant"
    assert got(client, f"threads/{THREAD}/messages/{MESSAGE}") == message
    whole = client.get(f"/v1/threads/{THREAD}/")
    assert whole.json is not None
    assert [each["id"] for each in whole.json["messages"]] == [MESSAGE, answer["id"]]
    jan = got(client, "assistants/jan")
    assert (jan["created_at"], jan["instructions"], jan["tools"]) == (1712600000, "Be kind.", ASSISTANT_JSON["tools"])
    assert [model.id for model in ModelCatalog(data / "models").list()] == ["tinyllama-1.1b"]
    assert {path: path.read_bytes() for path in data.rglob("*.json*")} == before, "reading changes nothing"


def test_the_list_is_by_creation_in_whatever_unit_it_is_told(client: FlaskClient) -> None:
    assert [thread["id"] for thread in got(client, "threads")] == ["empty_1717666233", THREAD]
    new = done(client, "threads", {"title": "new"})["id"]
    assert [thread["id"] for thread in got(client, "threads?limit=2")] == [new, "empty_1717666233"]
    assert got(client, "threads/empty_1717666233")["messages"] == []
    assert [thread["id"] for thread in got(client, "threads?q=answer")] == [THREAD]


def test_a_message_more(client: FlaskClient, data: Path) -> None:
    new = done(client, f"threads/{THREAD}/messages", {"role": "user", "content": "more"})
    first, second, third = lines(data)
    assert (first, second) == (MESSAGE_JSON, ANSWER_JSON)
    assert (third["id"], third["thread_id"], third["role"]) == (new["id"], THREAD, "user")
    assert (third["status"], third["object"]) == ("ready", "thread.message")
    assert third["content"] == [{"type": "text", "text": {"value": "more", "annotations": []}}]
    assert third["created"] // 1000 == new["created_at"]
    assert third["created"] > 10**12, "Jan counts milliseconds"
    assert read(data / "threads" / THREAD / "thread.json") == THREAD_JSON


def test_a_message_changed(client: FlaskClient, data: Path) -> None:
    done(client, f"threads/{THREAD}/messages/{MESSAGE}", {"metadata": {"x": "y"}})
    first, second = lines(data)
    assert {**first, "metadata": None} == {**MESSAGE_JSON, "updated": first["updated"], "metadata": None}
    assert first["metadata"] == {"x": "y"}
    assert second == ANSWER_JSON
    assert client.delete(f"/v1/threads/{THREAD}/messages/{MESSAGE}").status_code == 200
    assert lines(data) == [ANSWER_JSON]


def test_a_thread_changed(client: FlaskClient, data: Path) -> None:
    done(client, f"threads/{THREAD}", {"title": "Another"})
    done(client, f"threads/{THREAD}/assistants/jan", {"instructions": "Be brief."})
    written = read(data / "threads" / THREAD / "thread.json")
    assert (written["id"], written["title"], written["created"]) == (THREAD, "Another", THREAD_JSON["created"])
    assert written["updated"] > THREAD_JSON["updated"]
    assert written["of_a_later_version"] == {"b": 2}
    assert written["metadata"] == {"lastMessage": "test"}
    (assistant,) = written["assistants"]
    (original,) = THREAD_JSON["assistants"]
    assert assistant == {**original, "instructions": "Be brief."}


def test_an_assistant_changed(client: FlaskClient, data: Path) -> None:
    done(client, "assistants/jan", {"name": "John"})
    written = read(data / "assistants" / "jan" / "assistant.json")
    assert {**ASSISTANT_JSON, "name": "John"}.items() <= written.items()


def test_what_we_make_has_what_jan_needs(client: FlaskClient, data: Path) -> None:
    thread = done(client, "threads", {"title": "ours", "messages": [{"role": "user", "content": "hello"}]})["id"]
    written = read(data / "threads" / thread / "thread.json")
    assert (written["id"], written["title"]) == (thread, "ours")
    assert written["created"] > 10**12
    assert written["updated"] > 10**12
    (assistant,) = written["assistants"]
    assert assistant["assistant_id"] == "jan"
    assert isinstance(assistant["assistant_name"], str)
    assert isinstance(assistant["model"], dict)
    for name in "metadata", "settings", "parameters":
        assert isinstance(written.get(name, {}), dict)
    (message,) = lines(data, thread)
    assert (message["status"], message["object"], message["thread_id"]) == ("ready", "thread.message", thread)
    assert message["created"] > 10**12
    name = done(client, "assistants", {"model": "*", "name": "New"})["id"]
    made = read(data / "assistants" / name / "assistant.json")
    assert (made["id"], made["object"], made["name"], made["model"]) == (name, "assistant", "New", "*")
    assert made["created_at"] > 10**12
    assert (made["tools"], made["file_ids"]) == ([], [])


def test_one_bad_file_does_not_empty_a_list(client: FlaskClient, data: Path) -> None:
    for place, text in {"broken": "{", "empty": "", "list": "[]", "binary": "\x00\x01"}.items():
        (data / "threads" / place).mkdir()
        (data / "threads" / place / "thread.json").write_text(text)
        (data / "assistants" / place).mkdir()
        (data / "assistants" / place / "assistant.json").write_text(text)
    (data / "threads" / "no-file").mkdir()
    (data / "threads" / "a file").write_text("x")
    with (data / "threads" / THREAD / "messages.jsonl").open("a") as file:
        file.write('\nnot JSON\n{"id": "torn", "content": [')
    assert [thread["id"] for thread in got(client, "threads")] == ["empty_1717666233", THREAD]
    assert [assistant["id"] for assistant in got(client, "assistants")["data"]] == ["jan"]
    assert got(client, f"threads/{THREAD}")["messages"] == [MESSAGE, ANSWER_JSON["id"]]
    new = done(client, f"threads/{THREAD}/messages", {"role": "user", "content": "goes on"})["id"]
    assert got(client, f"threads/{THREAD}")["messages"] == [MESSAGE, ANSWER_JSON["id"], new]
    answer = client.get("/v1/threads/broken")
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["error"]["code"] == "store_damaged"
