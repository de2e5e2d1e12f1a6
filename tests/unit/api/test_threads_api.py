"""Threads over HTTP, on the memory repository."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from openai.types.beta import Thread as SdkThread
from openai.types.beta import ThreadDeleted as SdkDeleted

from janflask.errors import StorageFullError, StoreBusyError, StoreDamagedError
from janflask.storage.base import Repository
from janflask.storage.records import Assistant, Thread, ThreadAssistant
from tests.unit.api.stored import Store, make_store, refused

PATH = "/v1/threads"
JAN = {"assistant_id": "jan", "assistant_name": "Jan", "instructions": "", "model": {}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path, max_body_mb=2, max_message_mb=1)


@pytest.fixture
def client(store: Store) -> FlaskClient:
    return store.client


@pytest.fixture
def repository(store: Store) -> Repository:
    return store.repository


def make(client: FlaskClient, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    thread: dict[str, Any] = response.json  # type: ignore[assignment]
    SdkThread.model_validate({**thread, "metadata": {}}, strict=True)  # ours may hold more than strings
    return thread


def get(client: FlaskClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.json


def said(*words: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": word} for word in words]


def texts(client: FlaskClient, thread: dict[str, Any]) -> list[str]:
    whole = get(client, f"{PATH}/{thread['id']}/")
    assert [message["id"] for message in whole["messages"]] == get(client, f"{PATH}/{thread['id']}")["messages"]
    return [message["content"][0]["text"]["value"] for message in whole["messages"]]


def test_a_thread_of_nothing(client: FlaskClient) -> None:
    response = client.post(PATH)
    thread = response.json
    assert thread is not None
    assert thread["id"].startswith("thread_")
    assert thread["created_at"] > 1_700_000_000
    assert thread == {
        "id": thread["id"],
        "object": "thread",
        "title": "",
        "summary": "",
        "assistants": [JAN],
        "created": thread["created_at"],
        "created_at": thread["created_at"],
        "updated": thread["created_at"],
        "metadata": {},
        "model_id": None,
        "settings": {},
        "parameters": {},
        "tool_resources": {},
        "messages": [],
    }
    SdkThread.model_validate(thread, strict=True)
    assert get(client, f"{PATH}/{thread['id']}") == thread
    assert get(client, f"{PATH}/{thread['id']}/assistants") == thread


def test_a_thread_of_everything(client: FlaskClient, repository: Repository) -> None:
    repository.assistants.create(Assistant(id="tutor", created_ms=1, name="Tutor", instructions="Teach.", model="m"))
    model = {"id": "m", "settings": {"ctx_len": "1024"}, "parameters": {"top_k": "5"}, "engine": "nitro"}
    resources = {"code_interpreter": {"file_ids": []}}
    thread = make(
        client,
        id="my-thread",
        title="A talk",
        summary="Words",
        assistants=["tutor", {"assistant_id": "of-another-server", "model": model, "color": "red"}],
        metadata={"a": {"b": 1}},
        tool_resources=resources,
        model_id="m",
        settings={"ctx_len": "2048", "flash_attn": "auto", "prompt_template": "{prompt}", "ngl": None},
        parameters={"temperature": "0.5", "max_tokens": 16, "stop": ["x"], "logit_bias": {"5": -1}, "stream": True},
        messages=said("one", "two"),
        created=5,
    )
    assert thread["id"] == "my-thread"
    assert (thread["title"], thread["summary"], thread["model_id"]) == ("A talk", "Words", "m")
    assert thread["assistants"] == [
        {"assistant_id": "tutor", "assistant_name": "Tutor", "instructions": "Teach.", "model": {"id": "m"}},
        {
            "assistant_id": "of-another-server",
            "assistant_name": "",
            "instructions": "",
            "model": {**model, "settings": {"ctx_len": 1024}, "parameters": {"top_k": 5}},
        },
    ]
    assert (thread["metadata"], thread["tool_resources"]) == ({"a": {"b": 1}}, resources)
    assert thread["settings"] == {"ctx_len": 2048, "flash_attn": "auto", "prompt_template": "{prompt}"}
    assert thread["parameters"] == {
        "temperature": 0.5,
        "max_tokens": 16,
        "stop": ["x"],
        "logit_bias": {"5": -1},
        "stream": True,
    }
    assert get(client, f"{PATH}/my-thread") == thread
    assert texts(client, thread) == ["one", "two"]
    assert repository.threads.get("my-thread").assistants[1].extra == {"color": "red"}
    refused(client.post(PATH, json={"id": "my-thread"}), 409, "id")


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"title": 3}, "title"),
    ({"title": "x" * 1025}, "title"),
    ({"assistants": "jan"}, "assistants"),
    ({"assistants": ["nobody"]}, "assistants.0"),
    ({"assistants": ["../jan"]}, "assistants.0"),
    ({"assistants": ["jan", {"assistant_id": "jan"}]}, "assistants.1"),
    ({"assistants": [{"assistant_name": "x"}]}, "assistants.0.assistant_id"),
    ({"assistants": [{"assistant_id": "a/b"}]}, "assistants.0.assistant_id"),
    ({"assistants": [{"assistant_id": "a", "model": 3}]}, "assistants.0.model"),
    (
        {"assistants": [{"assistant_id": "a", "model": {"settings": {"ctx_lenn": 1}}}]},
        "assistants.0.model.settings.ctx_lenn",
    ),
    (
        {"assistants": [{"assistant_id": "a", "model": {"parameters": {"heat": 1}}}]},
        "assistants.0.model.parameters.heat",
    ),
    ({"metadata": "x"}, "metadata"),
    ({"tool_resources": {"code_interpreter": 5}}, "tool_resources.code_interpreter"),
    ({"settings": {"ctx_lenn": 1}}, "settings.ctx_lenn"),
    ({"settings": {"ctx_len": "many"}}, "settings.ctx_len"),
    ({"settings": {"ctx_len": [1]}}, "settings.ctx_len"),
    ({"settings": []}, "settings"),
    ({"parameters": {"heat": 1}}, "parameters.heat"),
    ({"parameters": {"temperature": 3}}, "parameters.temperature"),
    ({"parameters": {"temperature": "hot"}}, "parameters.temperature"),
    ({"parameters": {"top_k": "1.5"}}, "parameters.top_k"),
    ({"parameters": {"model": "m"}}, "parameters.model"),
    ({"messages": {}}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [*said("a"), {"role": "user", "content": [3]}]}, "messages.1.content.0"),
    ({"messages": [*said("a"), {"role": "user", "content": "b", "file_ids": ["file-no"]}]}, "messages.1.file_ids"),
]


@pytest.mark.parametrize(("body", "param"), [*BAD_FIELDS, ({"messages": ["msg_1"]}, "messages.0")])
def test_a_new_thread_that_is_refused(client: FlaskClient, body: dict[str, Any], param: str) -> None:
    refused(client.post(PATH, json=body), 400, param)
    assert get(client, PATH) == []


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "a/b", "a\0b", "-x", "import", "export", "CON", "nul.txt", "x" * 129, 5]
)
def test_a_new_id_that_is_refused(client: FlaskClient, bad: Any) -> None:
    refused(client.post(PATH, json={"id": bad}), 400, "id")
    assert get(client, PATH) == []


def test_a_body_that_is_refused(client: FlaskClient) -> None:
    refused(client.post(PATH, json=["x"]), 400)
    refused(client.post(PATH, data="{}", content_type="text/plain"), 415)
    refused(client.post(PATH, data=b"[" * 100_000, content_type="application/json"), 400)
    refused(client.post(PATH, json={"title": "x" * (3 << 20)}), 413)
    large = said("a", "x" * (1 << 20))
    refused(client.post(PATH, json={"messages": large}), 413, "messages.1")
    assert get(client, PATH) == []


@pytest.mark.parametrize("method", ["post", "patch"])
def test_what_is_given_is_replaced(client: FlaskClient, method: str) -> None:
    thread = make(client, title="a", metadata={"x": 1, "y": 2}, parameters={"top_k": 5}, messages=said("one"))
    change = getattr(client, method)
    path = f"{PATH}/{thread['id']}"
    changed = change(path, json={"metadata": {"x": 3}, "title": None, "unknown": 1}).json
    assert {**changed, "updated": 0} == {**thread, "metadata": {"x": 3}, "updated": 0}
    changed = change(path, json={"settings": {"ctx_len": "64"}, "model_id": "m", "assistants": []}).json
    assert (changed["settings"], changed["model_id"], changed["assistants"]) == ({"ctx_len": 64}, "m", [])
    assert (changed["metadata"], changed["parameters"], changed["messages"]) == (
        {"x": 3},
        {"top_k": 5},
        thread["messages"],
    )
    assert change(path, json={"model_id": ""}).json["model_id"] is None
    assert change(path).json == get(client, path)


@pytest.mark.parametrize(("body", "param"), [*BAD_FIELDS, ({"messages": ["msg_1"]}, "messages.0")])
def test_a_change_that_is_refused_changes_nothing(client: FlaskClient, body: dict[str, Any], param: str) -> None:
    thread = make(client, title="before", messages=said("one"))
    refused(client.post(f"{PATH}/{thread['id']}", json={"title": "after", **body}), 400, param)
    assert get(client, f"{PATH}/{thread['id']}") == thread


def test_the_messages_are_replaced(client: FlaskClient) -> None:
    thread = make(client, messages=said("one", "two", "three"))
    one, two, three = thread["messages"]
    path = f"{PATH}/{thread['id']}"
    new = client.post(path, json={"messages": [three, *said("four"), {"id": one, "role": "assistant", "content": "1"}]})
    assert new.json is not None
    assert (new.json["messages"][0], new.json["messages"][2]) == (three, one)
    assert new.json["messages"][1] not in thread["messages"]
    assert texts(client, thread) == ["three", "four", "1"]
    refused(client.get(f"{path}/messages/{two}"), 404)
    refused(client.post(path, json={"messages": [one, one]}), 400, "messages.1")
    assert client.post(path, json={"messages": []}).json["messages"] == []  # type: ignore[index]
    assert texts(client, thread) == []


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_thread_as_it_was_got_is_a_good_body(client: FlaskClient, repository: Repository, slash: str) -> None:
    entry = ThreadAssistant(assistant_id="other", model={"id": "m"}, extra={"tools": [1]})
    repository.threads.create(Thread(id="old", created_ms=5000, updated_ms=6000, assistants=(entry,), extra={"a": 1}))
    client.post(f"{PATH}/old/messages", json=said("hello")[0])
    got = get(client, f"{PATH}/old{slash}")
    answer = client.post(f"{PATH}/old", json={**got, "title": "new"}).json
    assert answer is not None
    same = {name: value for name, value in got.items() if name not in ("updated", "messages")}
    assert {name: answer[name] for name in same} == {**same, "title": "new"}
    assert get(client, f"{PATH}/old/")["messages"] == (got["messages"] if slash else answer_messages(client))
    stored = repository.threads.get("old")
    assert (stored.created_ms, stored.extra, stored.assistants) == (5000, {"a": 1}, (entry,))


def answer_messages(client: FlaskClient) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = get(client, f"{PATH}/old/messages?order=asc")["data"]
    assert [message["content"][0]["text"]["value"] for message in data] == ["hello"]
    return data


def test_the_assistants_of_a_thread(client: FlaskClient, repository: Repository) -> None:
    thread = make(client)
    path = f"{PATH}/{thread['id']}/assistants"
    repository.assistants.create(Assistant(id="tutor", created_ms=1, name="Tutor", instructions="Teach."))
    added = client.post(f"{path}/tutor", json={"model": {"id": "m", "settings": {"ctx_len": "64"}}}).json
    tutor = {"assistant_id": "tutor", "assistant_name": "Tutor", "instructions": "Teach."}
    assert added["assistants"] == [JAN, {**tutor, "model": {"id": "m", "settings": {"ctx_len": 64}}}]  # type: ignore[index]
    changed = client.post(f"{path}/jan", json={"instructions": "Be brief."}).json
    assert changed["assistants"][0] == {**JAN, "instructions": "Be brief."}  # type: ignore[index]
    assert get(client, path) == changed
    assert client.post(f"{path}/jan").json["assistants"] == changed["assistants"]  # type: ignore[index]
    assert repository.assistants.get("jan").instructions == ""
    refused(client.post(f"{path}/nobody", json={}), 404)
    refused(client.post(f"{path}/a%00b", json={}), 404, "assistant_id")
    refused(client.post(f"{path}/jan", json={"model": {"settings": {"no": 1}}}), 400, "model.settings.no")
    refused(client.post(f"{path}/jan", json={"model": {"parameters": {"no": 1}}}), 400, "model.parameters.no")
    refused(client.post(f"{PATH}/nothing/assistants/jan", json={}), 404)
    assert get(client, path)["assistants"] == changed["assistants"]  # type: ignore[index]


def test_a_thread_is_deleted(client: FlaskClient) -> None:
    thread, kept = make(client, messages=said("one")), make(client)
    path = f"{PATH}/{thread['id']}"
    answer = client.delete(path).json
    assert answer == {"id": thread["id"], "object": "thread.deleted", "deleted": True}
    SdkDeleted.model_validate(answer, strict=True)
    for place in (path, f"{path}/", f"{path}/assistants", f"{path}/messages", f"{path}/export"):
        refused(client.get(place), 404, "thread_id")
    for response in (client.delete(path), client.post(path, json={"title": "x"}), client.patch(path)):
        refused(response, 404, "thread_id")
    assert [item["id"] for item in get(client, PATH)] == [kept["id"]]


@pytest.mark.parametrize("bad", ["..", "%2e%2e", "a%00b", "-x", "x" * 129, "%ff", "nothing", "import"])
def test_ids_that_name_nothing(client: FlaskClient, bad: str) -> None:
    path, param = f"{PATH}/{bad}", "thread_id" if bad in ("-x", "x" * 129, "nothing") else None
    for place in (path, f"{path}/", f"{path}/assistants", f"{path}/messages", f"{path}/export"):
        refused(client.get(place), 404, param)
    refused(client.delete(path), 404, param)
    refused(client.patch(path, json={"title": "x"}), 404, param)


def test_the_list(client: FlaskClient) -> None:
    assert get(client, PATH) == []
    made = [make(client, title=f"t{number}", messages=said("word" if number % 2 else "other")) for number in range(150)]
    ids = [thread["id"] for thread in made]
    response = client.get(PATH)
    assert response.json is not None
    assert [thread["id"] for thread in response.json] == ids[::-1]
    assert "messages" not in response.json[0]
    assert response.json[0] == {name: value for name, value in made[-1].items() if name != "messages"}
    assert response.content_type == "application/json"
    assert json.loads(response.headers["X-Pagination"]) == {
        "total": 150, "limit": None, "has_more": False, "first_id": ids[-1], "last_id": ids[0],
    }  # fmt: skip
    ascending = client.get(f"{PATH}?order=asc")
    about = json.loads(ascending.headers["X-Pagination"])
    assert (about["first_id"], about["last_id"]) == (ids[0], ids[-1])


def test_pages_of_the_list(client: FlaskClient) -> None:
    ids = [make(client)["id"] for _ in range(5)]
    response = client.get(f"{PATH}?limit=2")
    assert [thread["id"] for thread in response.json or ()] == [ids[4], ids[3]]
    about = json.loads(response.headers["X-Pagination"])
    assert about == {"total": 5, "limit": 2, "has_more": True, "first_id": ids[4], "last_id": ids[3]}
    response = client.get(f"{PATH}?limit=3&after={ids[3]}")
    assert [thread["id"] for thread in response.json or ()] == ids[2::-1]
    assert json.loads(response.headers["X-Pagination"])["has_more"] is False
    assert [thread["id"] for thread in get(client, f"{PATH}?order=asc&after={ids[2]}")] == ids[3:]
    assert [thread["id"] for thread in get(client, f"{PATH}?limit=1&before={ids[1]}")] == [ids[2]]
    empty = client.get(f"{PATH}?limit=5&after={ids[0]}")
    assert empty.json == []
    assert json.loads(empty.headers["X-Pagination"])["first_id"] is None


def test_the_search(client: FlaskClient) -> None:
    one = make(client, title="Apples and pears")
    two = make(client, messages=said("I like APPLES", "and so on"))
    make(client, title="Nothing")
    response = client.get(f"{PATH}?q=apples")
    assert [thread["id"] for thread in response.json or ()] == [two["id"], one["id"]]
    about = json.loads(response.headers["X-Pagination"])
    assert about == {"limit": None, "has_more": False, "first_id": two["id"], "last_id": one["id"]}
    assert [thread["id"] for thread in get(client, f"{PATH}?q=pears+apples")] == [one["id"]]
    assert [thread["id"] for thread in get(client, f"{PATH}?q=apples&limit=1&after={two['id']}")] == [one["id"]]
    assert len(get(client, f"{PATH}?q=+")) == 3
    kept = make(client, title="caf\u00e9", messages=said("nai\u0308ve"))["id"]
    for words in ("cafe\u0301", "CAF\u00c9", "na\u00efve", "NAI\u0308VE cafe\u0301"):
        assert [thread["id"] for thread in get(client, f"{PATH}?q={quote(words)}")] == [kept], words


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=", "limit"),
        ("order=sideways", "order"),
        ("after=nothing", "after"),
        ("before=..", "before"),
        (f"q={'x' * 1001}", "q"),
    ],
)
def test_a_list_that_is_refused(client: FlaskClient, query: str, param: str) -> None:
    refused(client.get(f"{PATH}?{query}"), 400, param)


@pytest.mark.parametrize("error", [StoreBusyError, StorageFullError, StoreDamagedError])
def test_what_the_store_raises_is_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: type[StoreBusyError]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("so it is")

    def failing() -> Iterator[Thread]:
        raise error("so it is")
        yield

    threads = type(store.repository.threads)
    thread = make(store.client)
    for name in ("update", "append", "list_messages", "with_message_ids", "delete"):
        monkeypatch.setattr(threads, name, fail)
    monkeypatch.setattr(threads, "all", lambda _: failing())
    path = f"{PATH}/{thread['id']}"
    for response in (
        store.client.get(PATH),
        store.client.get(path),
        store.client.delete(path),
        store.client.get(f"{path}/messages"),
        store.client.post(f"{path}/assistants/jan", json={}),
        store.client.post(f"{path}/messages", json=said("a")[0]),
    ):
        assert refused(response, error.status)["code"] == error.code


def test_export_and_import_of_one(client: FlaskClient, store: Store) -> None:
    file_id = store.upload("notes.txt", content=b"some bytes")
    thread = make(client, title="a", messages=[{"role": "user", "content": "Hi", "file_ids": [file_id]}])
    response = client.get(f"{PATH}/{thread['id']}/export")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.headers["Content-Disposition"] == f"attachment; filename={thread['id']}.json"
    taken = client.post(f"{PATH}/import", json=response.json).json
    assert taken is not None
    assert (taken["title"], taken["object"]) == ("a", "thread")
    assert taken["id"] != thread["id"]
    SdkThread.model_validate(taken, strict=True)
    message = get(client, f"{PATH}/{taken['id']}/messages")["data"][0]
    assert message["file_ids"] != [file_id]
    with store.repository.files.open(message["file_ids"][0]) as content:
        assert content.read() == b"some bytes"


def test_export_and_import_of_all(client: FlaskClient, tmp_path: Path) -> None:
    ids = [make(client, title=title, messages=said(title))["id"] for title in ("one", "two")]
    archive = client.get(f"{PATH}/export")
    assert (archive.status_code, archive.content_type) == (200, "application/zip")
    other = make_store(tmp_path / "other").client
    report = other.post(f"{PATH}/import", data=archive.data, content_type="application/zip").json
    assert report is not None
    assert (report["object"], sorted(report["threads"]), report["skipped"]) == ("thread.import", sorted(ids), [])
    assert {thread["title"] for thread in get(other, PATH)} == {"one", "two"}
    assert list((tmp_path / "other" / "data" / "cache").iterdir()) == []


def test_an_import_that_is_refused(tmp_path: Path) -> None:
    client = make_store(tmp_path, max_upload_mb=1).client
    place = f"{PATH}/import"
    refused(client.post(place), 415)
    refused(client.post(place, data="x", content_type="text/plain"), 415)
    refused(client.post(place, json=[]), 400)
    refused(client.post(place, json={"object": "thread"}), 400)
    refused(client.post(place, data=b"{", content_type="application/json"), 400)
    refused(client.post(place, data=b"no zip", content_type="application/zip"), 400)
    for content_type in ("application/json", "application/zip"):
        error = refused(client.post(place, data=b" " * (1 << 20 | 1), content_type=content_type), 413)
        assert "1 MiB" in error["message"]
    endless = {"wsgi.input": io.BytesIO(b" " * (2 << 20)), "wsgi.input_terminated": True}
    refused(client.post(place, content_type="application/zip", environ_overrides=endless), 413)
    assert get(client, PATH) == []
