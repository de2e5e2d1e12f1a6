"""Conversations by OpenAI's SDK: their objects are of its own types, and they are threads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from flask.testing import FlaskClient
from openai.types.conversations import Conversation, ConversationItem
from openai.types.conversations.conversation_deleted_resource import ConversationDeletedResource
from openai.types.conversations.conversation_item_list import ConversationItemList

from tests.unit.api.conftest import World
from tests.unit.api.stored import Store, make_store, refused

ITEMS: Any = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How warm is it?"}]},
    {"type": "reasoning", "id": "rs_x", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":"sea"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "blue"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Blue.", "annotations": []}]},
    {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
]
KINDS = ["message", "message", "reasoning", "function_call", "function_call_output", "message", "message"]
ITEM: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ConversationItem)


def strictly(kind: Any, parsed: Any) -> Any:
    """The SDK builds objects without checking; this checks."""
    return kind.model_validate(parsed.to_dict(), strict=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


def created(client: FlaskClient, *items: dict[str, Any], **more: Any) -> str:
    response = client.post("/v1/conversations", json={"items": list(items), **more})
    assert response.status_code == 200, response.text
    assert response.json is not None
    name: str = response.json["id"]
    return name


def kinds(client: FlaskClient, name: str) -> list[str]:
    response = client.get(f"/v1/conversations/{name}/items?order=asc&limit=100")
    assert response.json is not None
    return [item["type"] for item in response.json["data"]]


# --- the SDK ----------------------------------------------------------------------------------------------------------


def test_a_conversation_from_end_to_end(sdk: openai.OpenAI) -> None:
    made = strictly(Conversation, sdk.conversations.create(items=ITEMS, metadata={"topic": "sea"}))
    assert made.id.startswith("conv_")
    assert strictly(Conversation, sdk.conversations.retrieve(made.id)) == made
    changed = strictly(Conversation, sdk.conversations.update(made.id, metadata={"topic": "sky"}))
    assert changed.metadata == {"topic": "sky"}
    listed = list(sdk.conversations.items.list(made.id, limit=2, order="asc"))
    assert [item.type for item in listed] == KINDS
    assert [item.id for item in sdk.conversations.items.list(made.id)] == [item.id for item in listed][::-1]
    for item in listed:
        checked = ITEM.validate_python(item.to_dict(), strict=True)
        again = sdk.conversations.items.retrieve(str(item.id), conversation_id=made.id)
        assert ITEM.validate_python(again.to_dict()) == checked
    added = sdk.conversations.items.create(made.id, items=[{"role": "user", "content": "And?"}])
    assert strictly(ConversationItemList, added).first_id == added.last_id
    left = strictly(Conversation, sdk.conversations.items.delete(added.last_id, conversation_id=made.id))
    assert left == changed
    gone = strictly(ConversationDeletedResource, sdk.conversations.delete(made.id))
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        sdk.conversations.retrieve(made.id)


def test_the_async_client(server: str) -> None:
    async def kinds_of() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
            made = await client.conversations.create(items=ITEMS)
            return [item.type async for item in client.conversations.items.list(made.id, order="asc", limit=3)]

    assert asyncio.run(kinds_of()) == KINDS


def test_thoughts_come_sealed_where_that_is_asked_for_and_go_back_so(sdk: openai.OpenAI) -> None:
    made = sdk.conversations.create(items=ITEMS[2:5])
    sealed: Any = sdk.conversations.items.list(made.id, order="asc", include=["reasoning.encrypted_content"]).data[0]
    ITEM.validate_python(sealed.to_dict(), strict=True)
    plain: Any = sdk.conversations.items.list(made.id, order="asc").data[0]
    assert plain.encrypted_content is None
    back: Any = {"type": "reasoning", "id": sealed.id, "summary": [], "encrypted_content": sealed.encrypted_content}
    other = sdk.conversations.create(items=[back])
    thought: Any = sdk.conversations.items.list(other.id).data[0]
    assert thought.content[0].text == "Hm"
    with pytest.raises(openai.BadRequestError, match=r"items\.0|sealed") as caught:
        sdk.conversations.create(items=[{**back, "encrypted_content": "gAAAA"}])
    assert caught.value.code == "invalid_encrypted_content"


# --- one store --------------------------------------------------------------------------------------------------------


def test_a_conversation_is_a_thread(store: Store) -> None:
    name = created(store.client, *ITEMS)
    thread_id = name.replace("conv_", "thread_")
    for named in (name, thread_id):
        messages = store.client.get(f"/v1/threads/{named}/messages?order=asc").json
        assert messages is not None
        assert [message["role"] for message in messages["data"]] == [
            "developer",
            "user",
            "assistant",
            "tool",
            "assistant",
            "assistant",
        ]
        assert {message["thread_id"] for message in messages["data"]} == {thread_id}
        assert kinds(store.client, named) == KINDS
    call, output = messages["data"][2:4]
    assert call["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sea"}'}}
    ]
    assert (output["tool_call_id"], output["content"][0]["text"]["value"]) == ("c1", "blue")
    assert "tool_calls" not in messages["data"][0]
    assert store.client.post(f"/v1/threads/{name}", json={"title": "Sea"}).json["title"] == "Sea"  # type: ignore[index]
    assert store.client.get("/v1/threads").json[0]["id"] == thread_id  # type: ignore[index]


def test_what_jan_writes_is_seen_and_goes(store: Store) -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "https://a/b.png"}}],
    }
    thread = store.client.post("/v1/threads", json={"messages": [message], "metadata": {"a": "b"}}).json
    assert thread is not None
    name = thread["id"].replace("thread_", "conv_")
    conversation = store.client.get(f"/v1/conversations/{name}").json
    assert conversation == {
        "id": name,
        "object": "conversation",
        "created_at": thread["created_at"],
        "metadata": {"a": "b"},
    }
    (item,) = store.client.get(f"/v1/conversations/{name}/items").json["data"]  # type: ignore[index]
    ITEM.validate_python(item, strict=True)
    assert [part["type"] for part in item["content"]] == ["input_text", "input_image"]
    assert store.client.delete(f"/v1/conversations/{name}/items/{item['id']}").status_code == 200
    refused(store.client.get(f"/v1/threads/{thread['id']}/messages/{item['id']}"), 404)
    assert store.client.delete(f"/v1/conversations/{thread['id']}").json == {
        "id": name,
        "object": "conversation.deleted",
        "deleted": True,
    }
    refused(store.client.get(f"/v1/threads/{thread['id']}"), 404)


def test_a_thread_is_deleted_under_either_name(store: Store) -> None:
    name = created(store.client, *ITEMS)
    assert store.client.delete(f"/v1/threads/{name}").status_code == 200
    refused(store.client.get(f"/v1/conversations/{name}"), 404)


def test_a_new_thread_may_be_named_as_a_conversation(store: Store) -> None:
    made = store.client.post("/v1/threads", json={"id": "conv_sea"}).json
    assert made is not None
    assert made["id"] == "thread_sea"
    assert store.client.get("/v1/conversations/conv_sea").json["id"] == "conv_sea"  # type: ignore[index]


def walked(client: FlaskClient, order: str) -> list[str]:
    """The names in pages of two."""
    found, after = list[str](), ""
    while True:
        page = client.get(f"/v1/conversations?limit=2&order={order}{after}").json
        assert page is not None
        assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
        found += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def test_the_list_of_conversations(store: Store) -> None:
    names = [created(store.client, metadata={"number": str(number)}) for number in range(3)][::-1]
    store.client.post("/v1/threads", json={"id": "jan_1700000000"})
    for order in ("desc", "asc"):
        found = walked(store.client, order)
        assert sorted(found) == sorted([*names, "jan_1700000000"])
        assert [name for name in found if name.startswith("conv_")] == (names if order == "desc" else names[::-1])
    threads = store.client.get(f"/v1/threads?limit=1&after={names[0]}").json
    assert threads is not None
    newest_first = walked(store.client, "desc")  # Jan's stands among them by its second
    assert threads[0]["id"] == newest_first[newest_first.index(names[0]) + 1].replace("conv_", "thread_")
    assert store.client.get("/v1/conversations/jan_1700000000").json["id"] == "jan_1700000000"  # type: ignore[index]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"items": 5}, 400, "items"),
        ({"items": [{"role": "user"}]}, 400, "items.0.content"),
        ({"items": [{"role": "user", "content": "x"}, {"type": "computer_call"}]}, 400, "items.1.type"),
        ({"items": [ITEMS[4]]}, 400, "items.0"),
        ({"items": [{"type": "item_reference", "id": "msg_../x"}]}, 404, "items.0"),
        ({"items": [{"role": "user", "content": "x"}] * 10_001}, 400, "items"),
        ({"metadata": "x"}, 400, "metadata"),
        ({"items": [{**ITEMS[3], "arguments": "x" * (17 << 20)}]}, 413, "items.0"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(
    store: Store, body: dict[str, Any], status: int, param: str
) -> None:
    refused(store.client.post("/v1/conversations", json=body), status, param)
    assert store.repository.threads.count() == 0
    if "items" not in body:
        return
    name = created(store.client)
    refused(store.client.post(f"/v1/conversations/{name}/items", json=body), status, param)
    assert kinds(store.client, name) == []


@pytest.mark.parametrize("name", ["conv_nothing", "thread_nothing", "..%2Fx", "conv_..%2F..%2Fx", "x" * 200, "conv_"])
def test_unknown_conversations(store: Store, name: str) -> None:
    path = f"/v1/conversations/{name}"
    new = {"items": [{"role": "user", "content": "x"}]}
    for response in (
        store.client.get(path),
        store.client.post(path, json={"metadata": {}}),
        store.client.delete(path),
        store.client.get(f"{path}/items"),
        store.client.post(f"{path}/items", json=new),
        store.client.get(f"{path}/items/msg_1"),
        store.client.delete(f"{path}/items/msg_1"),
    ):
        refused(response, 404)


def test_queries(store: Store) -> None:
    name = created(store.client, *ITEMS)
    path = f"/v1/conversations/{name}/items"
    for query, param in (
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("order=up", "order"),
        ("after=nothing", "after"),
        ("after=../x", "after"),
        ("include=x", "include.0"),
        ("include[]=x", "include[].0"),
    ):
        refused(store.client.get(f"{path}?{query}"), 400, param)
    refused(store.client.post(path, json={}), 400, "items")
    refused(store.client.get(f"{path}/msg_nothing"), 404, "item_id")
    refused(store.client.delete(f"{path}/msg_nothing"), 404, "item_id")
    assert store.client.get(f"{path}?include=message.output_text.logprobs").status_code == 200


def test_no_conversation_is_lost_between_names(store: Store, world: World) -> None:
    """Metadata alone, no body at all, an update with nothing in it."""
    assert store.client.post("/v1/conversations").status_code == 200
    name = created(store.client, metadata={"a": "b"})
    assert store.client.post(f"/v1/conversations/{name}", json={}).json["metadata"] == {"a": "b"}  # type: ignore[index]
    assert store.client.patch(f"/v1/conversations/{name}", json={"metadata": {}}).json["metadata"] == {}  # type: ignore[index]
