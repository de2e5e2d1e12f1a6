"""Runs with the official SDK: threads that answer, on the real server and a real model."""

from __future__ import annotations

import re
from typing import Any

import httpx
import openai
import pytest
from openai.lib.streaming import AssistantEventHandler
from openai.types.beta.assistant_stream_event import AssistantStreamEvent

from tests.e2e.run_events import events, text_of, watched
from tests.e2e.server import LIMIT, MODEL, Server, wait_for

# The SDK calls what OpenAI itself will stop to serve deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

QUESTION = "What is the capital of France?"
FINAL = {"completed", "incomplete", "failed", "cancelled", "expired"}
ORDER = [
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
]


class Seen(AssistantEventHandler):
    """Keeps what a stream helper is told."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pieces: list[str] = []
        self.done: list[str] = []

    def on_event(self, event: AssistantStreamEvent) -> None:
        self.names.append(event.event)

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.pieces.append(delta.value)

    def on_text_done(self, text: Any) -> None:
        self.done.append(text.value)


def asked(sdk: openai.OpenAI, text: str = QUESTION) -> str:
    thread = sdk.beta.threads.create(messages=[{"role": "user", "content": text}])
    return thread.id


def texts(sdk: openai.OpenAI, thread_id: str) -> list[tuple[str, str]]:
    page = sdk.beta.threads.messages.list(thread_id, order="asc")
    return [(message.role, message.content[0].text.value) for message in page.data]  # type: ignore[union-attr]


def begun(server: Server, thread_id: str, **fields: Any) -> str:
    """A long run that has said something."""
    body = {"model": MODEL, "ignore_eos": True, "max_completion_tokens": 1500} | fields
    answer = server.post(f"/v1/threads/{thread_id}/runs", json=body)
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["id"]
    path = f"{server.url}/v1/threads/{thread_id}/runs/{run_id}/events"
    with httpx.stream("GET", path, timeout=LIMIT) as response:
        for _, name, _ in events(response):
            if name == "thread.message.delta":
                break
    return run_id


def ended(server: Server, thread_id: str, run_id: str) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        found: dict[str, Any] = server.get(f"/v1/threads/{thread_id}/runs/{run_id}").json()
        return found

    wait_for(lambda: run()["status"] in FINAL, "the run's end")
    return run()


# --- the SDK --------------------------------------------------------------------------------------------------------


def test_a_thread_answers(sdk: openai.OpenAI) -> None:
    thread_id = asked(sdk)
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id="jan", model=MODEL, temperature=0, max_completion_tokens=16
    )
    assert run.status in ("completed", "incomplete")
    assert run.usage is not None
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens
    (asked_, answered) = texts(sdk, thread_id)
    assert asked_ == ("user", QUESTION)
    assert answered[0] == "assistant"
    assert answered[1]
    (message,) = sdk.beta.threads.messages.list(thread_id, run_id=run.id).data
    assert (message.run_id, message.assistant_id) == (run.id, "jan")
    (step,) = sdk.beta.threads.runs.steps.list(run.id, thread_id=thread_id).data
    assert step.step_details.type == "message_creation"
    assert step.step_details.message_creation.message_id == message.id
    assert sdk.beta.threads.runs.steps.retrieve(step.id, thread_id=thread_id, run_id=run.id) == step
    assert [found.id for found in sdk.beta.threads.runs.list(thread_id).data] == [run.id]
    changed = sdk.beta.threads.runs.update(run.id, thread_id=thread_id, metadata={"key": "value"})
    assert changed.metadata == {"key": "value"}
    assert sdk.beta.threads.retrieve(thread_id).to_dict()["title"] == QUESTION


def test_an_answer_that_was_cut_off_goes_on(server: Server, sdk: openai.OpenAI) -> None:
    thread_id = asked(sdk, "Count from one upwards.")
    runs = []
    for more in ({}, {"continue_last": True}):
        body = {"model": MODEL, "temperature": 0, "ignore_eos": True, "max_completion_tokens": 12, **more}
        run_id = server.post(f"/v1/threads/{thread_id}/runs", json=body).json()["id"]
        runs.append(
            (ended(server, thread_id, run_id), server.found(f"/v1/threads/{thread_id}/messages?limit=1")["data"][0])
        )
    (first, before), (second, after) = runs
    assert (first["status"], second["status"]) == ("incomplete", "incomplete")
    assert (after["id"], after["run_id"]) == (before["id"], second["id"])
    words, more_words = (message["content"][0]["text"]["value"] for message in (before, after))
    assert more_words.startswith(words)
    assert len(more_words) > len(words)
    assert text_of(watched(server, thread_id, second["id"])) == more_words
    assert len(server.found(f"/v1/threads/{thread_id}/messages")["data"]) == 2
    assert second["usage"]["completion_tokens"] == 12
    assert abs(second["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens"] - 12) <= 2  # cut into tokens anew
    assert second["timings"]["cached_tokens"] >= first["usage"]["prompt_tokens"] - 1


def test_a_run_tells_where_its_time_went(server: Server, sdk: openai.OpenAI) -> None:
    thread_id = asked(sdk)
    body = {"model": MODEL, "ignore_eos": True, "max_completion_tokens": 16}
    run = ended(server, thread_id, server.post(f"/v1/threads/{thread_id}/runs", json=body).json()["id"])
    took = run["timings"]
    assert min(took["prompt_ms"], took["prompt_per_second"], took["predicted_ms"], took["predicted_per_second"]) > 0
    assert took["queue_ms"] >= 0
    assert took["predicted_per_second"] == pytest.approx(1000 * 16 / took["predicted_ms"], rel=0.2)
    assert took["cached_tokens"] == run["usage"]["prompt_token_details"]["cached_tokens"]
    assert took["context_tokens"] == server.found(f"/v1/models/{MODEL}")["runtime"]["ctx_len"]
    assert took["time_to_first_token_ms"] >= took["prompt_ms"] // 2


def test_a_page_is_told_less_often_and_all_the_same(server: Server, sdk: openai.OpenAI) -> None:
    thread_id = asked(sdk)
    run_id = begun(server, thread_id, max_completion_tokens=60)
    path = f"{server.url}/v1/threads/{thread_id}/runs/{run_id}/events?reasoning=true&every=0.2"
    with httpx.stream("GET", path, timeout=LIMIT) as response:
        told = list(events(response))
    whole = watched(server, thread_id, run_id)
    assert text_of(told) == text_of(whole)
    pieces = [number for number, name, _ in told if name == "thread.message.delta"]
    assert len(pieces) < len([name for _, name, _ in whole if name == "thread.message.delta"])
    assert pieces == sorted(set(pieces))
    assert [event for event in told if event[0] not in pieces] == [
        event for event in whole if event[1] != "thread.message.delta"
    ]


def test_the_answer_is_that_of_a_chat(sdk: openai.OpenAI) -> None:
    chat = sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=12
    )
    thread_id = asked(sdk)
    sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id="jan", model=MODEL, instructions="", temperature=0, max_completion_tokens=12
    )
    assert texts(sdk, thread_id)[1][1] == chat.choices[0].message.content


def test_a_stream_tells_everything_in_order(sdk: openai.OpenAI) -> None:
    thread_id, seen = asked(sdk), Seen()
    with sdk.beta.threads.runs.stream(
        thread_id=thread_id,
        assistant_id="jan",
        model=MODEL,
        temperature=0,
        max_completion_tokens=12,
        event_handler=seen,
        extra_body={"ignore_eos": True},
    ) as stream:
        stream.until_done()
    deltas = seen.names.count("thread.message.delta")
    assert seen.names[: len(ORDER)] == ORDER
    assert seen.names[len(ORDER) : len(ORDER) + deltas] == ["thread.message.delta"] * deltas
    assert seen.names[len(ORDER) + deltas :] == [
        "thread.message.incomplete",
        "thread.run.step.completed",
        "thread.run.incomplete",
    ]
    assert texts(sdk, thread_id)[1] == ("assistant", "".join(seen.pieces))


@pytest.mark.parametrize(
    ("form", "pattern"),
    [({"regex": "[0-9]{3}-[a-z]{2}"}, r"\d{3}-[a-z]{2}"), ({"guided_choice": ["Paris.", "Rome."]}, r"Paris\.|Rome\.")],
)
def test_an_answer_has_the_form_that_was_asked_for(sdk: openai.OpenAI, form: dict[str, Any], pattern: str) -> None:
    thread_id = asked(sdk)
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id="jan", model=MODEL, temperature=1, max_completion_tokens=30, extra_body=form
    )
    assert (run.status, run.last_error, run.to_dict()["form"]) == ("completed", None, form)
    assert re.fullmatch(pattern, texts(sdk, thread_id)[1][1])


def test_a_form_that_only_the_engine_refuses_fails_the_run_by_name(sdk: openai.OpenAI) -> None:
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=asked(sdk), assistant_id="jan", model=MODEL, extra_body={"guided_regex": "(?=a)b"}
    )
    assert run.status == "failed"
    assert run.last_error is not None
    assert "guided_regex" in run.last_error.message


def test_thread_and_run_in_one(sdk: openai.OpenAI) -> None:
    seen = Seen()
    with sdk.beta.threads.create_and_run_stream(
        assistant_id="jan",
        model=MODEL,
        thread={"messages": [{"role": "user", "content": QUESTION}]},
        temperature=0,
        max_completion_tokens=8,
        event_handler=seen,
    ) as stream:
        run = stream.get_final_run()
    assert texts(sdk, run.thread_id)[1][1] == "".join(seen.pieces)


def test_a_run_is_cancelled(sdk: openai.OpenAI, server: Server) -> None:
    thread_id = asked(sdk)
    run_id = begun(server, thread_id)
    with pytest.raises(openai.BadRequestError, match="already has an active run"):
        sdk.beta.threads.runs.create(thread_id=thread_id, assistant_id="jan", model=MODEL)
    with pytest.raises(openai.BadRequestError, match="Can't add messages"):
        sdk.beta.threads.messages.create(thread_id, role="user", content="And of Spain?")
    with pytest.raises(openai.BadRequestError, match="tool outputs"):
        sdk.beta.threads.runs.submit_tool_outputs(run_id, thread_id=thread_id, tool_outputs=[])
    growing = sdk.beta.threads.messages.list(thread_id).data[0]
    assert (growing.status, growing.run_id) == ("in_progress", run_id)
    assert sdk.beta.threads.runs.cancel(run_id, thread_id=thread_id).status in ("cancelling", "cancelled")
    assert ended(server, thread_id, run_id)["status"] == "cancelled"
    told = watched(server, thread_id, run_id)
    assert [name for _, name, _ in told][-5:] == [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    said = "".join(data["delta"]["content"][0]["text"]["value"] for _, name, data in told if name.endswith(".delta"))
    (message,) = sdk.beta.threads.messages.list(thread_id, run_id=run_id).data
    assert (message.status, texts(sdk, thread_id)[1][1]) == ("incomplete", said)
    assert message.id == growing.id
    assert said.startswith(growing.content[0].text.value)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        sdk.beta.threads.runs.cancel(run_id, thread_id=thread_id)


def test_a_long_prompt_does_not_hold_another_thread(sdk: openai.OpenAI, server: Server) -> None:
    long = asked(sdk, " ".join(f"Entry {number} is blue." for number in range(260)))
    short = asked(sdk, "Say yes.")
    body = {"model": MODEL, "max_completion_tokens": 4}
    answer = server.post(f"/v1/threads/{long}/runs", json=body)
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=short, assistant_id="jan", model=MODEL, max_completion_tokens=4, poll_interval_ms=20
    )
    assert run.status in ("completed", "incomplete")
    said = [message.content for message in sdk.beta.threads.messages.list(long).data if message.role == "assistant"]
    assert not said or said[0][0].text.value == "", "the long prompt was computed first"  # type: ignore[union-attr]
    assert ended(server, long, answer.json()["id"])["usage"]["prompt_tokens"] > 1500


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_what_cannot_be_run_is_refused(sdk: openai.OpenAI, server: Server) -> None:
    thread_id = asked(sdk)
    with pytest.raises(openai.NotFoundError, match="there is no assistant"):
        sdk.beta.threads.runs.create(thread_id=thread_id, assistant_id="nobody", model=MODEL)
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.runs.create(thread_id=thread_id, assistant_id="jan", model="no-such-model")
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.runs.create(thread_id="thread_none", assistant_id="jan", model=MODEL)
    with pytest.raises(openai.BadRequestError, match="must be function, no other tools are known"):
        sdk.beta.threads.runs.create(
            thread_id=thread_id, assistant_id="jan", model=MODEL, tools=[{"type": "file_search"}]
        )
    threads = len(server.get("/v1/threads").json())
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.create_and_run(assistant_id="nobody", model=MODEL)
    assert len(server.get("/v1/threads").json()) == threads
    assert server.get(f"/v1/threads/{thread_id}/runs/run_none").status_code == 404
    assert server.get(f"/v1/threads/{thread_id}/runs/run_none/events").status_code == 404


def test_what_a_run_would_leave_out_is_refused(sdk: openai.OpenAI, server: Server) -> None:
    def runs(thread_id: str, assistant_id: str = "jan", **fields: Any) -> Any:
        return sdk.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=assistant_id, model=MODEL, max_completion_tokens=4, **fields
        )

    thread_id = asked(sdk)
    url: Any = {"url": "https://example.org/x.png"}
    picture = sdk.beta.threads.messages.create(
        thread_id, role="user", content=[{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": url}]
    )
    with pytest.raises(openai.BadRequestError, match=f"message {picture.id} holds a picture"):
        runs(thread_id)
    with pytest.raises(openai.BadRequestError, match=r"additional_messages\.0 holds a picture"):
        runs(
            asked(sdk),
            additional_messages=[{"role": "user", "content": [{"type": "image_url", "image_url": url}]}],
        )
    assert sdk.beta.threads.messages.delete(picture.id, thread_id=thread_id).deleted
    assert runs(thread_id).status in ("completed", "incomplete")

    file = sdk.files.create(file=("a.txt", b"x"), purpose="assistants")
    attached = asked(sdk)
    sdk.beta.threads.messages.create(
        attached,
        role="user",
        content="Sum up",
        attachments=[{"file_id": file.id, "tools": [{"type": "file_search"}]}],
    )
    with pytest.raises(openai.BadRequestError, match=f"the file {file.id} .for file_search"):
        runs(attached)
    assert runs(attached, tool_choice="none").status in ("completed", "incomplete")

    tutor = sdk.beta.assistants.create(
        model=MODEL, tools=[{"type": "code_interpreter"}], response_format={"type": "json_object"}
    )
    threads = len(server.get("/v1/threads").json())
    with pytest.raises(openai.BadRequestError, match=r"has tools \(code_interpreter\); only functions can be used"):
        sdk.beta.threads.create_and_run(assistant_id=tutor.id, thread={"messages": [{"role": "user", "content": "Hi"}]})
    assert len(server.get("/v1/threads").json()) == threads
    assert runs(asked(sdk), tutor.id, tools=[], response_format="auto").status in ("completed", "incomplete")
    assert runs(asked(sdk), tutor.id, tools=[]).status in ("completed", "incomplete"), "its form can be had"


def test_an_empty_thread_has_nothing_to_answer(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create()
    run = sdk.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id="jan", model=MODEL, instructions="")
    assert run.status == "failed"
    assert run.last_error is not None
    assert "no message" in run.last_error.message


# --- durability -----------------------------------------------------------------------------------------------------


def test_a_stream_is_joined_again_where_it_was_left(server: Server, sdk: openai.OpenAI) -> None:
    thread_id = asked(sdk)
    run_id = begun(server, thread_id, max_completion_tokens=300)
    path = f"{server.url}/v1/threads/{thread_id}/runs/{run_id}/events"
    heard: list[tuple[int, str, Any]] = []
    with httpx.stream("GET", path, timeout=LIMIT) as response:
        for event in events(response):
            heard.append(event)
            if len(heard) == 20:
                break
    heard += watched(server, thread_id, run_id, after=heard[-1][0])
    whole = watched(server, thread_id, run_id)
    assert heard == whole
    numbers = [number for number, _, _ in whole[:-1]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [(name, data) for _, name, data in whole[-1:]] == [("done", "[DONE]")]


def test_a_client_that_leaves_cancels_only_what_it_said_it_would(server: Server, sdk: openai.OpenAI) -> None:
    def left(**fields: Any) -> dict[str, Any]:
        thread_id = asked(sdk)
        body = {"model": MODEL, "stream": True, "ignore_eos": True, "max_completion_tokens": 200} | fields
        with httpx.stream("POST", f"{server.url}/v1/threads/{thread_id}/runs", json=body, timeout=LIMIT) as response:
            _, _, first = next(events(response))
        return ended(server, thread_id, first["id"])

    assert left(cancel_on_disconnect=True)["status"] == "cancelled"
    assert left()["status"] == "incomplete"
