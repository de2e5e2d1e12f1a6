"""A model of another janflask gets an entry by the command line, and is used here like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import JANFLASK, LIMIT, MODEL, Server, environment, run, serving

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

ASK: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
ANSWER: dict[str, Any] = {"messages": ASK, "max_tokens": 12, "temperature": 0.0}


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any model of its own."""
    with serving(tmp_path_factory.mktemp("near") / "data") as near:
        yield near


@pytest.fixture(scope="module")
def janflask(near: Server) -> Callable[..., str]:
    def command(*args: str, fails: bool = False) -> str:
        done = run([*JANFLASK, "models", *args], environment(near.data_dir, near.port))
        assert done.returncode == (1 if fails else 0), done.stderr
        return done.stderr if fails else done.stdout

    return command


@pytest.fixture(scope="module")
def far(server: Server, near: Server, janflask: Callable[..., str]) -> str:
    """The id of the entry, added while the server runs."""
    assert f"run by janflask, named {MODEL} there" in janflask("add-upstream", server.url, "--id", "far")
    return "far"


def test_it_is_started_shown_and_not_stopped(near: Server, far: str, janflask: Callable[..., str]) -> None:
    assert near.start(far).json() == {"id": far, "object": "model", "state": "running"}
    assert near.stop(far).status_code == 409
    assert near.model(far)["status"] == "running"
    (told,) = near.model(far)["upstream"]["servers"]
    assert (told["reachable"], told["error"], told["under_way"]) == (True, None, 0)
    head, row = (line.split() for line in janflask("ps").splitlines())
    assert (head[:3], row[0], row[2]) == (["MODEL", "UPSTREAM", "STATE"], far, "reachable")
    assert near.engines() == []


def test_it_answers_as_it_does_there(near: Server, server: Server, far: str) -> None:
    with near.sdk() as here, server.sdk() as there:
        assert far in [model.id for model in here.models.list()]
        expected = there.chat.completions.create(model=MODEL, **ANSWER).choices[0].message.content
        assert here.chat.completions.create(model=far, **ANSWER).choices[0].message.content == expected
        stream = here.chat.completions.create(model=far, stream=True, **ANSWER)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == expected
    assert near.engines() == []


def test_a_run_of_a_thread(near: Server, far: str) -> None:
    with near.sdk() as here:
        thread = here.beta.threads.create(messages=ASK)
        done = here.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id="jan", model=far, max_completion_tokens=12, temperature=0.0
        )
        assert (done.status, done.model) == ("incomplete", far)
        answer = next(iter(here.beta.threads.messages.list(thread.id, order="desc", limit=1)))
        chat = here.chat.completions.create(model=far, **ANSWER).choices[0].message.content
        assert answer.content[0].type == "text"
        assert answer.content[0].text.value == chat


def test_a_model_that_is_gone_there_is_said(near: Server, far: str) -> None:
    entry = near.data_dir / "models" / far / "model.json"
    before = entry.read_text()
    content = json.loads(before)
    content["upstream"]["model"] = "nothing"
    entry.write_text(json.dumps(content))
    try:
        with near.sdk() as here, pytest.raises(openai.APIStatusError, match="has no model 'nothing'") as refused:
            here.chat.completions.create(model=far, **ANSWER)
        assert refused.value.status_code == 502
    finally:
        entry.write_text(before)


def test_one_that_cannot_be_reached(near: Server, janflask: Callable[..., str], tmp_path: Path) -> None:
    janflask("add-upstream", "http://127.0.0.1:1", "--no-check", "--model", "x", "--id", "gone")
    answer = near.start("gone")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "http://127.0.0.1:1/v1 cannot be reached" in answer.json()["error"]["message"]
    assert near.model("gone")["status"] == "failed"
    assert httpx.delete(f"{near.url}/v1/models/gone", timeout=LIMIT).json()["deleted"] is True
    assert near.get("/v1/models/gone").status_code == 404
