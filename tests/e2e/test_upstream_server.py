"""A whole server whose models run elsewhere: on another janflask, and on a server that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from janflask.models.upstream import ServerKind
from tests.e2e.run_events import events as run_events
from tests.e2e.server import LIMIT, MODEL, Server, raw_request, serving, wait_for
from tests.fakes import openai_server as fakes
from tests.fakes.openai_server import FakeUpstream, answers, breaks, hangs_up, holds, says, status

MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue?"}]
GREEDY: dict[str, Any] = {"max_tokens": 12, "temperature": 0}
FINAL = {"completed", "incomplete", "failed", "cancelled", "expired"}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeUpstream]:
    with fakes.serving([says("x")]) as fake:
        fake.tokens = 9
        yield fake


@pytest.fixture(scope="module")
def near(server: Server, fake: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a model of its own: ``far`` runs at another janflask, ``bad`` at a server that misbehaves."""
    data_dir = tmp_path_factory.mktemp("near") / "data"
    key = data_dir / "models" / "bad" / "bad.key"
    _write(data_dir, "far", [f"{server.url}/v1"], MODEL, ServerKind.JANFLASK)
    _write(data_dir, "bad", [fake.base_url], "there", ServerKind.VLLM, api_key_file="bad.key", max_concurrent=2)
    key.touch(0o600)
    key.write_text("sk-very-secret")
    with serving(data_dir, JANFLASK_WORKERS="2", JANFLASK_KEEPALIVE="0.1", JANFLASK_QUEUE_LIMIT="1") as near:
        yield near
        assert "sk-very-secret" not in near.logs()


def _write(data_dir: Path, name: str, urls: list[str], model: str, kind: ServerKind, **more: Any) -> None:
    folder = data_dir / "models" / name
    folder.mkdir(parents=True)
    entry = {"id": name, "upstream": {"base_urls": urls, "model": model, "kind": kind, **more}}
    (folder / "model.json").write_text(json.dumps(entry))


@pytest.fixture
def client(near: Server) -> Iterator[openai.OpenAI]:
    with near.sdk() as client:
        yield client


def script(fake: FakeUpstream, *behaviours: Any) -> None:
    fake.release.clear()
    with fake.lock:
        fake.script[:] = behaviours
        fake.asked.clear()
        fake.left = 0


def run(near: Server, model: str, **fields: Any) -> tuple[str, str]:
    """A run on a thread with one question; their ids."""
    thread = near.post("/v1/threads", json={"messages": MESSAGES}).json()["id"]
    answer = near.post(f"/v1/threads/{thread}/runs", json={"model": model, **fields})
    assert answer.status_code == 200, answer.text
    return thread, answer.json()["id"]


def ended(near: Server, thread: str, run_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        one: dict[str, Any] = near.get(f"/v1/threads/{thread}/runs/{run_id}").json()
        return one

    wait_for(lambda: found()["status"] in FINAL, "the run to end")
    return found()


def reply(near: Server, thread: str) -> str:
    last = near.get(f"/v1/threads/{thread}/messages?limit=1").json()["data"][0]
    text: str = last["content"][0]["text"]["value"]
    return text


# --- on another janflask ----------------------------------------------------------------------------------------------


def test_a_chat_says_what_it_says_there(client: openai.OpenAI, sdk: openai.OpenAI) -> None:
    # Once before: all that are compared find the prompt cached, so that a near tie falls to the same side.
    sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **GREEDY)
    direct = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **GREEDY)
    through = client.chat.completions.create(model="far", messages=MESSAGES, **GREEDY)
    assert through.choices[0].message.content == direct.choices[0].message.content
    assert through.choices[0].finish_reason == "length"
    assert through.usage is not None
    assert direct.usage is not None
    assert through.usage.prompt_tokens == direct.usage.prompt_tokens
    assert through.model == "far"
    stream = client.chat.completions.create(
        model="far", messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == direct.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_scores_and_tokens_come_through(client: openai.OpenAI, sdk: openai.OpenAI, near: Server) -> None:
    asked: Any = {"prompt": ["One two", "Grüße"], "max_tokens": 2, "temperature": 0, "logprobs": 2, "echo": True}
    direct = sdk.completions.create(model=MODEL, **asked)
    through = client.completions.create(model="far", **asked)
    for theirs, ours in zip(direct.choices, through.choices, strict=True):
        assert ours.text == theirs.text
        assert ours.logprobs is not None
        assert theirs.logprobs is not None
        assert ours.logprobs.tokens == theirs.logprobs.tokens
        assert ours.logprobs.text_offset == theirs.logprobs.text_offset
        assert [set(each or ()) for each in ours.logprobs.top_logprobs or ()] == [
            set(each or ()) for each in theirs.logprobs.top_logprobs or ()
        ]
    tokens = near.post("/v1/tokenize", json={"model": "far", "content": "Grüße"}).json()["tokens"]
    assert near.post("/v1/detokenize", json={"model": "far", "tokens": tokens}).json()["content"] == "Grüße"


def test_a_run_answers(near: Server, client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model="far", messages=MESSAGES, **GREEDY)
    thread, run_id = run(near, "far", max_completion_tokens=12, temperature=0)
    final = ended(near, thread, run_id)
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert reply(near, thread) == chat.choices[0].message.content
    assert chat.usage is not None
    assert final["usage"]["prompt_tokens"] == chat.usage.prompt_tokens


def test_a_run_that_is_cancelled_ends_there(near: Server, server: Server) -> None:
    thread, run_id = run(near, "far", ignore_eos=True, max_completion_tokens=1500)
    wait_for(lambda: server.stats()["busy"] == 1, "the run to be under way there")
    near.post(f"/v1/threads/{thread}/runs/{run_id}/cancel").raise_for_status()
    assert ended(near, thread, run_id)["status"] == "cancelled"
    wait_for(lambda: server.stats()["busy"] == 0, "the run to end there")


# --- on a server that misbehaves --------------------------------------------------------------------------------------


def test_a_run_goes_on_where_its_answer_broke_off(near: Server, fake: FakeUpstream) -> None:
    script(fake, breaks("Because", " of"), says(" air"))
    thread, run_id = run(near, "bad")
    assert ended(near, thread, run_id)["status"] == "completed"
    assert reply(near, thread) == "Because of air"
    first, second = fake.posts
    assert first.body["messages"] == MESSAGES
    assert second.body["messages"] == [*MESSAGES, {"role": "assistant", "content": "Because of"}]
    assert second.body["continue_final_message"] is True


def test_no_run_is_left_unfinished(near: Server, fake: FakeUpstream) -> None:
    for bad, words in (
        (hangs_up, "broke off the connection"),
        (status(401, "sk-very-secret"), "check the key"),
        (breaks("a"), "broke off the connection"),
        (answers(b"<html>"), "did not answer with a stream of events"),
    ):
        script(fake, bad)
        thread, run_id = run(near, "bad")
        final = ended(near, thread, run_id)
        assert final["status"] == "failed"
        assert words in final["last_error"]["message"]
        assert "sk-very-secret" not in final["last_error"]["message"]


@pytest.mark.parametrize(
    ("behaviour", "code", "word"),
    [
        (status(401, "no"), 502, "upstream_misconfigured"),
        (status(404, "The model `there` does not exist"), 502, "upstream_misconfigured"),
        (status(500, "boom"), 502, "upstream_error"),
        (status(503, "loading"), 503, "upstream_unavailable"),
        (status(400, "maximum context length is 9 tokens"), 400, "context_length_exceeded"),
        (status(422, "bad"), 400, "invalid_request"),
    ],
)
def test_a_refusal_is_a_true_status(near: Server, fake: FakeUpstream, behaviour: Any, code: int, word: str) -> None:
    script(fake, behaviour)
    for stream in (False,) if code == 503 else (False, True):  # a stream has begun before the last try has failed
        answer = near.post("/v1/chat/completions", json={"model": "bad", "messages": MESSAGES, "stream": stream})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (code, word)
        assert ("Retry-After" in answer.headers) is (code == 503)


def test_a_silence_is_filled_and_a_client_that_leaves_ends_the_request_there(near: Server, fake: FakeUpstream) -> None:
    script(fake, holds("Well"))
    with raw_request(near, {"model": "bad", "messages": MESSAGES, "stream": True}) as sock:
        seen = b""
        while seen.count(b": keep-alive") < 3:
            seen += sock.recv(4096)
        assert b"Well" in seen
    wait_for(lambda: fake.left == 1, "the upstream's request to end")


def test_places_are_those_of_all_workers_and_of_runs(near: Server, fake: FakeUpstream) -> None:
    """Two at once, one in line, whichever process they are in; the next one is refused."""
    script(fake, holds("Well"))
    thread, run_id = run(near, "bad")
    wait_for(lambda: fake.held == 1, "the run to be under way")
    body = {"model": "bad", "messages": MESSAGES, "stream": True}
    with raw_request(near, body), raw_request(near, body) as waiting:
        wait_for(lambda: fake.held == 2, "a chat to be under way")
        assert len(fake.posts) == 2
        refused = near.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        waiting.close()
        fake.release.set()
    assert ended(near, thread, run_id)["status"] == "completed"


def test_an_error_in_mid_stream_is_the_last_event(near: Server, fake: FakeUpstream) -> None:
    script(fake, breaks("a"))
    body = {"model": "bad", "messages": MESSAGES, "stream": True}
    with httpx.stream("POST", f"{near.url}/v1/chat/completions", json=body, timeout=LIMIT) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "upstream_unavailable"
    assert any('"content":"a"' in line for line in lines)


def test_a_streamed_run(near: Server, fake: FakeUpstream) -> None:
    script(fake, says("one", " two"))
    thread = near.post("/v1/threads", json={"messages": MESSAGES}).json()["id"]
    url, body = f"{near.url}/v1/threads/{thread}/runs", {"model": "bad", "stream": True}
    with httpx.stream("POST", url, json=body, timeout=LIMIT) as answer:
        names = [name for _, name, _ in run_events(answer)]
    assert "thread.run.completed" in names
    assert reply(near, thread) == "one two"


def test_embeddings(client: openai.OpenAI, fake: FakeUpstream) -> None:
    script(fake, answers({"data": [{"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 2}}))
    found = client.embeddings.create(model="bad", input="hi")
    assert found.data[0].embedding == pytest.approx([0.6, 0.8])
    assert found.usage.prompt_tokens == 2


def test_thoughts_are_apart_from_the_answer(near: Server, fake: FakeUpstream) -> None:
    thought = {"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]}
    script(fake, fakes.events(thought, fakes.piece("Yes."), fakes.piece(reason="stop"), b"[DONE]"))
    message = near.post("/v1/chat/completions", json={"model": "bad", "messages": MESSAGES}).json()["choices"][0]
    assert message["message"]["reasoning_content"] == "hm"
    assert message["message"]["content"] == "Yes."


LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
        "strict": False,
    },
}
LISTEN: Any = {"type": "function", "function": {"name": "listen"}}


def test_calls_come_through_as_they_grow(client: openai.OpenAI, fake: FakeUpstream) -> None:
    script(
        fake,
        fakes.events(
            fakes.piece("I look."),
            fakes.call_piece("", "look", id="call_1"),
            fakes.call_piece('{"at":'),
            fakes.call_piece('"sky"}'),
            fakes.call_piece("{}", "listen", 1, id="call_2"),
            fakes.piece(reason="stop"),  # as vLLM ends an answer whose call was named
            b"[DONE]",
        ),
    )
    with client.chat.completions.stream(
        model="bad", messages=MESSAGES, tools=[LOOK, LISTEN], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.content == "I look."
    calls = [(call.id, call.function.name, call.function.arguments) for call in final.message.tool_calls or ()]
    assert calls == [("call_1", "look", '{"at":"sky"}'), ("call_2", "listen", "{}")]
    (asked,) = fake.posts
    assert [tool["function"]["name"] for tool in asked.body["tools"]] == ["look", "listen"]
    assert asked.body["tool_choice"] == "required"


def test_a_tools_result_goes_back_and_one_function_is_named(client: openai.OpenAI, fake: FakeUpstream) -> None:
    script(fake, says("blue"))
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
    history: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "blue"}]},
    ]
    choice: Any = {"type": "function", "function": {"name": "listen"}}
    answer = client.chat.completions.create(model="bad", messages=history, tools=[LOOK, LISTEN], tool_choice=choice)
    assert answer.choices[0].message.content == "blue"
    assert answer.choices[0].finish_reason == "stop"  # whatever was asked of it, it has not called
    (asked,) = fake.posts
    assert asked.body["messages"] == [*history[:2], {"role": "tool", "tool_call_id": "call_1", "content": "blue"}]
    assert asked.body["tool_choice"] == choice


def test_the_older_form_of_calls(client: openai.OpenAI, fake: FakeUpstream) -> None:
    script(fake, fakes.events(fakes.call_piece("{}", "look", id="call_1"), fakes.piece(reason="tool_calls"), b"[DONE]"))
    answer = client.chat.completions.create(model="bad", messages=MESSAGES, functions=[LOOK["function"]])
    choice = answer.choices[0]
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.finish_reason) == ("look", "function_call")
    assert fake.posts[0].body["parallel_tool_calls"] is False


def test_an_answer_that_is_not_what_was_asked_for_says_so(client: openai.OpenAI, fake: FakeUpstream) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "number", "strict": True, "schema": schema}}
    for words, refused in (('{"n": 1}', False), ('{"n": "one"}', True)):
        script(fake, says(words))
        message = (
            client.chat.completions.create(model="bad", messages=MESSAGES, response_format=form).choices[0].message
        )
        assert message.content == words
        assert (message.refusal is not None) is refused
    assert fake.posts[0].body["response_format"] == form


def test_what_a_kind_cannot_do_is_refused_by_name(near: Server, fake: FakeUpstream) -> None:
    script(fake, says("x"))
    beside = {"response_format": {"type": "json_object"}, "tools": [LOOK]}
    answer = near.post("/v1/chat/completions", json={"model": "bad", "messages": MESSAGES, **beside})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "response_format"
    assert not fake.posts


def test_a_run_calls_tools_of_which_one_call_broke_off(near: Server, fake: FakeUpstream) -> None:
    """What was said before it stands; the call is made anew, and its output goes back."""
    call = [fakes.call_piece("", "look", id="call_1"), fakes.call_piece('{"at":"sky"}')]
    script(
        fake,
        breaks("I look.", *call[:1], fakes.call_piece('{"at":')),
        fakes.events(*call, fakes.piece(reason="tool_calls"), b"[DONE]"),
        says("Because of air"),
    )
    thread, run_id = run(near, "bad", tools=[LOOK, LISTEN])

    def found() -> dict[str, Any]:
        one: dict[str, Any] = near.get(f"/v1/threads/{thread}/runs/{run_id}").json()
        return one

    wait_for(lambda: found()["status"] in {"requires_action", *FINAL}, "the run to call")
    assert found()["status"] == "requires_action", found()
    (wanted,) = found()["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert wanted["function"]["name"] == "look"
    assert wanted["function"]["arguments"] == '{"at":"sky"}'
    first, second = fake.posts
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["look", "listen"]
    assert second.body["messages"] == [*MESSAGES, {"role": "assistant", "content": "I look."}]
    assert second.body["continue_final_message"] is True
    outputs = {"tool_outputs": [{"tool_call_id": wanted["id"], "output": "blue"}]}
    near.post(f"/v1/threads/{thread}/runs/{run_id}/submit_tool_outputs", json=outputs).raise_for_status()
    assert ended(near, thread, run_id)["status"] == "completed"
    assert reply(near, thread).endswith("Because of air")
    *_, calling, result = fake.posts[-1].body["messages"]
    assert [each["id"] for each in calling["tool_calls"]] == [result["tool_call_id"]] == [wanted["id"]]
    assert (result["role"], result["content"]) == ("tool", "blue")
    assert "continue_final_message" not in fake.posts[-1].body


def test_a_run_that_broke_off_in_the_middle_of_a_form_fails(near: Server, fake: FakeUpstream) -> None:
    script(fake, breaks('{"n":'), says("1}"))
    thread, run_id = run(near, "bad", response_format={"type": "json_object"})
    final = ended(near, thread, run_id)
    assert final["status"] == "failed"
    assert "an answer that has a form cannot be continued" in final["last_error"]["message"]
    assert len(fake.posts) == 1
