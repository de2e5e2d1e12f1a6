"""Chat completions that are stored: told as any other, on disk before they are answered, told again by their id."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionDeleted

from janflask.errors import EngineError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from tests.fakes.scripted import DONE, Conversation
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app
from tests.unit.api.stored import refused

URL = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
STORED = {**CHAT, "store": True}
BOS = 256  # a token of the scripted engine's is a byte
PIECES = ["Glass ", "is\n", "“sand”."]
TOP = (TopLogprob("is", b"is", -0.5, 7), TopLogprob("\ufffd", b"\xe2", -9.5, 8))


def says(*pieces: str, reason: str = "stop") -> Any:
    def script(conversation: Conversation) -> None:
        count = conversation.request.sampling.top_logprobs
        logprobs = () if count is None else (TokenLogprob("is", b"is", -0.5, 7, TOP[:count]),)
        conversation.send(Started(3), *[Chunk(0, piece, logprobs) for piece in pieces], Finished(0, reason), DONE)

    return script


@pytest.fixture
def app(world: World) -> Iterator[Flask]:
    with running_app(world) as app:
        yield app


def chunks_of(text: str) -> list[dict[str, Any]]:
    """What is in the ``data:`` lines."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def same(answer: Any) -> Any:
    """Without what differs between any two answers."""
    return {name: value for name, value in answer.items() if name not in ("id", "created")}


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with its usage": {"stream_options": {"include_usage": True}},
    "with log-probabilities": {"logprobs": True, "top_logprobs": 2},
    "with the chosen tokens' alone": {"logprobs": True},
    "cut": {"max_tokens": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_that_of_any_other_chat(client: FlaskClient, world: World, kind: str) -> None:
    world.engine.script = says(*PIECES, reason="length" if kind == "cut" else "stop")
    plain = client.post(URL, json={**CHAT, "stream": True, **KINDS[kind]})
    stored = client.post(URL, json={**STORED, "stream": True, **KINDS[kind]})
    assert (stored.status_code, stored.mimetype) == (200, "text/event-stream")
    assert "id:" not in stored.text
    told = chunks_of(stored.text)
    assert [same(chunk) for chunk in told] == [same(chunk) for chunk in chunks_of(plain.text)]
    for chunk in told:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert {chunk["id"] for chunk in told} == {stored.headers["X-Chat-Completion-Id"]}


@pytest.mark.parametrize("kind", ["plain", "with log-probabilities", "with the chosen tokens' alone", "cut"])
def test_a_whole_one_is_that_of_any_other_chat_and_is_told_again(client: FlaskClient, world: World, kind: str) -> None:
    world.engine.script = says(*PIECES, reason="length" if kind == "cut" else "stop")
    plain = client.post(URL, json={**CHAT, **KINDS[kind]}).json
    stored = client.post(URL, json={**STORED, **KINDS[kind], "temperature": 0.5, "metadata": {"a": "b"}})
    assert plain is not None
    assert stored.json is not None
    assert {name: stored.json[name] for name in same(plain)} == same(plain)
    assert (stored.json["temperature"], stored.json["metadata"]) == (0.5, {"a": "b"})
    ChatCompletion.model_validate(stored.json, strict=True)
    assert client.get(f"{URL}/{stored.json['id']}").json == stored.json


def test_a_thought_a_call_and_the_older_form_of_it(client: FlaskClient, world: World) -> None:
    world.runs_as(ctx_len=8192)
    function = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}
    world.engine.script = says('<tool_call>{"name": "look", "arguments": {"at": "sea"}}</tool_call>')
    for body in {"tools": [{"type": "function", "function": function}]}, {"functions": [function]}:
        plain = client.post(URL, json={**CHAT, **body}).json
        stored = client.post(URL, json={**STORED, **body}).json
        assert plain is not None
        assert stored is not None
        assert plain["choices"][0]["finish_reason"] in ("tool_calls", "function_call")
        assert without_ids(stored["choices"]) == without_ids(plain["choices"])
        streamed = chunks_of(client.post(URL, json={**STORED, **body, "stream": True}).text)
        assert streamed[-1]["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
        assert stored["tools"] == [{"type": "function", "function": function}]


def without_ids(choices: Any) -> Any:
    return json.loads(re.sub(r'"id": "[^"]*"', '"id": ""', json.dumps(choices)))


# --- what is stored ---------------------------------------------------------------------------------------------------

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "developer",
        "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}],
        "name": "Ann",
    },
    {"role": "user", "content": "Look.", "name": "Bob"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."},
    {"role": "tool", "content": "blue", "tool_call_id": "call_1"},
    {"role": "assistant", "content": "It is", "refusal": "No."},
    {"role": "assistant", "content": "blue."},
    {"role": "user", "content": ""},
]


def test_messages_keep_their_form(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    stored = client.post(URL, json={**STORED, "messages": MESSAGES}).json
    assert stored is not None, world
    listed = client.get(f"{URL}/{stored['id']}/messages").json
    assert listed is not None
    assert (listed["object"], listed["has_more"]) == ("list", False)
    fields = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal")
    given = [{name: message[name] for name in fields if message.get(name) is not None} for message in MESSAGES]
    given[1]["content"] = "Be\nkind."
    found = [{name: message[name] for name in fields if message.get(name) is not None} for message in listed["data"]]
    assert found == given
    assert [message["content_parts"] for message in listed["data"]][:2] == [None, MESSAGES[1]["content"]]


def test_the_model_is_shown_the_same_as_of_any_other_chat(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    for store in False, True:
        assert client.post(URL, json={**CHAT, "messages": MESSAGES[:3], "store": store}).status_code == 200
    plain, stored = (request.prompt for request in world.engine.requests)
    assert isinstance(stored, tuple), "it was cut into tokens to see whether it fits"
    assert bytes(token for token in stored if token < BOS) == str(plain).encode()


def test_it_is_a_thread(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    stored = client.post(URL, json=STORED).json
    (thread,) = client.get("/v1/threads").json or []
    messages = (client.get(f"/v1/threads/{thread['id']}/messages?order=asc").json or {})["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["run_id"] == (stored or {})["id"]
    assert client.delete(f"/v1/threads/{thread['id']}").status_code == 200
    refused(client.get(f"{URL}/{(stored or {})['id']}"), 404)


def test_without_store_nothing_is_kept(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    for body in CHAT, {**CHAT, "store": False, "metadata": 7}, {**CHAT, "store": None, "stream": True}:
        answer = client.post(URL, json=body)
        assert answer.status_code == 200
        assert "X-Chat-Completion-Id" not in answer.headers
    assert ids_in(client) == []
    assert not list(world.settings.threads_dir.glob("*/thread.json"))


# --- afterwards -------------------------------------------------------------------------------------------------------


def made(client: FlaskClient, **body: Any) -> str:
    answer = client.post(URL, json={**STORED, **body}).json
    assert answer is not None
    assert "id" in answer, answer
    return str(answer["id"])


def ids_in(client: FlaskClient, query: str = "") -> list[str]:
    answer = client.get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return [chat["id"] for chat in answer.json["data"]]


def test_the_list(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    world.write_model("other")
    world.supervisor.states["other"] = world.supervisor.run("other", world.engine)
    chats = [made(client, metadata={"number": str(number), "of": "three"}) for number in range(3)]
    other = made(client, model="other")
    assert ids_in(client) == [*chats, other]
    assert ids_in(client, "order=desc&limit=2") == [other, chats[2]]
    assert ids_in(client, f"after={chats[0]}&limit=1") == [chats[1]]
    assert ids_in(client, "model=tiny") == chats
    assert ids_in(client, "model=none") == []
    assert ids_in(client, "metadata[number]=1") == [chats[1]]
    assert ids_in(client, "metadata[number]=1&metadata[of]=four") == []
    assert ids_in(client, "metadata%5Bof%5D=three&limit=2") == chats[:2]
    page = client.get(f"{URL}?limit=2").json
    assert page is not None
    assert (page["first_id"], page["last_id"], page["has_more"]) == (chats[0], chats[1], True)
    for odd in "metadata=1", "metadata.of=three", "metadata[of=three", "metadata[of]=three&metadata[of]=four":
        refused(client.get(f"{URL}?{odd}"), 400, "metadata")
    refused(client.get(f"{URL}?limit=0"), 400, "limit")
    refused(client.get(f"{URL}?order=up"), 400, "order")
    refused(client.get(f"{URL}?after=..%2F.."), 400, "after")


def test_the_sdk(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = says(*PIECES)
    messages: Any = CHAT["messages"]
    chat = sdk.chat.completions.create(model="tiny", messages=messages, store=True, metadata={"topic": "glass"})
    assert sdk.chat.completions.retrieve(chat.id) == chat
    assert [found.id for found in sdk.chat.completions.list(model="tiny", metadata={"topic": "glass"})] == [chat.id]
    assert [message.content for message in sdk.chat.completions.messages.list(chat.id)] == ["Hi"]
    assert sdk.chat.completions.update(chat.id, metadata={"topic": "sand"}).metadata == {"topic": "sand"}
    assert sdk.chat.completions.retrieve(chat.id).metadata == {"topic": "sand"}
    with sdk.chat.completions.stream(model="tiny", messages=messages, store=True) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "".join(PIECES)
    rest = sdk.get(
        f"/chat/completions/{final.id}",
        cast_to=ChatCompletionChunk,
        options={"params": {"stream": "true", "starting_after": 2}},
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    assert [chunk.choices[0].delta.content for chunk in rest] == [*PIECES[1:], None]
    for completion in chat, final:
        deleted = sdk.chat.completions.delete(completion.id)
        assert deleted == ChatCompletionDeleted(id=completion.id, object="chat.completion.deleted", deleted=True)
        with pytest.raises(openai.NotFoundError, match=completion.id):
            sdk.chat.completions.retrieve(completion.id)
    assert list(sdk.chat.completions.list()) == []
    assert not list(world.settings.threads_dir.glob("*/thread.json"))


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_joined_at_any_place(client: FlaskClient, world: World, usage: bool) -> None:
    world.engine.script = says(*PIECES)
    first = client.post(URL, json={**STORED, "stream": True, "stream_options": {"include_usage": usage}})
    path, whole = f"{URL}/{first.headers['X-Chat-Completion-Id']}?stream=true", chunks_of(first.text)
    assert len(whole) == 5 + usage
    for after in range(len(whole) + 2):
        rest = client.get(f"{path}&starting_after={after}")
        assert (rest.status_code, rest.mimetype) == (200, "text/event-stream")
        assert chunks_of(rest.text) == whole[after:]
        assert re.findall(r"^id: (.*)$", rest.text, re.MULTILINE) == [str(n + 1) for n in range(after, len(whole))]
        again = client.get(f"{path}&starting_after=0", headers={"Last-Event-ID": str(after)})
        assert again.text == rest.text
    assert client.get(path).text == client.get(f"{path}&starting_after=0").text


def test_it_goes_on_when_its_client_leaves(client: FlaskClient, world: World) -> None:
    may_end = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(3), Chunk(0, "Glass "))
        may_end.wait(20)
        conversation.send(Chunk(0, "is."), Finished(0, "stop"), DONE)

    world.engine.script = script
    left = client.post(URL, json={**STORED, "stream": True})
    name = left.headers["X-Chat-Completion-Id"]
    heard = b""
    while b"Glass" not in heard:
        heard += next(iter(left.response))  # type: ignore[call-overload]
    left.close()
    assert ids_in(client) == [], "it has not been answered"
    threading.Timer(0.1, may_end.set).start()
    joined = client.get(f"{URL}/{name}?stream=true&starting_after=2")
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks_of(joined.text)] == ["is.", None]
    assert ids_in(client) == [name]
    chat = client.get(f"{URL}/{name}").json
    assert chat is not None
    assert chat["choices"][0]["message"]["content"] == "Glass is."


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
def test_one_that_fails_before_a_word_is_an_error_and_is_not_kept(
    client: FlaskClient, world: World, is_stream: bool
) -> None:
    world.engine.script = lambda conversation: conversation.fail(EngineError("out of luck"))
    plain = refused(client.post(URL, json={**CHAT, "stream": is_stream}), 500)
    assert refused(client.post(URL, json={**STORED, "stream": is_stream}), 500) == plain
    long = [{"role": "user", "content": "word " * 5000}]
    error = refused(client.post(URL, json={**STORED, "messages": long, "stream": is_stream}), 400, "messages")
    assert error["code"] == "context_length_exceeded"
    assert not list(world.settings.threads_dir.glob("*/thread.json"))


def test_a_file_that_was_edited_by_hand_stands_in_nobodys_way(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    names = [made(client, logprobs=True) for _ in range(3)]
    files = [next(world.settings.threads_dir.glob(f"*/runs/{name}.json")) for name in names]
    for file, odd in zip(files, ({"timings": {"x": 1}}, {"status": "failed", "failure": {"x": 1}}), strict=False):
        file.write_text(json.dumps({**json.loads(file.read_text()), **odd}))
    reply = files[2].with_suffix(".reply")
    reply.write_text(re.sub(r'"logprobs":\[.*\]', '"logprobs":[{"token":"ok"}]', reply.read_text()))
    assert ids_in(client) == [names[0], names[2]]
    assert '"token"' not in client.get(f"{URL}/{names[2]}?stream=true").text
    assert '"token"' in client.get(f"{URL}/{names[0]}?stream=true").text
    timed = client.get(f"{URL}/{names[0]}").json or {}
    assert timed["choices"][0]["message"]["content"] == "ok"
    assert "timings" not in timed
    assert client.get(f"{URL}/{names[0]}?stream=true").text.endswith("[DONE]\n\n")
    assert names[1] in refused(client.get(f"{URL}/{names[1]}"), 500)["message"]


def test_one_whose_client_left_before_it_failed_stays_until_it_is_deleted(client: FlaskClient, world: World) -> None:
    may_fail = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(3))
        may_fail.wait(20)
        conversation.fail(EngineError("out of luck"))

    world.engine.script = script
    left = client.post(URL, json={**STORED, "stream": True})
    left.close()
    may_fail.set()
    path = f"{URL}/{left.headers['X-Chat-Completion-Id']}"
    for _ in range(2):
        assert refused(client.get(path), 500)["message"] == "out of luck"
        assert refused(client.get(f"{path}?stream=true"), 500)["message"] == "out of luck"
        assert refused(client.post(path, json={"metadata": {"a": "b"}}), 500)["message"] == "out of luck"
        (message,) = (client.get(f"{path}/messages").json or {})["data"]
        assert message["content"] == "Hi"
    assert client.delete(path).status_code == 200
    refused(client.get(path), 404)
    assert not list(world.settings.threads_dir.glob("*/thread.json"))


def test_one_that_fails_later_keeps_its_words_and_is_in_no_list(client: FlaskClient, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(3), Chunk(0, "Glass "))
        conversation.fail(EngineError("out of luck"))

    world.engine.script = script
    broken = client.post(URL, json={**STORED, "stream": True})
    path = f"{URL}/{broken.headers['X-Chat-Completion-Id']}"
    for told in broken, client.get(f"{path}?stream=true"):
        last = json.loads(told.text.split("data: ")[-1])
        assert (told.status_code, last["error"]["message"]) == (200, "out of luck")
        assert "Glass" in told.text
    assert refused(client.get(path), 500)["message"] == "out of luck"
    assert ids_in(client) == []
    assert client.delete(path).status_code == 200


BAD: dict[str, dict[str, Any]] = {
    "n": {"n": 2},
    "continue_final_message": {
        "messages": [*CHAT["messages"], {"role": "assistant", "content": "Well"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    },
    "add_generation_prompt": {"add_generation_prompt": False},
    "reasoning_format": {"reasoning_format": "none"},
    "metadata": {"metadata": {str(number): "x" for number in range(17)}},
    "metadata.a": {"metadata": {"a": 1}},
    "metadata.b": {"metadata": {"b": "x" * 513}},
    "response_format.json_schema.schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    "tools.0": {"tools": [{"type": "function", "function": {"name": "f", "description": "x" * (65 << 10)}}]},
    "store": {"store": "yes"},
}


def test_what_cannot_be_stored_is_refused_by_name(client: FlaskClient, world: World) -> None:
    for param, body in BAD.items():
        error = refused(client.post(URL, json={**STORED, **body}), 400)
        assert (error["param"] or "").startswith(param.split(".")[0]), param
    assert not list(world.settings.threads_dir.glob("*"))


UNKNOWN = ["chatcmpl-1", "chatcmpl-01hf7yat00q4m2w8r5c9e3x6tz01hf7yat00n3x8k2d5v7w9c4bm", "..", "..%2F..%2Fetc", "%00"]


def test_ids_that_are_none(client: FlaskClient) -> None:
    for name in UNKNOWN:
        for path in f"{URL}/{name}", f"{URL}/{name}/messages", f"{URL}/{name}?stream=true":
            refused(client.get(path), 404)
        refused(client.delete(f"{URL}/{name}"), 404)
        refused(client.post(f"{URL}/{name}", json={"metadata": {}}), 404)


def test_queries_and_changes_that_are_none(client: FlaskClient, world: World) -> None:
    world.engine.script = says("ok")
    path = f"{URL}/{made(client, metadata={'a': 'b'})}"
    refused(client.get(f"{path}?stream=yes"), 400, "stream")
    refused(client.get(f"{path}?stream=true&starting_after=-1"), 400, "starting_after")
    refused(client.get(f"{path}?starting_after=1"), 400, "starting_after")
    refused(client.get(f"{path}?stream=true", headers={"Last-Event-ID": "x"}), 400, "Last-Event-ID")
    changes: list[Any] = [{}, {"metadata": []}, {"metadata": {"k" * 65: ""}}, {"metadata": {"a": None}}]
    for change in changes:
        assert (refused(client.post(path, json=change), 400)["param"] or "").startswith("metadata")
    assert (client.get(path).json or {})["metadata"] == {"a": "b"}
    assert (client.post(path, json={"metadata": None}).json or {})["metadata"] == {}
