"""Runs that call functions, by the SDK's own ways, on a model that was trained to; also when everything is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from janflask.storage.rounds import FIELD
from tests.e2e.server import Server, serving
from tests.e2e.tool_model import EARLIER, MODEL, TALK, serving_tool_model

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
]

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather of a city.", "parameters": PARAMETERS}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
GIVEN: Any = {"assistant_id": "jan", "model": MODEL, "temperature": 0, "max_completion_tokens": 200}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
POLLING: Any = {"poll_interval_ms": 100}


class Killed:
    """A server that may be killed with all its processes, and is started again on its folder."""

    def __init__(self, folder: Path, gguf: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.server = stack.enter_context(serving_tool_model(folder, gguf))
        self.data = folder / "data"

    def again(self) -> Server:
        self.server.kill()
        settings = {"JANFLASK_CTX_LEN": "4096", "JANFLASK_N_PARALLEL": "2", "JANFLASK_CPU_THREADS": "2"}
        self.server = self._stack.enter_context(serving(self.data, **settings))
        return self.server


@pytest.fixture(scope="module")
def killed(tool_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with ExitStack() as stack:
        yield Killed(tmp_path_factory.mktemp("runs"), tool_gguf, stack)


@pytest.fixture
def client(killed: Killed) -> Iterator[openai.OpenAI]:
    with killed.server.sdk() as client:
        yield client


def thread(killed: Killed, client: openai.OpenAI) -> str:
    """One in which an earlier run called the function, as it is kept; then the user asks for more."""
    thread_id = client.beta.threads.create().id
    call = EARLIER[1]["tool_calls"][0]
    function = {"id": call["id"], **call["function"], "output": EARLIER[2]["content"]}
    rounds = {FIELD: [{"message_id": None, "calls": [function]}]}
    asked, answer = ({"id": f"msg_{role}", "role": role} for role in ("user", "assistant"))
    lines = [{**asked, "content": EARLIER[0]["content"]}, {**answer, "content": EARLIER[3]["content"], **rounds}]
    messages = killed.data / "threads" / thread_id / "messages.jsonl"
    messages.write_text("".join(json.dumps(line) + "\n" for line in lines))
    client.beta.threads.messages.create(thread_id, role="user", content=TALK["question"])
    return thread_id


def outputs(run: Any) -> Any:
    calls = run.required_action.submit_tool_outputs.tool_calls
    cities = [json.loads(call.function.arguments)["city"] for call in calls]
    assert cities == ["Paris"]
    return [{"tool_call_id": call.id, "output": TALK["weather"]["Paris"]} for call in calls]


def text(client: openai.OpenAI, thread_id: str) -> str:
    newest = client.beta.threads.messages.list(thread_id).data[0]
    assert newest.content[0].type == "text"
    return newest.content[0].text.value.lower()


@pytest.mark.parametrize("choice", ["auto", "required", NAMED], ids=["auto", "required", "named"])
def test_a_loop_by_polling(killed: Killed, client: openai.OpenAI, choice: Any) -> None:
    thread_id = thread(killed, client)
    runs = client.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread_id, tools=TOOLS, tool_choice=choice, **POLLING, **GIVEN)
    assert run.status == "requires_action", run.last_error
    given = outputs(run)
    run = runs.submit_tool_outputs_and_poll(thread_id=thread_id, run_id=run.id, tool_outputs=given, **POLLING)
    assert run.status == "completed", run.last_error
    assert "snow" in text(client, thread_id)
    message, called = runs.steps.list(thread_id=thread_id, run_id=run.id).data
    assert (message.type, called.type, called.status) == ("message_creation", "tool_calls", "completed")
    assert called.step_details.type == "tool_calls"
    (call,) = called.step_details.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.output) == (given[0]["tool_call_id"], given[0]["output"])
    assert run.usage is not None
    assert called.usage is not None
    assert run.usage.completion_tokens > called.usage.completion_tokens


def test_a_loop_of_streams(killed: Killed, client: openai.OpenAI) -> None:
    thread_id = thread(killed, client)
    with client.beta.threads.runs.stream(thread_id=thread_id, tools=TOOLS, tool_choice=NAMED, **GIVEN) as stream:
        names = [event.event for event in stream]
        run, (step,) = stream.get_final_run(), stream.get_final_run_steps()
    assert names[-2:] == ["thread.run.step.delta", "thread.run.requires_action"]
    assert step.step_details.type == "tool_calls"
    assert step.step_details.tool_calls[0].id == outputs(run)[0]["tool_call_id"]
    with client.beta.threads.runs.submit_tool_outputs_stream(
        thread_id=thread_id, run_id=run.id, tool_outputs=outputs(run)
    ) as stream:
        names = [event.event for event in stream]
        (message,) = stream.get_final_messages()
        assert stream.get_final_run().status == "completed"
    assert names[:3] == ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]
    assert message.content[0].type == "text"
    assert message.content[0].text.value.lower() == text(client, thread_id)


def test_everything_is_killed_while_it_waits(killed: Killed, client: openai.OpenAI) -> None:
    thread_id = thread(killed, client)
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread_id, tools=TOOLS, tool_choice=NAMED, **POLLING, **GIVEN
    )
    with killed.again().sdk() as client:
        runs = client.beta.threads.runs
        found = runs.retrieve(run.id, thread_id=thread_id)
        assert found == run
        killed.server.start(MODEL).raise_for_status()
        runs.submit_tool_outputs(thread_id=thread_id, run_id=run.id, tool_outputs=outputs(found))
    with killed.again().sdk() as client:  # with the outputs acknowledged, and no more
        ended = client.beta.threads.runs.poll(run.id, thread_id=thread_id, **POLLING)
        assert ended.status == "completed", ended.last_error
        assert "snow" in text(client, thread_id)
        busy = client.beta.threads.messages.create(thread_id, role="user", content="Thanks.")
        assert busy.role == "user"
