"""The command line against the running server, as processes of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tests.e2e.server import JANFLASK, MODEL, Server, environment, run

Janflask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def janflask(server: Server) -> Janflask:
    """Runs ``janflask ...`` with the server's own settings around it."""

    def call(*args: str, text: str = "") -> subprocess.CompletedProcess[str]:
        done = run([*JANFLASK, *args], environment(server.data_dir, server.port), text)
        assert done.returncode == 0, done.stderr
        return done

    return call


def test_list_and_show(server: Server, janflask: Janflask) -> None:
    server.start().raise_for_status()
    lines = janflask("models", "list").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["MODEL", "STATE"], [MODEL, "running"]]
    shown = janflask("models", "show", MODEL).stdout
    assert "135M" in shown
    assert "pinned" in shown
    assert json.loads(janflask("models", "show", MODEL, "--json").stdout)["status"] == "running"


def test_stop_start_and_ps(server: Server, janflask: Janflask) -> None:
    assert janflask("models", "stop", MODEL).stdout == f"{MODEL} is stopped.\n"
    assert server.engines() == []
    assert janflask("models", "ps").stdout == "No model is running.\n"
    assert janflask("models", "start", MODEL, "--set", "n_parallel=3").stdout == f"{MODEL} is running.\n"
    (engine,) = server.engines()
    head, line = (row.split() for row in janflask("models", "ps").stdout.splitlines())
    shown = dict(zip(head, line, strict=False))
    assert (shown["MODEL"], shown["PID"], shown["SLOTS"]) == (MODEL, str(engine.pid), "0/3")
    janflask("models", "stop", MODEL)


def test_a_chat_from_a_pipe(server: Server, janflask: Janflask) -> None:
    """Two questions, the second with the first and its answer before it; the model is started by the first."""
    server.stop().raise_for_status()
    questions = f"{'My name is Ada. ' * 8}\n\nWhat is my name?\n"
    done = janflask("chat", MODEL, "--temperature", "0", "--max-tokens", "16", text=questions)
    assert len([line for line in done.stdout.splitlines() if line.strip()]) >= 2
    stats = server.stats()
    assert stats["requests"] == 2
    assert stats["cached_tokens"] > 8 * 5 + 16, "the first question and its answer"
    again = janflask("chat", MODEL, "--temperature", "0", "--max-tokens", "4", "--system", "Be brief.", text="Hi\n")
    assert again.stdout.strip()


def test_a_chat_under_a_schema(server: Server, janflask: Janflask, tmp_path: Path) -> None:
    age = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"pet": {"enum": ["cat", "dog"]}, "age": age}, "required": ["pet", "age"]}
    path = tmp_path / "pet.json"
    path.write_text(json.dumps(schema))
    asked = ("chat", MODEL, "--json-schema", str(path), "--temperature", "1.5", "--max-tokens")
    answers = janflask(*asked, "40", text="Describe a pet as JSON.\nAnother one!\n").stdout.splitlines()
    assert len(answers) == 2
    for answer in answers:
        jsonschema.validate(json.loads(answer), schema)
    done = run([*JANFLASK, *asked, "3", "--url", server.url], environment(server.data_dir, 1), "And a third.\n")
    assert (done.returncode, "the answer was cut" in done.stderr) == (1, True)
    path.write_text(json.dumps({**schema, "not": {}}))
    done = run([*JANFLASK, *asked, "40", "--url", server.url], environment(server.data_dir, 1), "Hi\n")
    assert (done.returncode, done.stdout.strip()) == (1, "")
    assert done.stderr.startswith("Error: response_format.json_schema.schema.not is not supported")
    assert done.stderr.count("\n") == 1


def test_a_chat_with_an_unknown_model(server: Server) -> None:
    done = run([*JANFLASK, "chat", "nobody", "--url", server.url], environment(server.data_dir, 1), "Hi\n")
    assert done.returncode == 1
    assert MODEL in done.stderr


def test_a_stored_conversation_goes_on(server: Server, janflask: Janflask) -> None:
    created = server.post("/v1/threads", json={"messages": [{"role": "user", "content": "My name is Ada."}]}).json()
    answer = janflask("threads", "ask", created["id"], "What is my name?", "--model", MODEL).stdout
    options = ("--temperature", "0", "--max-tokens", "8")
    further = janflask("chat", MODEL, "--thread", created["id"], *options, text="And mine?\n\nReally?\n").stdout
    messages = server.get(f"/v1/threads/{created['id']}/messages?order=asc").json()["data"]
    assert [message["role"] for message in messages] == ["user", *["user", "assistant"] * 3]
    said = [message["content"][0]["text"]["value"] for message in messages if message["role"] == "assistant"]
    assert answer.strip() == said[0].strip()
    assert further.strip().startswith(said[1].strip())


def test_a_stored_conversation_with_a_picture(server: Server, janflask: Janflask) -> None:
    url = {"url": "https://example.org/x.png"}
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": url}]}
    thread_id = server.post("/v1/threads", json={"messages": [picture]}).json()["id"]
    ask = ("threads", "ask", thread_id, "Hi", "--model", MODEL)
    for words, text in ((ask, ""), (("chat", MODEL, "--thread", thread_id), "Hi\n")):
        done = run([*JANFLASK, *words, "--url", server.url], environment(server.data_dir, 1), text)
        assert done.returncode == 1
        assert "holds a picture (image_url), which no model here is shown" in done.stderr
    assert len(server.get(f"/v1/threads/{thread_id}/messages").json()["data"]) == 1
    assert janflask(*ask, "--last", "1", "--no-tools").stdout.strip()


def test_a_stored_conversation_that_is_not_there(server: Server) -> None:
    done = run([*JANFLASK, "threads", "ask", "thread_none", "hi"], environment(server.data_dir, server.port))
    assert done.returncode == 1
    assert "there is no thread" in done.stderr
