"""Answers that are stored, whatever API they came by: bad input changes nothing, branches are apart, gone is gone."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import LIMIT, MODEL, Server

RESPONSES, CHATS, CONVERSATIONS = "/v1/responses", "/v1/chat/completions", "/v1/conversations"
SHORT: dict[str, Any] = {"model": MODEL, "max_output_tokens": 3, "temperature": 0}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "store": True}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "blue"}
UNKNOWN = "01hf7yat00q4m2w8r5c9e3x6tz01hf7yat00n3x8k2d5v7w9c4bm"


def made(server: Server, path: str = RESPONSES, **body: Any) -> dict[str, Any]:
    answer = server.post(path, json={**(CHAT if path == CHATS else {} if path == CONVERSATIONS else SHORT), **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def on_disk(server: Server) -> dict[str, str]:
    """What each file of the store holds."""
    files = (file for name in ("threads", "files", "assistants") for file in (server.data_dir / name).rglob("*"))
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


# --- bad input --------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "an unknown response": ({"previous_response_id": f"resp_{UNKNOWN}"}, 404, "previous_response_id"),
    "an id that is none": ({"previous_response_id": "x"}, 404, "previous_response_id"),
    "an id that leads elsewhere": ({"previous_response_id": "resp_../../models"}, 404, "previous_response_id"),
    "a chat's id": ({"previous_response_id": f"chatcmpl-{UNKNOWN}"}, 404, "previous_response_id"),
    "an unknown conversation": ({"conversation": f"conv_{UNKNOWN[:26]}"}, 404, "conversation"),
    "a conversation elsewhere": ({"conversation": "../../models"}, 404, "conversation"),
    "a conversation in an object elsewhere": ({"conversation": {"id": "conv_.."}}, 404, "conversation"),
    "an output before its call": ({"input": [OUTPUT, CALL]}, 400, "input.0"),
    "an output of nothing": ({"input": [{**OUTPUT, "call_id": "call_9"}]}, 400, "input.0"),
    "two outputs of a call": ({"input": [CALL, OUTPUT, OUTPUT]}, 400, "input.2"),
    "an unknown item": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 404, "input.0"),
    "an item elsewhere": ({"input": [{"type": "item_reference", "id": "../../x"}]}, 404, "input.0"),
    "an item that is none": ({"input": [{"type": "poem"}]}, 400, "input.0"),
    "a picture": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        400,
        "input.0",
    ),
    "huge arguments": ({"input": [{**CALL, "arguments": '{"x": "' + "x" * (9 << 20) + '"}'}, OUTPUT]}, 413, "input.0"),
    "too many items": ({"input": [{"role": "user", "content": "x"}] * 10_001}, 400, "input"),
    "too long": ({"input": [{"role": "user", "content": "word"}] * 3_000}, 400, "input"),
    "no model": ({"model": "no-such-model"}, 404, "model"),
}


@pytest.fixture(scope="module")
def named(server: Server) -> dict[str, str]:
    """Ids of what is there and was there."""
    response, gone, chat = made(server, input="Hi"), made(server, input="Hi"), made(server, CHATS)
    conversation = made(server, CONVERSATIONS)
    assert httpx.delete(f"{server.url}{RESPONSES}/{gone['id']}").status_code == 200
    return {"response": response["id"], "gone": gone["id"], "chat": chat["id"], "conversation": conversation["id"]}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_for_a_response_changes_nothing(server: Server, kind: str) -> None:
    fields, status, param = BAD[kind]
    before = on_disk(server)
    ways: list[dict[str, Any]] = [{}, {"stream": True}, {"store": False}]
    for how in ways if kind == "too long" else [*ways, {"background": True}]:  # there it is found out later
        answer = server.post(RESPONSES, json={**SHORT, "input": "Hi", **fields, **how})
        assert answer.status_code == status, (how, answer.text[:2000])
        check_error(answer, param)
    assert on_disk(server) == before


def check_error(answer: httpx.Response, param: str) -> None:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"] or "").startswith(param), error
    assert len(error["message"]) < 2000, "what was wrong is not told at length"


def test_what_is_gone_or_another_thing_is_no_previous_response(server: Server, named: dict[str, str]) -> None:
    before = on_disk(server)
    for body, status in (
        ({"previous_response_id": named["gone"]}, 404),
        ({"previous_response_id": named["chat"]}, 404),
        ({"previous_response_id": named["conversation"]}, 404),
        ({"previous_response_id": named["response"], "conversation": named["conversation"]}, 400),
        ({"conversation": named["response"]}, 404),
    ):
        answer = server.post(RESPONSES, json={**SHORT, "input": "Hi", **body})
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["param"] in ("previous_response_id", "conversation")
    assert on_disk(server) == before


ODD_IDS = ["..", "..%2F..%2Fmodels", "%2e%2e%2fx", "x" * 200, f"resp_{UNKNOWN}", f"chatcmpl-{UNKNOWN}", "%00", "a%0Ab"]


@pytest.mark.parametrize("name", ODD_IDS)
def test_ids_that_are_none_lead_nowhere(server: Server, named: dict[str, str], name: str) -> None:
    before = on_disk(server)
    conversation = f"{CONVERSATIONS}/{named['conversation']}/items"
    asked = [
        *(("GET", f"{RESPONSES}/{name}{tail}") for tail in ("", "?stream=true", "/input_items")),
        ("DELETE", f"{RESPONSES}/{name}"),
        ("POST", f"{RESPONSES}/{name}/cancel"),
        *(("GET", f"{CHATS}/{name}{tail}") for tail in ("", "?stream=true", "/messages")),
        ("DELETE", f"{CHATS}/{name}"),
        *(("GET", f"{CONVERSATIONS}/{name}{tail}") for tail in ("", "/items")),
        ("DELETE", f"{CONVERSATIONS}/{name}"),
        *((method, f"{conversation}/{name}") for method in ("GET", "DELETE")),
    ]
    for method, path in asked:
        status, content = raw(server, method, path)
        assert status in (404, 405), (method, path, content)
        assert set(content["error"]) == {"message", "type", "param", "code"}
    assert on_disk(server) == before


def raw(server: Server, method: str, path: str) -> tuple[int, Any]:
    """Status and body of a request for a path that nobody tidies up before it is sent."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": [{"role": "user", "content": "x"}] * 10_001}, 400),
        ({"messages": [{"role": "user", "content": "x" * (9 << 20)}]}, 413),
        ({"messages": [{"role": "user", "content": "word"}] * 3_000}, 400),
        ({"messages": [{"role": "tool", "content": "blue"}], "n": 2}, 400),
    ],
    ids=["too many", "too large", "too long", "too many answers"],
)
def test_a_bad_chat_that_is_to_be_stored_changes_nothing(server: Server, body: dict[str, Any], status: int) -> None:
    before = on_disk(server)
    for stream in False, True:
        answer = server.post(CHATS, json={**CHAT, **body, "stream": stream})
        assert answer.status_code == status, answer.text[:2000]
        check_error(answer, "")
    assert on_disk(server) == before


# --- branches, and ends -----------------------------------------------------------------------------------------------


def test_branches_of_a_response_do_not_see_each_other(sdk: openai.OpenAI, server: Server) -> None:
    """Several at once behind one response, and behind each of these: their prompts have the same length."""
    base = sdk.responses.create(model=MODEL, input="Remember a number.", max_output_tokens=5)

    def follow(previous: str, number: int) -> openai.types.responses.Response:
        said = f"It is {number}."
        return sdk.responses.create(model=MODEL, input=said, previous_response_id=previous, max_output_tokens=5)

    with ThreadPoolExecutor(6) as pool:
        first = list(pool.map(lambda number: follow(base.id, number), range(1, 7)))
        second = list(pool.map(lambda number: follow(first[number - 1].id, number), range(1, 7)))
    for number, branch in enumerate(zip(first, second, strict=True), 1):
        texts = said_in(server, branch[1].id)
        assert texts[:2] == ["Remember a number.", base.output_text]
        assert texts[2:] == [f"It is {number}.", branch[0].output_text, f"It is {number}.", branch[1].output_text]
    assert len({response.usage.input_tokens for response in first if response.usage is not None}) == 1
    assert said_in(server, base.id)[:2] == ["Remember a number.", base.output_text]


def said_in(server: Server, response_id: str) -> list[str]:
    """The texts of the thread that a response is in."""
    thread = server.thread_of(response_id)
    messages = server.get(f"/v1/threads/{thread}/messages?order=asc&limit=100").json()["data"]
    return [message["content"][0]["text"]["value"] for message in messages]


def test_what_is_deleted_by_one_api_is_gone_for_all(server: Server) -> None:
    chat, alone = made(server, CHATS), made(server, input="Hi")
    conversation = made(server, CONVERSATIONS)["id"]
    within = made(server, input="Hi", conversation=conversation)
    first = made(server, input="Hi")
    second = made(server, input="Ho", previous_response_id=first["id"])
    threads = {name: server.thread_of(name) for name in (chat["id"], alone["id"], within["id"], first["id"])}
    assert server.thread_of(second["id"]) == threads[first["id"]], "it goes on there"
    for deleted, gone in (
        (f"/v1/threads/{threads[chat['id']]}", [f"{CHATS}/{chat['id']}", f"{CHATS}/{chat['id']}/messages"]),
        (f"{RESPONSES}/{alone['id']}", [f"/v1/threads/{threads[alone['id']]}"]),
        (f"{CONVERSATIONS}/{conversation}", [f"{RESPONSES}/{within['id']}", f"/v1/threads/{threads[within['id']]}"]),
        (
            f"{CONVERSATIONS}/{threads[first['id']].replace('thread_', 'conv_')}",
            [f"{RESPONSES}/{first['id']}", f"{RESPONSES}/{second['id']}", f"{RESPONSES}/{second['id']}/input_items"],
        ),
    ):
        assert httpx.delete(server.url + deleted, timeout=LIMIT).status_code == 200, deleted
        for path in (deleted, *gone):
            assert server.get(path).status_code == 404, path
    assert not [path for path in on_disk(server) for thread in threads.values() if thread in Path(path).parts]
