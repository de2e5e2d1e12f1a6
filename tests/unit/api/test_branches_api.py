"""Branches over HTTP, on the memory repository: threads that go apart, and lists of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask.files import ids
from janflask.storage.jan import message_to_json
from janflask.storage.records import Message, Run, text_part
from tests.unit.api.stored import Store, make_store, refused

PATH = "/v1/threads"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


@pytest.fixture
def client(store: Store) -> FlaskClient:
    return store.client


def made(client: FlaskClient, path: str = PATH, **body: Any) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.json is not None
    return dict(response.json)


def branch(client: FlaskClient, thread: dict[str, Any], before: str | None = None) -> dict[str, Any]:
    return made(client, f"{PATH}/{thread['id']}/branch", before=before)


def talk(client: FlaskClient, *words: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text} for text in words or ("one", "two", "three")]
    return made(client, messages=messages, **fields)


def listed(client: FlaskClient, query: str = "") -> list[str]:
    response = client.get(f"{PATH}?{query}")
    assert response.status_code == 200, response.text
    return [thread["id"] for thread in response.json or ()]


def family_of(thread: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in thread["metadata"].items() if name.startswith("branch_")}


def test_a_branch_has_what_was_said_before(client: FlaskClient) -> None:
    entry = {"assistant_id": "jan", "assistant_name": "Jan", "instructions": "Be brief.", "model": {"id": "tiny"}}
    fields = {"model_id": "tiny", "settings": {"ctx_len": 64}, "parameters": {"temperature": 0.5}}
    thread = talk(client, title="Sea", summary="s", metadata={"topic": "fish"}, assistants=[entry], **fields)
    first, second, third = thread["messages"]
    found = branch(client, thread, third)
    own = ("id", "created", "created_at", "updated", "metadata", "messages")
    same = [{name: told for name, told in one.items() if name not in own} for one in (thread, found)]
    assert same[0] == same[1]
    assert (found["messages"], found["id"] != thread["id"]) == ([first, second], True)
    assert found["metadata"] == {
        **{"topic": "fish", "branch_root": thread["id"], "branch_parent": thread["id"]},
        "branch_after": second,
    }
    told = client.get(f"{PATH}/{found['id']}/messages/{second}").json
    assert told is not None
    assert (told["id"], told["thread_id"]) == (second, found["id"])
    assert client.get(f"{PATH}/{thread['id']}").json == thread, "what is left stays as it was"
    made(client, f"{PATH}/{found['id']}/messages", role="user", content="other")
    assert len(client.get(f"{PATH}/{thread['id']}").json["messages"]) == 3  # type: ignore[index]


def test_all_messages_or_none(client: FlaskClient) -> None:
    thread = talk(client)
    response = client.post(f"{PATH}/{thread['id']}/branch")
    assert response.json is not None
    assert response.json["messages"] == thread["messages"]
    assert family_of(response.json)["branch_after"] == thread["messages"][-1]
    none = branch(client, thread, thread["messages"][0])
    assert (none["messages"], family_of(none)["branch_after"]) == ([], "")


def test_a_branch_at_the_same_place_is_a_sibling(client: FlaskClient) -> None:
    thread = talk(client)
    one = branch(client, thread, thread["messages"][2])
    made(client, f"{PATH}/{one['id']}/messages", role="user", content="other")
    said = client.get(f"{PATH}/{one['id']}").json["messages"]  # type: ignore[index]
    two = branch(client, one, said[2])
    assert family_of(two) == family_of(one)
    three = branch(client, one)
    assert family_of(three) == {"branch_root": thread["id"], "branch_parent": one["id"], "branch_after": said[2]}
    assert listed(client, f"branches_of={thread['id']}") == [three["id"], two["id"], one["id"], thread["id"]]


def test_whatever_the_messages_hold_comes_along(store: Store) -> None:
    file_id, gone = store.upload(), store.upload()
    thread = talk(store.client)
    calls = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    extra = {
        "reasoning_content": "Hm.",
        "tool_calls": calls,
        "tool_rounds": [{"message_id": None, "calls": []}],
        "x": 1,
    }
    rich = Message(
        **{"id": ids.new_id(ids.MESSAGE), "thread_id": thread["id"], "created_ms": 5, "role": "assistant"},
        content=(text_part("Yes"), {"type": "image_file", "image_file": {"file_id": gone}}),
        **{"file_ids": (file_id,), "attachments": ({"file_id": file_id, "tools": []},), "run_id": "run_1"},
        **{"status": "incomplete", "incomplete_details": {"reason": "max_tokens"}, "metadata": {"a": 1}},
        extra=extra,
    )
    threads = store.repository.threads
    threads.append(thread["id"], [rich])
    store.repository.files.delete(gone, lambda _: False)
    found = branch(store.client, thread)
    copy = threads.get_message(found["id"], rich.id)
    assert message_to_json(copy) == {**message_to_json(rich), "thread_id": found["id"]}
    store.client.delete(f"{PATH}/{thread['id']}")
    refused(store.client.delete(f"/v1/files/{file_id}"), 409)


def test_the_threads_own_files_come_along(store: Store) -> None:
    threads = store.repository.threads
    thread = talk(store.client)
    whole = threads.get(thread["id"])
    threads.delete(thread["id"])
    with Path(__file__).open("rb") as content:
        threads.create(whole, [], [("notes.txt", content)])
    found = branch(store.client, thread)
    with threads.open_file(found["id"], "notes.txt") as opened:
        assert opened.read() == Path(__file__).read_bytes()


def test_before_a_reply_that_is_being_given(store: Store) -> None:
    thread = talk(store.client)
    reply = ids.new_id(ids.MESSAGE)
    run = Run(
        **{"id": ids.new_id(ids.RUN), "thread_id": thread["id"], "assistant_id": "jan", "message_id": reply},
        **{"step_id": "step_1", "created_ms": 1, "expires_ms": 1 << 50, "model": "tiny", "replied_ms": 2},
    )
    assert store.repository.runs.create(run)
    assert store.client.get(f"{PATH}/{thread['id']}/messages/{reply}").status_code == 200
    assert branch(store.client, thread, reply)["messages"] == thread["messages"]
    assert branch(store.client, thread)["messages"] == thread["messages"]


def test_what_is_refused(client: FlaskClient) -> None:
    thread, other = talk(client), talk(client)
    place = f"{PATH}/{thread['id']}/branch"
    for before in ("nothing", "../x", "", other["messages"][0]):
        refused(client.post(place, json={"before": before}), 400, "before")
    for body in ({"before": 1}, {"before": ["x"]}, []):
        refused(client.post(place, json=body), 400)
    for name in ("thread_nothing", "..", "a%20b"):
        assert client.post(f"{PATH}/{name}/branch").status_code == 404
    assert len(listed(client)) == 2


def test_lists_without_branches_and_of_a_family(client: FlaskClient) -> None:
    first, other = talk(client, "apple"), talk(client, "pear")
    one = branch(client, first)
    made(client, f"{PATH}/{one['id']}/messages", role="user", content="plum")
    two = branch(client, one)
    assert listed(client, "branches=false") == [other["id"], first["id"]]
    assert listed(client, "branches=true") == listed(client) == [two["id"], one["id"], other["id"], first["id"]]
    assert listed(client, "branches=false&q=plum") == [first["id"]], "said in a branch of it"
    assert listed(client, f"branches_of={first['id']}&q=plum") == [two["id"], one["id"]]
    assert listed(client, f"branches_of={first['id']}&limit=1&after={two['id']}") == [one["id"]]
    assert listed(client, f"branches_of={first['id'].replace('thread_', 'conv_')}&limit=1") == [two["id"]]
    assert listed(client, f"branches_of={ids.new_id(ids.THREAD)}") == []
    pages = [client.get(f"{PATH}?limit=1&{query}") for query in ("branches=false", f"branches_of={first['id']}", "")]
    assert [json.loads(page.headers["X-Pagination"])["total"] for page in pages] == [2, 3, 4]
    client.delete(f"{PATH}/{first['id']}")
    assert listed(client, "branches=false") == [two["id"], one["id"], other["id"]]
    for query, param in (("branches=maybe", "branches"), ("branches_of=..", "branches_of"), ("branches_of=", None)):
        refused(client.get(f"{PATH}?{query}"), 400, param)


def test_a_page_that_has_not_changed_is_not_sent_again(client: FlaskClient) -> None:
    thread = talk(client)
    query = f"{PATH}?limit=5&branches=false"
    first = client.get(query)
    known = {"If-None-Match": first.headers["ETag"]}
    again = client.get(query, headers=known)
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert client.get(query, headers={"If-None-Match": '"another"'}).data == first.data
    branch(client, thread)
    assert client.get(query, headers=known).status_code == 304, "a branch is not in this list"
    changes: list[Any] = [
        lambda: client.post(f"{PATH}/{thread['id']}", json={"title": "Sea"}),
        lambda: talk(client),
        lambda: client.delete(f"{PATH}/{thread['id']}"),
    ]
    for change in changes:
        known = {"If-None-Match": client.get(query).headers["ETag"]}
        assert client.get(query, headers=known).status_code == 304
        change()
        assert client.get(query, headers=known).status_code == 200


def test_a_page_tells_of_more_behind_it(client: FlaskClient) -> None:
    """What is behind a page shows in how many there are."""
    talk(client)
    newest = talk(client)
    query = f"{PATH}?limit=1"
    known = {"If-None-Match": client.get(query).headers["ETag"]}
    oldest = listed(client)[-1]
    assert oldest != newest["id"]
    client.delete(f"{PATH}/{oldest}")
    assert client.get(query, headers=known).status_code == 200
