"""Who sends a whole history each time has only what is new of it computed: beside another, and after a restart.

What is counted are tokens, so nothing here depends on how fast the machine is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.agent_loop import AGENTS, Agent, ChatAgent
from tests.e2e.server import MODEL, Server, serving, wait_for

ONE = {"JANFLASK_N_PARALLEL": "1"}
ANSWER = 16  # tokens
AGAIN = ANSWER + 2  # tokens that may be computed though they are not new: an answer's text may be cut in other ones


def agent(kind: type[Agent], number: int, *, calls: bool = False) -> Agent:
    return kind(MODEL, number, calls=calls, begins_with=200, output=30, answer=ANSWER)


def turn(server: Server, agent: Agent) -> int:
    """Asks. Returns how many tokens were computed that were not new."""

    def post(path: str, body: dict[str, Any]) -> Any:
        answer = server.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    before = agent.computed - agent.new
    agent.turn(post)
    return agent.computed - agent.new - before


@pytest.mark.parametrize("kind", AGENTS)
def test_agents_that_alternate_on_one_slot_and_outlive_the_server(own_dir: Path, kind: type[Agent]) -> None:
    agents = [agent(kind, 0), agent(kind, 1)]
    for _ in range(2):
        with serving(own_dir, **ONE) as server:
            again = [turn(server, agent) for _ in range(2) for agent in agents]
            server.end()
        assert max(again) <= AGAIN


def test_agents_that_call(own_dir: Path) -> None:
    agents = [agent(ChatAgent, 0, calls=True), agent(ChatAgent, 1)]
    with serving(own_dir, **ONE) as server:
        again = [turn(server, agent) for _ in range(3) for agent in agents]
    assert max(again) <= AGAIN


def test_a_history_goes_on_over_another_api(own_dir: Path) -> None:
    """A chat's history as a thread, whose run has a name; and what that run has left, as a chat."""
    chat, other = agent(ChatAgent, 0), agent(ChatAgent, 1)
    with serving(own_dir, **ONE) as server:
        turn(server, chat)
        turn(server, other)  # it takes the slot
        thread = server.post("/v1/threads", json={"messages": chat.history}).json()["id"]
        body = {"model": MODEL, "instructions": chat.system, "temperature": 0, "max_completion_tokens": ANSWER}
        run = server.post(f"/v1/threads/{thread}/runs", json=body).json()["id"]
        wait_for(lambda: server.get(f"/v1/threads/{thread}/runs/{run}").json()["status"] == "incomplete", "the answer")
        usage = server.get(f"/v1/threads/{thread}/runs/{run}").json()["usage"]
        assert usage["prompt_token_details"]["cached_tokens"] > 300
        turn(server, other)
        said = server.get(f"/v1/threads/{thread}/messages").json()["data"][0]["content"][0]["text"]["value"]
        chat.history += [{"role": "assistant", "content": said}, {"role": "user", "content": "Go on."}]
        asked = chat.turn(lambda path, body: server.post(path, json=body).json())
        assert asked.cached > usage["prompt_tokens"]
