"""Runs that call functions, as the API tells them: events for the SDK's stream helper, steps, outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from openai.types.beta.threads import Run as SdkRun
from openai.types.beta.threads.runs import RunStep

from janflask import create_app
from janflask.api.answers.run_events import RunEventWriter
from janflask.api.answers.run_objects import run_object
from janflask.api.answers.step_objects import steps_of
from janflask.api.answers.thread_objects import message_object
from janflask.errors import UnavailableError
from janflask.files import ids
from janflask.ipc.clients.runner import RunnerClient
from janflask.services.replies import run_messages
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.records import Run, RunStatus, Thread
from janflask.storage.rounds import Call, Round
from janflask.storage.run_log import LogEvent, TextEvent, is_wait, missing
from tests.unit.api.stored import refused
from tests.unit.api.test_run_events import BEGUN, RunEvent, parsed, through_the_sdk

CALLS = (Call(id="call_1", name="look", arguments='{"at":"sea"}'), Call(id="call_2", name="go", arguments="{}"))
FIRST = Round(
    calls=CALLS,
    step_id="step_calls",
    ended_ms=3_500_000,
    started_ms=2_000_000,
    message_id="msg_first",
    message_step_id="step_first",
    replied_ms=3_000_000,
    text="Let me see.",
    prompt_tokens=10,
    completion_tokens=5,
)
WAITING = replace(BEGUN, status=RunStatus.REQUIRES_ACTION, rounds=(FIRST,))
ANSWERED = FIRST.answered({"call_1": "blue", "call_2": ""}, 3_600_000)
QUEUED = replace(WAITING, status=RunStatus.QUEUED, rounds=(ANSWERED,))
REPLYING = replace(QUEUED, status=RunStatus.IN_PROGRESS, resumed_ms=3_700_000, replied_ms=3_800_000)
DONE = replace(
    REPLYING,
    status=RunStatus.COMPLETED,
    completed_ms=4_000_000,
    prompt_tokens=30,
    completion_tokens=9,
    cached_tokens=10,
)
CANCELLED = replace(WAITING, status=RunStatus.CANCELLED, cancelled_ms=4_000_000)
EXPIRED = replace(WAITING, status=RunStatus.EXPIRED)
STAGES = [WAITING, QUEUED, REPLYING, DONE, CANCELLED, EXPIRED]


def log_of(run: Run) -> list[LogEvent]:
    """The log of a run that has come so far, with what it said at its places."""
    log: list[LogEvent] = []
    texts = {0: ["Let me", " see."], 1: ["It is", " blue."]}
    for event in missing(run, []):
        log.append(event)
        if getattr(event, "event", "") == "message.in_progress":
            log += map(TextEvent, texts[getattr(event, "round", 0)])
    return log


def told(run: Run, after: int = 0, first_round: int = 0) -> list[RunEvent]:
    writer = RunEventWriter(after, first_round)
    writer.run(run)
    return parsed(writer.events(1, log_of(run)) + writer.end())


@pytest.mark.parametrize("run", STAGES, ids=lambda run: str(run.status))
def test_the_same_is_told_whenever_one_asks_and_from_wherever(run: Run) -> None:
    whole = told(run)
    assert [event.number for event in whole] == list(range(1, len(whole) + 1))
    begun = told(WAITING)
    assert whole[: len(begun)] == begun
    for after in range(len(whole)):
        assert told(run, after) == whole[after:]


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
def test_the_sdk_follows_both_streams() -> None:
    with through_the_sdk(told(WAITING)) as stream:
        stream.until_done()
        run, (message,), steps = stream.get_final_run(), stream.get_final_messages(), stream.get_final_run_steps()
    assert run.status == "requires_action"
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]
    assert (message.id, message.status, message.content[0].text.value) == ("msg_first", "completed", "Let me see.")
    streamed = steps[-1].step_details.tool_calls
    assert [(call.id, call.function.arguments) for call in streamed] == [(call.id, call.arguments) for call in CALLS]

    rest = told(DONE, first_round=1)
    assert [event.name for event in rest[:3]] == [
        *("thread.run.step.completed", "thread.run.queued", "thread.run.in_progress")
    ]
    assert rest == told(DONE)[len(told(WAITING)) :]
    with through_the_sdk(rest) as stream:
        stream.until_done()
        assert stream.get_final_run().status == "completed"
        (message,) = stream.get_final_messages()
    assert (message.id, message.content[0].text.value) == (DONE.message_id, "It is blue.")


@pytest.mark.parametrize("run", STAGES, ids=lambda run: str(run.status))
def test_objects_are_what_the_sdk_takes_them_for(run: Run) -> None:
    found = SdkRun.model_validate(msgspec.json.decode(msgspec.json.encode(run_object(run))), strict=True)
    assert (found.required_action is not None) == (found.status == "requires_action")
    assert (found.usage is not None) == (run is DONE)
    for step in steps_of(run):
        RunStep.model_validate(msgspec.json.decode(msgspec.json.encode(step)), strict=True)


def test_the_steps() -> None:
    first, calls, last = steps_of(DONE)
    assert [step["type"] for step in (first, calls, last)] == ["message_creation", "tool_calls", "message_creation"]
    assert [call["function"]["output"] for call in calls["step_details"]["tool_calls"]] == ["blue", ""]
    assert (calls["usage"]["total_tokens"], last["usage"]["total_tokens"]) == (15, 24)
    assert [(step["status"], step["type"]) for step in steps_of(CANCELLED)] == [
        *(("completed", "message_creation"), ("cancelled", "tool_calls"))
    ]
    assert steps_of(EXPIRED)[-1]["expired_at"] == EXPIRED.expires_ms // 1000


def test_a_wait_that_the_runs_file_does_not_know_is_passed_over() -> None:
    log = [event for event in log_of(WAITING) if not isinstance(event, TextEvent)]
    writer = RunEventWriter(0)
    writer.run(BEGUN)
    assert "requires_action" not in writer.events(1, log).decode()
    assert is_wait(log[-1])


def test_a_call_that_the_runs_file_does_not_know_is_passed_over() -> None:
    writer = RunEventWriter(0)
    writer.run(replace(WAITING, rounds=(replace(FIRST, calls=CALLS[:1]),)))
    told = writer.events(1, log_of(WAITING)).decode()
    assert ("call_1" in told, "call_2" in told) == (True, False)


# --- outputs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Run:
    """A run on disk that waits."""
    now, repository = ids.now_ms(), open_repository(Settings(data_dir=tmp_path, runtime_dir=tmp_path))
    run = replace(WAITING, id=ids.new_id(ids.RUN), created_ms=now, expires_ms=now + 60_000)
    repository.threads.create(Thread(id=run.thread_id, created_ms=now, updated_ms=now))
    assert repository.runs.create(run)
    return run


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    def away(self: RunnerClient, thread_id: str, run_id: str, timeout: float) -> Run:
        raise UnavailableError("the runner is away; the next one finds the run")

    monkeypatch.setattr(RunnerClient, "begin", away)
    return create_app(Settings(data_dir=tmp_path, runtime_dir=tmp_path)).test_client()


def path(run: Run, end: str = "") -> str:
    return f"/v1/threads/{run.thread_id}/runs/{run.id}{end}"


def outputs(*given: tuple[str, str]) -> dict[str, Any]:
    return {"tool_outputs": [{"tool_call_id": call, "output": output} for call, output in given]}


def test_outputs_are_on_disk_when_they_are_acknowledged(client: FlaskClient, stored: Run, tmp_path: Path) -> None:
    answer = client.post(path(stored, "/submit_tool_outputs"), json=outputs(("call_2", ""), ("call_1", "blue")))
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert (answer.json["status"], answer.json["required_action"]) == ("queued", None)
    found = open_repository(Settings(data_dir=tmp_path, runtime_dir=tmp_path)).runs.get(stored.thread_id, stored.id)
    assert [call.output for call in found.rounds[0].calls] == ["blue", ""]
    again = client.post(path(stored, "/submit_tool_outputs"), json=outputs(("call_2", ""), ("call_1", "blue")))
    assert "Runs in status 'queued' do not accept" in refused(again, 400, "tool_outputs")["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tool_outputs"),
        ({"tool_outputs": None}, "tool_outputs"),
        ({"tool_outputs": [1]}, "tool_outputs.0"),
        ({"tool_outputs": [{"output": "x"}]}, "tool_outputs.0.tool_call_id"),
        ({"tool_outputs": [{"tool_call_id": "call_1", "output": {}}]}, "tool_outputs.0.output"),
        (outputs(("call_1", "x")), "tool_outputs"),
        (outputs(("call_1", "x"), ("call_2", "y"), ("call_3", "z")), "tool_outputs.2.tool_call_id"),
    ],
)
def test_outputs_that_are_refused_change_nothing(
    client: FlaskClient, stored: Run, body: dict[str, Any], param: str
) -> None:
    before = client.get(path(stored)).json
    refused(client.post(path(stored, "/submit_tool_outputs"), json=body), 400, param)
    assert client.get(path(stored)).json == before


def test_a_thread_is_busy_while_its_run_waits(client: FlaskClient, stored: Run) -> None:
    messages = f"/v1/threads/{stored.thread_id}/messages"
    refused(client.post(messages, json={"role": "user", "content": "x"}), 400, "thread_id")
    listed = client.get(messages).json
    assert listed is not None
    (message,) = listed["data"]
    assert (message["id"], message["content"][0]["text"]["value"]) == ("msg_first", "Let me see.")
    assert "tool_rounds" not in message
    refused(client.post(f"{messages}/msg_first", json={"metadata": {"a": "b"}}), 400, "message_id")


def test_a_message_tells_the_calls_that_came_before_it() -> None:
    first, reply = run_messages(DONE, "It is blue.")
    assert "tool_rounds" not in message_object(first)
    looked, went = (
        {**msgspec.to_builtins(call), "output": output} for call, output in zip(CALLS, ("blue", ""), strict=True)
    )
    assert message_object(reply)["tool_rounds"] == [{"message_id": "msg_first", "calls": (looked, went)}]
    for odd in ("calls", [1], [{"calls": [{"id": 1}]}]):
        assert "tool_rounds" not in message_object(replace(reply, extra={"tool_rounds": odd}))


def test_a_run_that_nobody_has_ended_yet_is_expired_all_the_same(
    client: FlaskClient, stored: Run, tmp_path: Path
) -> None:
    store = open_repository(Settings(data_dir=tmp_path, runtime_dir=tmp_path)).runs
    store.update(stored.thread_id, stored.id, lambda run: replace(run, expires_ms=ids.now_ms()))
    for found in (client.get(path(stored)).json, client.get(f"/v1/threads/{stored.thread_id}/runs").json["data"][0]):  # type: ignore[index]
        assert (found["status"], found["required_action"]) == ("expired", None)  # type: ignore[index]
    late = client.post(path(stored, "/submit_tool_outputs"), json=outputs(("call_2", ""), ("call_1", "blue")))
    assert "'expired' do not accept" in refused(late, 400, "tool_outputs")["message"]


@pytest.mark.parametrize("ask", ["get", "list", "modify"])
def test_a_run_that_waited_in_vain_ends_before_anybody_is_told(
    client: FlaskClient, stored: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    store = open_repository(Settings(data_dir=tmp_path, runtime_dir=tmp_path)).runs
    store.update(stored.thread_id, stored.id, lambda run: replace(run, expires_ms=ids.now_ms()))

    def ending(self: RunnerClient, thread_id: str, run_id: str, timeout: float) -> Run:
        return store.close(thread_id, run_id, lambda run: replace(run, status=RunStatus.EXPIRED))

    monkeypatch.setattr(RunnerClient, "begin", ending)
    if ask == "modify":
        answer = client.post(path(stored), json={"metadata": {"a": "b"}})
    else:
        answer = client.get(path(stored) if ask == "get" else f"/v1/threads/{stored.thread_id}/runs")
    assert '"status":"expired"' in answer.text
    assert store.open_run(stored.thread_id) is None


def test_pages_of_steps(client: FlaskClient, stored: Run) -> None:
    def listed(query: str) -> list[str]:
        found = client.get(path(stored, f"/steps{query}")).json
        assert found is not None
        return [step["id"] for step in found["data"]]

    assert listed("") == ["step_calls", "step_first"]
    assert listed("?order=asc&limit=1") == ["step_first"]
    assert listed("?after=step_calls") == ["step_first"]
    one = client.get(path(stored, "/steps/step_calls")).json
    assert one is not None
    assert one["step_details"]["tool_calls"][0]["function"]["output"] is None
    refused(client.get(path(stored, "/steps/step_none")), 404, "step_id")
