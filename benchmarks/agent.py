"""An agent's loop of 30 turns over a history that grows to 6,000 tokens: what of its prompts is computed again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.agent_loop import AGENTS, Agent, as_json, ratio
from benchmarks.harness import MODEL, Server, linked_data, serving_store
from benchmarks.report import Row

TURNS = 30
HISTORY = 6000  # tokens that it grows to, at least
BEGINS_WITH = 300  # words of the agent's instructions
OUTPUT = 110  # words of a tool's output
ANSWER = 40  # tokens
TARGET = 1.05  # prompt tokens computed / those that are new
SETTINGS: dict[str, Any] = {"ctx_len": 16384, "n_parallel": 1}


def run() -> list[Row]:
    """Alone, two that alternate on one slot, and with another server in the middle; over each API."""
    return [row for kind in AGENTS for row in _of(kind)]


def _of(kind: type[Agent]) -> list[Row]:
    return [
        _row(kind, "alone", _loop(kind, 1)),
        _row(kind, "two on one slot", _loop(kind, 2)),
        _row(kind, "two, and a restart", _loop(kind, 2, restart=True)),
    ]


def _loop(kind: type[Agent], count: int, *, restart: bool = False) -> list[Agent]:
    """The first agent says something in each turn, the second one calls."""
    agents = [
        kind(MODEL, number, calls=number == 1, begins_with=BEGINS_WITH, output=OUTPUT, answer=ANSWER)
        for number in range(count)
    ]
    parts = [TURNS // 2, TURNS - TURNS // 2] if restart else [TURNS]
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        knobs: dict[str, Any] = {}
        for turns in parts:
            with serving_store(data, **SETTINGS | knobs) as server:
                server.put(f"/v1/models/{MODEL}/start")
                knobs = server.knobs()  # a busy machine may make the next server choose others
                longest = [_turns(server, agents) for _ in range(turns)][-1]
    if longest < HISTORY:
        raise SystemExit(f"the history grew to {longest} tokens only, not {HISTORY}")
    return agents


def _turns(server: Server, agents: list[Agent]) -> int:
    """One of each, in turn. Returns the shortest prompt's tokens."""

    def post(path: str, body: dict[str, Any]) -> Any:
        return server.post(path, as_json(body), timeout=600)

    return min(agent.turn(post).prompt for agent in agents)


def _row(kind: type[Agent], how: str, agents: list[Agent]) -> Row:
    detail = {"computed": sum(agent.computed for agent in agents), "new": sum(agent.new for agent in agents)}
    name = f"{kind.path}, {how}: prompt tokens computed / new"
    return Row(name, ratio(agents), TARGET, "x", False, detail=detail)
