"""What clients do. Each checks its answers, raises for what is wrong, and removes what it has stored."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import openai

from benchmarks.soak.clients import Activity, Visitor

LIMIT = 240.0  # seconds until something in the background is over
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"enum": ["sea", "sky"]}}, "required": ["at"]},
    },
}
FORM: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "colour",
        "schema": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}, "warm": {"type": "boolean"}},
            "required": ["colour", "warm"],
            "additionalProperties": False,
        },
    },
}


def _check(holds: object, problem: str) -> None:
    if not holds:
        raise RuntimeError(problem)


def _messages(visitor: Visitor, least: int = 3, most: int = 60) -> Any:
    system = "You answer in few words."  # which all share
    return [{"role": "system", "content": system}, {"role": "user", "content": visitor.words(least, most)}]


def chat(visitor: Visitor) -> None:
    """Some turns, each behind the last."""
    messages = _messages(visitor)
    for _ in range(visitor.rng.randint(1, 4)):
        answer = visitor.sdk.chat.completions.create(
            model=visitor.model, messages=messages, max_tokens=visitor.tokens(), temperature=0.8
        )
        _check(answer.choices[0].finish_reason in ("stop", "length"), f"ended with {answer.choices[0].finish_reason}")
        said = answer.choices[0].message.content or ""
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": visitor.words(2, 20)}]


def streamed_chat(visitor: Visitor) -> None:
    """Read to its end."""
    stream = visitor.sdk.chat.completions.create(
        model=visitor.model, messages=_messages(visitor), max_tokens=visitor.tokens(), stream=True
    )
    ends = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    _check(ends and ends[-1] in ("stop", "length"), f"a stream ended with {ends[-1:]}")


def long_prompt(visitor: Visitor) -> None:
    """Some hundred tokens, most of them new: up to what fits."""
    visitor.sdk.chat.completions.create(
        model=visitor.model, messages=_messages(visitor, 200, 800), max_tokens=4, temperature=0
    )


def left_stream(visitor: Visitor) -> None:
    """A client that goes away in the middle."""
    stream = visitor.sdk.chat.completions.create(
        model=visitor.model,
        messages=_messages(visitor),
        max_tokens=400,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    for _, _ in zip(range(visitor.rng.randint(1, 12)), stream, strict=False):
        pass
    stream.close()


def left_sockets(visitor: Visitor) -> None:
    """Clients that leave before the answer, in the body, and in the first words."""
    body: Any = {"model": visitor.model, "messages": _messages(visitor), "max_tokens": 200, "stream": True}
    visitor.raw.leave("/v1/chat/completions", body, read=0)
    visitor.raw.leave("/v1/chat/completions", body, read=0, part=0.5)
    visitor.raw.leave("/v1/chat/completions", {**body, "stream": False}, read=0)
    visitor.raw.leave("/v1/chat/completions", body, read=visitor.rng.randint(1, 3000))


def constrained(visitor: Visitor) -> None:
    """A form, and a call of a function."""
    sdk = visitor.sdk.chat.completions
    given: Any = {"model": visitor.model, "messages": _messages(visitor, 3, 10), "temperature": 0}
    said = sdk.create(**given, response_format=FORM, max_tokens=60).choices[0]
    _check(said.finish_reason == "length" or '"colour"' in (said.message.content or ""), f"no form: {said.message}")
    call = sdk.create(**given, tools=[TOOL], tool_choice="required", max_tokens=60).choices[0]
    _check(call.finish_reason == "length" or call.message.tool_calls, f"no call: {call.message}")


def completion(visitor: Visitor) -> None:
    """Two choices and their probabilities."""
    answer = visitor.sdk.completions.create(
        model=visitor.model, prompt=visitor.words(2, 30), n=2, logprobs=2, max_tokens=8
    )
    _check(len(answer.choices) == 2, "not two choices")


def other_model(visitor: Visitor) -> None:
    """One of those of which only one has room."""
    model = visitor.rng.choice(visitor.models[1:])
    answer = visitor.sdk.chat.completions.create(model=model, messages=_messages(visitor, 3, 20), max_tokens=6)
    _check(answer.model == model, f"{answer.model} answered")


def stored_chat(visitor: Visitor) -> None:
    """Kept, read again, and removed."""
    sdk = visitor.sdk.chat.completions
    made = sdk.create(model=visitor.model, messages=_messages(visitor), max_tokens=8, store=True)
    kept = sdk.retrieve(made.id)
    _check(kept.choices[0].message.content == made.choices[0].message.content, "a stored chat says something else")
    _check([message.role for message in sdk.messages.list(made.id)] == ["system", "user"], "its messages are others")
    sdk.delete(made.id)


def run(visitor: Visitor) -> None:
    """A thread with runs: streamed, polled, cancelled."""
    threads = visitor.sdk.beta.threads
    thread = threads.create(messages=[{"role": "user", "content": visitor.words(3, 30)}], metadata={"soak": "1"})
    given: Any = {"assistant_id": "jan", "model": visitor.model, "max_completion_tokens": visitor.tokens()}
    events = [event.event for event in threads.runs.create(thread.id, **given, stream=True)]
    _check(events[-1] in RUN_ENDS, f"a run's last events: {events[-3:]}")
    threads.messages.create(thread.id, role="user", content=visitor.words(3, 30))
    polled = threads.runs.create_and_poll(thread_id=thread.id, **given, poll_interval_ms=300)
    _check(f"thread.run.{polled.status}" in RUN_ENDS, f"a run {polled.status}: {polled.last_error}")
    _check(list(threads.runs.steps.list(polled.id, thread_id=thread.id)), "a run without steps")
    if visitor.rng.random() < 0.5:
        threads.messages.create(thread.id, role="user", content="Go on.")
        begun = threads.runs.create(thread.id, **{**given, "max_completion_tokens": 400})
        time.sleep(visitor.rng.random() * 2)
        _cancel(visitor, thread.id, begun.id)
    _check(len(list(threads.messages.list(thread.id))) >= 4, "messages are missing")
    threads.delete(thread.id)


RUN_ENDS = ("thread.run.completed", "thread.run.incomplete")


def _cancel(visitor: Visitor, thread_id: str, run_id: str) -> None:
    """Unless it is over: then it says so."""
    runs = visitor.sdk.beta.threads.runs
    with contextlib.suppress(openai.BadRequestError, openai.ConflictError):
        runs.cancel(run_id, thread_id=thread_id)
    deadline = time.monotonic() + LIMIT
    while (status := runs.retrieve(run_id, thread_id=thread_id).status) in ("queued", "in_progress", "cancelling"):
        _check(time.monotonic() < deadline, f"a cancelled run is {status} for ever")
        time.sleep(0.2)
    _check(status in ("cancelled", "completed", "incomplete"), f"a cancelled run {status}")


def thread(visitor: Visitor) -> None:
    """Messages, a file, changes, another one's key, export and import."""
    raw = visitor.raw
    made = raw.expect(200, "POST", "/v1/threads", {"title": visitor.words(1, 4)})
    path = f"/v1/threads/{made['id']}"
    ids = [
        raw.expect(200, "POST", f"{path}/messages", {"role": "user", "content": visitor.words(1, 50)})["id"]
        for _ in range(visitor.rng.randint(1, 8))
    ]
    listed = raw.expect(200, "GET", f"{path}/messages?limit=100&order=asc")["data"]
    _check([message["id"] for message in listed] == ids, "the messages are not those that were sent")
    raw.expect(200, "PATCH", path, {"metadata": {"at": str(time.time())}})
    raw.expect(200, "POST", f"{path}/messages/{ids[0]}", {"metadata": {"seen": "1"}})
    raw.expect(200, "GET", "/v1/threads?limit=20")
    visitor.foreign.expect(404, "GET", path)
    visitor.foreign.expect(404, "DELETE", f"{path}/messages/{ids[0]}")
    exported = raw.expect(200, "GET", f"{path}/export")
    copy = raw.expect(200, "POST", "/v1/threads/import", exported)
    raw.expect(200, "GET", f"/v1/threads/{copy['id']}/")
    raw.expect(200, "DELETE", f"/v1/threads/{copy['id']}")
    raw.expect(200, "DELETE", f"{path}/messages/{ids[-1]}")
    raw.expect(200, "DELETE", path)
    raw.expect(404, "GET", path)


def response(visitor: Visitor) -> None:
    """One behind another, streamed and not, read again, and one in the background that is cancelled."""
    responses = visitor.sdk.responses
    given: Any = {"model": visitor.model, "max_output_tokens": max(16, visitor.tokens())}
    first = responses.create(**given, input=visitor.words(3, 30), instructions="Be brief.")
    _check(first.status in _RESPONSE_ENDS, f"a response {first.status}: {first.error}")
    events = list(responses.create(**given, input="Go on.", previous_response_id=first.id, stream=True))
    last: Any = events[-1]
    _check(last.type in ("response.completed", "response.incomplete"), f"a response's last event: {last}")
    said = list(responses.input_items.list(last.response.id))
    _check(len(said) == 1, f"its input is not what was said: {said}")
    begun = responses.create(
        **{**given, "max_output_tokens": 400}, input=visitor.words(3, 10), background=True, store=True
    )
    time.sleep(visitor.rng.random())
    responses.cancel(begun.id)
    for name in (last.response.id, begun.id, first.id):
        responses.retrieve(name)
        responses.delete(name)


_RESPONSE_ENDS = ("completed", "incomplete")


def conversation(visitor: Visitor) -> None:
    """Items, a response in it, and its end."""
    sdk = visitor.sdk
    made = sdk.conversations.create(items=[{"type": "message", "role": "user", "content": visitor.words(2, 20)}])
    answer = sdk.responses.create(
        model=visitor.model, conversation=made.id, input=visitor.words(2, 20), max_output_tokens=16
    )
    _check(answer.status in _RESPONSE_ENDS, f"a response {answer.status}")
    items = list(sdk.conversations.items.list(made.id, order="asc", limit=2))
    _check(len(items) == 3, f"a conversation has {len(items)} items, not 3")
    sdk.conversations.items.delete(items[0].id or "", conversation_id=made.id)
    sdk.conversations.delete(made.id)


def compact(visitor: Visitor) -> None:
    """A conversation is summed up."""
    talk = [{"role": role, "content": visitor.words(20, 40)} for role in ("user", "assistant", "user")]
    visitor.raw.expect(200, "POST", "/v1/responses/compact", {"model": visitor.model, "input": talk})


def file(visitor: Visitor) -> None:
    """Sent, found again, and removed."""
    files = visitor.sdk.files
    content = visitor.rng.randbytes(visitor.rng.randint(1, 300_000))
    made = files.create(file=("notes.bin", content), purpose="assistants")
    _check(files.content(made.id).read() == content, "a file came back as another one")
    status, part = visitor.raw.ask("GET", f"/v1/files/{made.id}/content", Range="bytes=0-9")
    _check((status, part) == (206, content[:10]) or len(content) < 10, f"a range: {status}")
    visitor.foreign.expect(404, "GET", f"/v1/files/{made.id}/content")
    files.delete(made.id)
    visitor.raw.expect(404, "GET", f"/v1/files/{made.id}")


def message(visitor: Visitor) -> None:
    """Anthropic's way."""
    body = {"model": visitor.model, "max_tokens": 8, "messages": _messages(visitor)[1:]}
    _check(visitor.raw.expect(200, "POST", "/v1/messages", body)["usage"]["output_tokens"] <= 8, "too many tokens")
    whole = visitor.raw.expect(200, "POST", "/v1/messages", {**body, "stream": True})
    _check(b"message_stop" in whole, f"a message without an end: {whole[-300:]!r}")


def look_around(visitor: Visitor) -> None:
    """Lists, and what is cheap."""
    raw = visitor.raw
    for path in ("/v1/models", f"/v1/models/{visitor.model}", "/v1/assistants", "/v1/files", "/v1/threads"):
        raw.expect(200, "GET", path)
    tokens = raw.expect(200, "POST", "/v1/tokenize", {"model": visitor.model, "content": visitor.words(1, 100)})
    raw.expect(200, "POST", "/v1/detokenize", {"model": visitor.model, "tokens": tokens["tokens"]})
    assistant = raw.expect(200, "POST", "/v1/assistants", {"name": "Soak", "model": visitor.model})
    raw.expect(200, "DELETE", f"/v1/assistants/{assistant['id']}")


def mistakes(visitor: Visitor) -> None:
    """What is refused: each by its status."""
    raw = visitor.raw
    raw.expect(400, "POST", "/v1/chat/completions", {"model": visitor.model, "messages": "none"})
    raw.expect(400, "POST", "/v1/chat/completions", b"{")
    raw.expect(404, "POST", "/v1/chat/completions", {"model": "no-such", "messages": _messages(visitor)})
    raw.expect(400, "POST", "/v1/chat/completions", {"model": visitor.model, "messages": _long(visitor)})
    raw.expect(404, "GET", "/v1/threads/thread_none")
    raw.expect(405, "PUT", "/v1/threads")
    raw.expect(401, "GET", "/v1/models", Authorization="Bearer jf_wrong")
    raw.expect(403, "GET", "/metrics")


def _long(visitor: Visitor) -> Any:
    """More than fits."""
    return [{"role": "user", "content": visitor.words(9000, 9000)}]


ACTIVITIES: dict[Activity, int] = {
    chat: 10,
    streamed_chat: 12,
    long_prompt: 3,
    left_stream: 6,
    left_sockets: 3,
    constrained: 3,
    completion: 3,
    other_model: 3,
    stored_chat: 3,
    run: 6,
    thread: 6,
    response: 5,
    conversation: 4,
    compact: 1,
    file: 4,
    message: 3,
    look_around: 4,
    mistakes: 3,
}
