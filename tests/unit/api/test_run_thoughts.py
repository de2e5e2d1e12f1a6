"""What a model thinks in a run: told as it comes, and with the message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.scripted import say
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app
from tests.unit.api.stored import refused
from tests.unit.api.test_reasoning_api import ANSWER, TEMPLATE

EVENT = "thread.message.reasoning.delta"


@pytest.fixture
def run(world: World) -> Any:
    """A client, and a run that has thought and answered."""
    world.runs_as(chat_template=TEMPLATE)
    world.engine.script = say(*ANSWER)
    with running_app(world) as app:
        client = app.test_client()
        body = {"model": "tiny", "thread": {"messages": [{"role": "user", "content": "Hi"}]}, "stream": True}
        stream = told(client.post("/v1/threads/runs", json=body).text)
        yield client, next(data for _, name, data in stream if name == "thread.run.completed")


def told(text: str) -> list[tuple[int, str, Any]]:
    """(number, name, data) of each event."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        data = fields["data"]
        events.append((int(fields.get("id", -1)), fields["event"], data if data == "[DONE]" else json.loads(data)))
    return events


def events(run: Any, query: str = "", **headers: str) -> list[tuple[int, str, Any]]:
    client, found = run
    answer = client.get(f"/v1/threads/{found['thread_id']}/runs/{found['id']}/events{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return told(answer.text)


def thoughts(events: list[tuple[int, str, Any]]) -> list[str]:
    return [data["delta"]["reasoning"] for _, name, data in events if name == EVENT]


def test_they_are_told_to_who_asks_for_them(run: Any) -> None:
    plain, whole = events(run), events(run, "?reasoning=true")
    assert thoughts(plain) == []
    assert thoughts(whole) == ["Hm", ", so"]
    assert [event for event in whole if event[1] != EVENT] == plain
    assert len({data["id"] for _, name, data in whole if name.endswith(".delta")}) == 1
    heard = next(number for number, name, _ in whole if name == EVENT)
    rest = events(run, "?reasoning=true", **{"Last-Event-ID": str(heard)})
    assert rest == [event for event in whole if event[0] > heard or event[0] == -1]


def test_what_comes_in_some_time_is_one_event(run: Any) -> None:
    whole, joined = events(run, "?reasoning=true"), events(run, "?reasoning=1&every=0.05")
    assert thoughts(joined) == ["Hm, so"]
    words = [(number, data) for number, name, data in joined if name == "thread.message.delta"]
    assert [data["delta"]["content"][0]["text"]["value"] for _, data in words] == ["Hello!"]
    assert words[0][0] == max(number for number, name, _ in whole if name == "thread.message.delta")
    assert joined[-4:] == whole[-4:]


def test_a_message_has_what_was_thought_before_it(run: Any) -> None:
    client, found = run
    path = f"/v1/threads/{found['thread_id']}/messages"
    answer, question = client.get(path).json["data"]
    assert (answer["reasoning_content"], answer["content"][0]["text"]["value"]) == ("Hm, so", "Hello!")
    assert "reasoning_content" not in question
    assert client.get(f"{path}/{answer['id']}").json == answer
    completed = next(data for _, name, data in events(run) if name == "thread.message.completed")
    assert completed == answer


@pytest.mark.parametrize("query", ["every=3", "every=-1", "every=soon", "every=nan", "reasoning=perhaps"])
def test_a_query_that_makes_no_sense_is_refused(client: FlaskClient, query: str) -> None:
    refused(client.get(f"/v1/threads/thread_x/runs/run_x/events?{query}"), 400, query.partition("=")[0])
