"""Odd values in files that somebody else wrote: no thread becomes unusable, and what cannot be meant is named."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask.files import ids
from janflask.ipc.messages.generation import GenerateRequest
from janflask.models.parameters import NAMES
from janflask.storage import open_repository
from janflask.storage.doctor.examination import examine
from janflask.storage.records import Run
from tests.unit.api.conftest import World
from tests.unit.api.running import running

PATIENCE = 20.0  # seconds; no test waits for it unless something is wrong


@dataclass
class Threads:
    """Threads on disk, and a runner that answers them."""

    client: FlaskClient
    world: World

    def make(self, **fields: Any) -> str:
        """A thread whose ``thread.json`` has these fields, written by hand."""
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        thread_id: str = self.client.post("/v1/threads", json=body).get_json()["id"]
        file = self.folder(thread_id) / "thread.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return thread_id

    def folder(self, thread_id: str) -> Path:
        return self.world.settings.threads_dir / thread_id

    def run(self, thread_id: str, **fields: Any) -> dict[str, Any]:
        """A run of the thread, when it is over."""
        response = self.client.post(f"/v1/threads/{thread_id}/runs", json=fields)
        assert response.status_code == 200, response.text
        return self.over(thread_id, response.get_json()["id"])

    def over(self, thread_id: str, run_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            response = self.client.get(f"/v1/threads/{thread_id}/runs/{run_id}")
            assert response.status_code == 200, response.text
            run: dict[str, Any] = response.get_json()
            if run["status"] in ("completed", "failed", "incomplete", "cancelled", "expired"):
                return run
            assert time.monotonic() < deadline, run
            time.sleep(0.005)

    def asked(self) -> GenerateRequest:
        """What the engine was asked last."""
        return self.world.engine.requests.pop()

    def found(self, what: str) -> list[str]:
        """What the doctor says of a file."""
        return [finding.problem for finding in examine(self.world.settings) if what in finding.path]

    def check_usable(self, thread_id: str) -> None:
        """Whatever lies there can be read, and answered or refused by name."""
        for path in ("", "/", "/messages", "/runs", "/export", "/assistants"):
            response = self.client.get(f"/v1/threads/{thread_id}{path}")
            assert response.status_code == 200, (path, response.text)
        response = self.client.post(f"/v1/threads/{thread_id}/runs", json={})
        if response.status_code == 200:
            run = self.over(thread_id, response.get_json()["id"])
            named = run["last_error"] is None or "the run failed" not in run["last_error"]["message"]
            assert named, run
        else:
            assert response.status_code in (400, 404, 409), response.text
        assert self.client.get(f"/v1/threads/{thread_id}/messages").status_code == 200


@pytest.fixture
def threads(client: FlaskClient, world: World) -> Iterator[Threads]:
    with running(world):
        yield Threads(client, world)


# --- thread.json ------------------------------------------------------------------------------------------------------

MEANT: list[tuple[dict[str, Any], str, Any]] = [
    ({"temperature": "0.7"}, "sampling.temperature", 0.7),
    ({"max_tokens": 3.0}, "max_tokens", 3),
    ({"max_tokens": "3"}, "max_tokens", 3),
    ({"max_tokens": -1}, "max_tokens", None),
    ({"top_k": 40.0}, "sampling.top_k", 40),
    ({"stop": ""}, "stop", ()),
    ({"stop": "END"}, "stop", ("END",)),
    ({"logit_bias": {"5": -1}}, "sampling.logit_bias", ((5, -1.0),)),
    ({"seed": "7"}, "sampling.seed", 7),
    ({"ignore_eos": "true"}, "sampling.ignore_eos", True),
    ({"cache_prompt": "false"}, "cache_prompt", False),
    ({"dry_sequence_breakers": ["x"]}, "sampling.dry_sequence_breakers", ("x",)),
    ({"repetition_penalty": 1.3}, "sampling.repeat_penalty", 1.3),
]


@pytest.mark.parametrize(("parameters", "path", "used"), MEANT, ids=lambda item: str(item)[:40])
def test_what_can_be_meant_is_used_wherever_it_lies(
    threads: Threads, world: World, parameters: dict[str, Any], path: str, used: Any
) -> None:
    world.write_model(parameters={"max_tokens": 99})
    thread_id = threads.make(parameters=parameters)
    assert threads.run(thread_id)["status"] == "completed"
    assert _at(threads.asked(), path) == used
    threads.check_usable(thread_id)
    assert threads.found(thread_id) == []
    entry = {"assistant_id": "jan", "model": {"id": "tiny", "parameters": parameters}}
    assert threads.run(threads.make(assistants=[entry]))["status"] == "completed"
    assert _at(threads.asked(), path) == used
    world.write_model(parameters=parameters)
    threads.run(threads.make())
    assert _at(threads.asked(), path) == used


def _at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name)
    return found


NAMED: list[tuple[dict[str, Any], str]] = [
    ({"parameters": {"temperature": "warm"}}, 'parameters.temperature in thread.json is "warm": must be a number'),
    ({"parameters": {"temperature": 7.5}}, "parameters.temperature in thread.json is 7.5: must be from 0 to 2"),
    ({"parameters": {"stop": ["a", 5]}}, "parameters.stop.1 in thread.json is 5: must be a string"),
    ({"parameters": {"logit_bias": {"x": 1}}}, "parameters.logit_bias.x in thread.json"),
    ({"parameters": {"guided_json": {"a": 1}}}, "parameters.guided_json in thread.json is not supported"),
    ({"parameters": {"chat_template_kwargs": {"a": 10**30}}}, "parameters.chat_template_kwargs in thread.json"),
    ({"parameters": "warm"}, 'parameters in thread.json is "warm": must be an object'),
    ({"settings": {"ctx_len": "long"}}, "settings.ctx_len in thread.json is 'long': must be"),
    ({"settings": {"mmap": []}}, "settings.mmap in thread.json is '[]': must be"),
    ({"settings": ["x"]}, "settings in thread.json must be an object"),
    (
        {"assistants": [{"assistant_id": "jan", "model": {"parameters": {"top_k": "x"}}}]},
        'assistants.0.model.parameters.top_k in thread.json is "x"',
    ),
    (
        {"assistants": ["x", {"assistant_id": "jan", "model": {"settings": 5}}]},
        "assistants.1.model.settings in thread.json must be an object",
    ),
]


@pytest.mark.parametrize(("fields", "told"), NAMED, ids=lambda item: str(item)[:50])
def test_what_cannot_is_named_by_the_run_and_by_the_doctor(
    threads: Threads, world: World, fields: dict[str, Any], told: str
) -> None:
    thread_id = threads.make(**fields)
    run = threads.run(thread_id, assistant_id="jan")
    assert run["status"] == "failed"
    assert told in run["last_error"]["message"]
    assert world.engine.requests == []
    threads.check_usable(thread_id)
    (problem,) = threads.found(thread_id)
    assert told.split(" in thread.json")[0] in problem


def test_what_is_replaced_stands_in_nobodys_way(threads: Threads) -> None:
    thread_id = threads.make(parameters={"temperature": "warm", "top_k": 5}, settings={"vulkan": True})
    assert threads.run(thread_id, temperature=0.5)["status"] == "completed"
    asked = threads.asked()
    assert (asked.sampling.temperature, asked.sampling.top_k) == (0.5, 5)
    response = threads.client.patch(f"/v1/threads/{thread_id}", json={"parameters": {"top_k": 6}})
    assert response.get_json()["parameters"] == {"top_k": 6}
    assert threads.run(thread_id)["status"] == "completed"


def test_the_api_names_at_the_door_what_a_file_would_hold(threads: Threads) -> None:
    for fields, _ in NAMED[:6]:
        response = threads.client.post("/v1/threads", json=fields)
        (name,) = fields["parameters"]
        assert response.status_code == 400
        param = response.get_json()["error"]["param"]
        assert param == "parameters" or param.startswith(f"parameters.{name}")


def test_no_number_comes_in_that_cannot_go_between_processes(threads: Threads) -> None:
    thread_id = threads.make()
    response = threads.client.post(f"/v1/threads/{thread_id}/runs", json={"metadata": {"a": [10**30]}})
    assert (response.status_code, response.get_json()["error"]["param"]) == (400, "metadata")
    assert threads.run(thread_id, metadata={"a": (1 << 64) - 1})["metadata"] == {"a": (1 << 64) - 1}


def test_an_import_names_it_too(threads: Threads) -> None:
    thread_id = threads.make()
    document = threads.client.get(f"/v1/threads/{thread_id}/export").get_json()
    for fields, told in NAMED:
        response = threads.client.post("/v1/threads/import", json=document | {"thread": document["thread"] | fields})
        assert response.status_code == 400, fields
        assert response.get_json()["error"]["param"].startswith(f"thread.{next(iter(fields))}"), told
    for parameters, _, _ in MEANT:
        thread = document["thread"] | {"parameters": parameters, "settings": {"vulkan": 1, "ctx_len": "512"}}
        assert threads.client.post("/v1/threads/import", json=document | {"thread": thread}).status_code == 200


# --- model.json, assistant.json ---------------------------------------------------------------------------------------


def test_an_odd_model_is_named(threads: Threads, world: World) -> None:
    world.write_model(parameters={"max_tokens": "many", "logit_bias": {"5000": 1}})
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    error = threads.client.post("/v1/chat/completions", json=chat).get_json()["error"]
    assert 'parameters.max_tokens in model.json of tiny is "many": must be a whole number' in error["message"]
    assert (
        'parameters.max_tokens in model.json of tiny is "many"' in threads.run(threads.make())["last_error"]["message"]
    )
    error = threads.client.post("/v1/chat/completions", json=chat | {"max_tokens": 5}).get_json()["error"]
    assert "logit_bias in model.json of tiny: 5000 is no token" in error["message"]
    assert (
        threads.client.post("/v1/chat/completions", json=chat | {"max_tokens": 5, "logit_bias": {}}).status_code == 200
    )
    assert threads.client.get("/v1/models/tiny").status_code == 200


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"temperature": "warm"}, 'temperature in assistant.json of odd is "warm": must be a number from 0 to 2'),
        ({"top_p": 7}, "top_p in assistant.json of odd is 7.0: must be from 0 to 1"),
        ({"parameters": {"top_k": "x"}}, 'parameters.top_k in assistant.json of odd is "x"'),
    ],
)
def test_an_odd_assistant_is_named(threads: Threads, world: World, fields: dict[str, Any], told: str) -> None:
    write_assistant(world, "odd", fields)
    run = threads.run(threads.make(), assistant_id="odd")
    assert told in run["last_error"]["message"]
    assert threads.client.get("/v1/assistants/odd").status_code == 200
    (problem,) = threads.found("assistants/odd")
    assert problem.startswith(next(iter(fields)))
    assert threads.run(
        threads.make(), assistant_id="odd", **{told.split()[0]: 1} if "param" not in told else {"top_k": 1}
    )


def test_how_much_an_assistant_is_to_think(threads: Threads, world: World) -> None:
    info = world.supervisor.states["tiny"].info
    assert info is not None
    world.supervisor.states["tiny"] = world.supervisor.run(
        "tiny",
        world.engine,
        replace(
            info,
            chat_template="{{ reasoning_effort }}|{{ enable_thinking }}|"
            "{% for m in messages %}{{ m.content }}{% endfor %}",
        ),
    )
    response = threads.client.post("/v1/assistants", json={"id": "odd", "reasoning_effort": "low"})
    assert response.status_code == 200
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "low|"),
        ({"reasoning_effort": "none"}, "|False"),
        ({"enable_thinking": True}, "low|True"),
    ]
    for fields, prompt in cases:
        assert threads.run(threads.make(), assistant_id="odd", **fields)["status"] == "completed"
        assert world.engine.tokenized[-1].text.rpartition("|")[0] == prompt
    write_assistant(world, "odd", {"reasoning_effort": "huge"})
    told = threads.run(threads.make(), assistant_id="odd")["last_error"]["message"]
    assert 'reasoning_effort in assistant.json of odd is "huge": must be one of none' in told


def test_parameters_of_an_assistant_as_later_versions_of_jan_keep_them(threads: Threads, world: World) -> None:
    write_assistant(world, "odd", {"temperature": "0.3", "parameters": {"top_k": "7", "stream": True}})
    assert threads.run(threads.make(), assistant_id="odd")["status"] == "completed"
    asked = threads.asked()
    assert (asked.sampling.temperature, asked.sampling.top_k) == (0.3, 7)


def write_assistant(world: World, assistant_id: str, fields: dict[str, Any]) -> None:
    folder = world.settings.assistants_dir / assistant_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "assistant.json").write_text(json.dumps({"id": assistant_id, "object": "assistant"} | fields))


# --- the runs' own files ----------------------------------------------------------------------------------------------


def test_a_run_that_an_earlier_version_wrote_goes_on(threads: Threads) -> None:
    """Its temperature was text, and its parameters lay there as they were found."""
    thread_id = threads.make()
    run_id = open_run(threads, thread_id, temperature="0.7", parameters={"max_tokens": "3", "stop": "", "top_k": 4.0})
    threads.client.get(f"/v1/threads/{thread_id}/messages")
    repository = open_repository(threads.world.settings)
    assert list(repository.runs.all_open()) == [(thread_id, run_id)]
    assert (
        threads.client.post(f"/v1/threads/{thread_id}/runs", json={}).status_code == 400
    )  # and the runner hears of it
    assert threads.over(thread_id, run_id)["status"] == "completed"
    asked = threads.asked()
    assert (asked.max_tokens, asked.sampling.top_k, asked.sampling.temperature) == (3, 4, 0.7)
    threads.check_usable(thread_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", "warm"), ("model", 5), ("status", "odd"), ("metadata", {"a": 10**30}), ("message_id", None)],
)
def test_a_run_that_cannot_be_understood_has_failed_and_says_why(threads: Threads, field: str, value: Any) -> None:
    thread_id = threads.make()
    run_id = open_run(threads, thread_id, **{field: value})
    run = threads.client.get(f"/v1/threads/{thread_id}/runs/{run_id}").get_json()
    assert run["status"] == "failed"
    assert f"{run_id}.json cannot be understood: {field} is" in run["last_error"]["message"]
    assert [item["id"] for item in threads.client.get(f"/v1/threads/{thread_id}/runs").get_json()["data"]] == [run_id]
    (problem,) = threads.found(f"runs/{run_id}.json")
    assert problem.startswith(field)
    threads.check_usable(thread_id)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"mine": 1}'])
def test_a_run_of_which_nothing_is_left_stands_in_nobodys_way(threads: Threads, content: bytes) -> None:
    thread_id = threads.make()
    run_id = open_run(threads, thread_id)
    (threads.folder(thread_id) / "runs" / f"{run_id}.json").write_bytes(content)
    long_ago(threads.folder(thread_id) / "runs" / "open")
    response = threads.client.get(f"/v1/threads/{thread_id}/runs/{run_id}")
    assert (response.status_code, response.get_json()["error"]["code"]) == (500, "store_damaged")
    response = threads.client.post(f"/v1/threads/{thread_id}/runs/{run_id}/cancel")
    assert (response.status_code, response.get_json()["error"]["code"]) == (500, "store_damaged")
    threads.check_usable(thread_id)
    assert len(threads.found(f"runs/{run_id}.json")) == 1


def test_a_reply_that_cannot_be_read_fails_its_run(threads: Threads) -> None:
    thread_id = threads.make()
    run_id = open_run(threads, thread_id, replied_ms=5)
    (threads.folder(thread_id) / "runs" / f"{run_id}.reply").write_bytes(b'"Hel"\nnonsense\n"lo"\n')
    assert threads.client.get(f"/v1/threads/{thread_id}/messages").status_code == 200
    (problem,) = threads.found(f"runs/{run_id}.reply")
    assert "line 2" in problem
    assert threads.client.post(f"/v1/threads/{thread_id}/runs", json={}).status_code == 200, (
        "the thread is free at once"
    )
    run = threads.over(thread_id, run_id)
    assert (run["status"], run_id in run["last_error"]["message"]) == ("failed", True)
    threads.check_usable(thread_id)


def open_run(threads: Threads, on: str, /, **fields: Any) -> str:
    """A run of the thread that is under way, and that nobody carries out yet; its file has these fields."""
    run = Run(
        id=ids.new_id(ids.RUN),
        thread_id=on,
        assistant_id="jan",
        message_id=ids.new_id(ids.MESSAGE),
        step_id=ids.new_id("step_"),
        created_ms=ids.now_ms(),
        expires_ms=ids.now_ms() + 60_000,
        model="tiny",
    )
    assert open_repository(threads.world.settings).runs.create(run)
    file = threads.folder(on) / "runs" / f"{run.id}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return run.id


def long_ago(file: Path) -> None:
    os.utime(file, (1, 1))


# --- whatever lies there ----------------------------------------------------------------------------------------------

ODD: list[Any] = [
    *(None, True, 0, -1, 3.0, 0.5, 1e300, 10**30, "", "0.7", "warm", "-1", "3", "true", [], ["a"], [[1, 2]], [5]),
    *({}, {"5": -1}, {"a": {"b": []}}, {"temperature": "warm"}, [None], [{}]),
]


def odd_table(chance: random.Random) -> Any:
    if chance.random() < 0.1:
        return chance.choice(ODD)
    names = [*NAMES, "guided_json", "repetition_penalty", "vulkan"]
    return {chance.choice(names): chance.choice(ODD) for _ in range(chance.randrange(3))}


def odd_settings(chance: random.Random) -> Any:
    names = ["ctx_len", "ngl", "mmap", "cache_type_k", "embedding", "vulkan", "prompt_template"]
    return chance.choice(ODD) if chance.random() < 0.1 else {chance.choice(names): chance.choice(ODD)}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_lies_in_the_files_a_thread_stays_usable(threads: Threads, world: World, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        model = {"id": "tiny", "parameters": odd_table(chance), "settings": odd_settings(chance)}
        assistant_id = chance.choice(["jan", "odd"])
        write_assistant(
            world,
            "odd",
            {"temperature": chance.choice(ODD), "top_p": chance.choice(ODD), "parameters": odd_table(chance)},
        )
        world.write_model(parameters=odd_table(chance))
        fields = {
            "assistants": chance.choice([[{"assistant_id": assistant_id, "model": model}], chance.choice(ODD)]),
            "parameters": odd_table(chance),
            "settings": odd_settings(chance),
        }
        threads.check_usable(threads.make(**fields))
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
        assert threads.client.post("/v1/chat/completions", json=chat).status_code in (200, 400, 409)
        for path in ("/v1/models", "/v1/models/tiny", "/v1/assistants", "/v1/assistants/odd", "/v1/threads"):
            assert threads.client.get(path).status_code == 200
        list(examine(world.settings))


@pytest.mark.parametrize("seed", range(2))
def test_whatever_lies_in_a_runs_file_its_thread_stays_usable(threads: Threads, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        thread_id = threads.make()
        odd = {chance.choice(list(Run.__dataclass_fields__)): chance.choice(ODD) for _ in range(chance.randrange(1, 4))}
        run_id = open_run(threads, thread_id, **odd)
        for path in ("", "/messages", "/runs", f"/runs/{run_id}", f"/runs/{run_id}/steps"):
            assert threads.client.get(f"/v1/threads/{thread_id}{path}").status_code == 200, (odd, path)
        response = threads.client.post(f"/v1/threads/{thread_id}/runs/{run_id}/cancel")
        assert response.status_code in (200, 400), (odd, response.text)
        threads.over(thread_id, run_id)
        threads.check_usable(thread_id)
