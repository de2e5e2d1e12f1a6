"""``continue_last``: a run that goes on with the last message, over the API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask.ipc.messages.engine import Chunk, Finished, Started
from tests.fakes.scripted import DONE, PATIENCE, Conversation, say
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app
from tests.unit.api.stored import refused
from tests.unit.api.test_run_thoughts import told

QUESTION = {"role": "user", "content": "Tell me a story"}
BEGUN = {"role": "assistant", "content": "Once upon"}
GO_ON = {"model": "tiny", "continue_last": True, "stream": True}


@pytest.fixture
def running(world: World) -> Iterator[FlaskClient]:
    world.runs_as(chat_template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>")
    world.engine.script = say(" a", " time")
    with running_app(world) as app:
        yield app.test_client()


def thread(client: FlaskClient, *messages: dict[str, str]) -> str:
    answer = client.post("/v1/threads", json={"messages": list(messages)})
    return str(answer.get_json()["id"])


def messages(client: FlaskClient, thread_id: str) -> list[Any]:
    found: list[Any] = client.get(f"/v1/threads/{thread_id}/messages?order=asc").get_json()["data"]
    return found


def text(message: Any) -> str:
    return str(message["content"][0]["text"]["value"])


def test_the_last_message_gets_more_words(running: FlaskClient, world: World) -> None:
    thread_id = thread(running, QUESTION, BEGUN)
    question, before = messages(running, thread_id)
    events = told(running.post(f"/v1/threads/{thread_id}/runs", json=GO_ON).text)
    assert world.engine.requests[-1].prompt == "<user>Tell me a story<assistant>Once upon"
    same, after = messages(running, thread_id)
    assert same == question
    assert (after["id"], after["created_at"]) == (before["id"], before["created_at"])
    assert text(after) == "Once upon a time"
    run = next(data for _, name, data in events if name == "thread.run.completed")
    assert (after["status"], after["run_id"]) == ("completed", run["id"])
    deltas = [data for _, name, data in events if name == "thread.message.delta"]
    assert {delta["id"] for delta in deltas} == {before["id"]}
    pieces = [delta["delta"]["content"][0]["text"]["value"] for delta in deltas]
    assert pieces == ["Once upon", " a", " time"]
    completed = next(data for _, name, data in events if name == "thread.message.completed")
    assert completed == after | {"run_id": run["id"]}
    step = running.get(f"/v1/threads/{thread_id}/runs/{run['id']}/steps").get_json()["data"][0]
    assert step["step_details"]["message_creation"]["message_id"] == before["id"]


def test_a_thread_that_is_made_with_it(running: FlaskClient) -> None:
    body = {**GO_ON, "stream": False, "thread": {"messages": [QUESTION, BEGUN]}}
    run = running.post("/v1/threads/runs", json=body).get_json()
    assert told(running.get(f"/v1/threads/{run['thread_id']}/runs/{run['id']}/events").text)[-1][1] == "done"
    assert [text(message) for message in messages(running, run["thread_id"])] == ["Tell me a story", "Once upon a time"]


def test_while_it_goes_on_it_is_the_runs_own(running: FlaskClient, world: World) -> None:
    thread_id = thread(running, QUESTION, BEGUN)
    path = f"/v1/threads/{thread_id}/messages"
    _, before = messages(running, thread_id)
    may_end = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, " a"))
        may_end.wait(PATIENCE)
        conversation.send(Chunk(0, " time"), Finished(0, "stop"), DONE)

    world.engine.script = script
    run = running.post(f"/v1/threads/{thread_id}/runs", json={**GO_ON, "stream": False}).get_json()
    stream = running.get(f"/v1/threads/{thread_id}/runs/{run['id']}/events").iter_encoded()
    assert any(b'"value":" a"' in part for part in stream)
    now = running.get(f"{path}/{before['id']}").get_json()
    assert (text(now), now["status"], now["run_id"]) == ("Once upon a", "in_progress", run["id"])
    assert messages(running, thread_id)[1:] == [now]
    assert running.get(f"{path}?run_id={run['id']}").get_json()["data"] == [now]
    refused(running.post(f"{path}/{before['id']}", json={"metadata": {}}), 400, "message_id")
    refused(running.delete(f"{path}/{before['id']}"), 400, "message_id")
    may_end.set()
    assert b"thread.run.completed" in b"".join(stream)
    assert text(running.get(f"{path}/{before['id']}").get_json()) == "Once upon a time"
    assert running.delete(f"{path}/{before['id']}").status_code == 200


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "has no message"),
        ([QUESTION], "not an assistant's"),
        ([BEGUN, QUESTION], "not an assistant's"),
    ],
)
def test_what_cannot_be_continued_is_refused_and_nothing_is_stored(
    running: FlaskClient, given: list[dict[str, str]], reason: str
) -> None:
    thread_id = thread(running, *given)
    error = refused(running.post(f"/v1/threads/{thread_id}/runs", json=GO_ON), 400, "continue_last")
    assert reason in error["message"]
    assert running.get(f"/v1/threads/{thread_id}/runs").get_json()["data"] == []
    threads = len(running.get("/v1/threads").get_json())
    refused(running.post("/v1/threads/runs", json={**GO_ON, "thread": {"messages": given}}), 400, "continue_last")
    assert len(running.get("/v1/threads").get_json()) == threads


def test_nothing_is_added_behind_it(running: FlaskClient) -> None:
    thread_id = thread(running, QUESTION, BEGUN)
    body = {**GO_ON, "additional_messages": [QUESTION]}
    refused(running.post(f"/v1/threads/{thread_id}/runs", json=body), 400, "continue_last")
    assert len(messages(running, thread_id)) == 2
