"""What a real engine, a run and a chat leave in the logs: ids of requests, and nobody's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.server import MODEL, Server, serving, wait_for

SECRET = "Xylophonwort"
MESSAGES = [{"role": "user", "content": f"Say {SECRET}."}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12}
SCHEMA = {"type": "object", "properties": {SECRET: {"enum": [SECRET]}}, "required": [SECRET]}
TOOLS = [{"type": "function", "function": {"name": SECRET, "description": SECRET, "parameters": SCHEMA}}]
BODIES: list[dict[str, Any]] = [
    CHAT,
    CHAT | {"stream": True, "logprobs": True, "top_logprobs": 2},
    CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": SECRET, "schema": SCHEMA}}},
    CHAT
    | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": f"#/{SECRET}"}}}},
    CHAT | {"regex": f"{SECRET}[0-9"},
    CHAT | {"grammar": f"root ::= {SECRET}"},
    CHAT | {"grammar": f"root ::= [{SECRET}"},
    CHAT | {"tools": TOOLS, "tool_choice": "required"},
    CHAT | {"stop": [SECRET], "user": SECRET},
    CHAT | {"messages": [{"role": "user", "content": f"{SECRET} " * 4000}]},
    CHAT | {"messages": [{"role": SECRET, "content": "x"}]},
]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def engine_log(data_dir: Path) -> str:
    return (data_dir / "logs" / f"engine-{MODEL}.log").read_text()


def ask_everything(server: Server) -> None:
    for number, body in enumerate(BODIES):
        headers = {"X-Request-Id": f"req-{number}", "Authorization": f"Bearer {SECRET}"}
        server.post("/v1/chat/completions", json=body, headers=headers)


def test_ids_and_no_words(own_dir: Path) -> None:
    with serving(own_dir, JANFLASK_LOG_FORMAT="json", JANFLASK_LOG_LEVEL="debug") as server:
        server.start().raise_for_status()
        ask_everything(server)
        thread_id = server.post("/v1/threads", json={"messages": MESSAGES}).json()["id"]
        run = server.post(
            f"/v1/threads/{thread_id}/runs",
            json={"model": MODEL, "max_completion_tokens": 8},
            headers={"X-Request-Id": "req-run"},
        ).json()
        path = f"/v1/threads/{thread_id}/runs/{run['id']}"
        wait_for(lambda: server.found(path)["status"] in ("completed", "incomplete"), "the run's end")
        answered = server.found(path)["usage"]["completion_tokens"]
        server.process.terminate()
        assert server.process.wait(60) == 0
        log, engine = server.log.read_text(), engine_log(own_dir)
    assert [line for line in (log + engine).splitlines() if SECRET in line] == []
    assert {"req-0", "req-1", "req-run"} <= {line.get("request_id") for line in lines(engine)}
    ended = [line for line in lines(engine) if line.get("request_id") == "req-run"]
    assert ended[-1]["process"] == "engine"
    assert ended[-1]["generated"] == answered > 0
    assert {line["process"] for line in lines(log)} >= {"master", "worker", "supervisor"}
