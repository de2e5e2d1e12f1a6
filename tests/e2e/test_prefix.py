"""Who sends a whole history each time has only computed what is new of it: on one slot with another, and after a restart.

What is counted are tokens, so nothing here depends on how fast the machine is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.agent_loop import AGENTS, Agent, ChatAgent
from tests.e2e.server import LIMIT, MODEL, Server, serving

ONE = {"JANFLASK_N_PARALLEL": "1"}
ANSWER = 16  # tokens


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


def end(server: Server) -> None:
    server.process.terminate()
    assert server.process.wait(LIMIT) == 0


@pytest.mark.parametrize("kind", AGENTS)
def test_agents_that_alternate_on_one_slot_and_outlive_the_server(own_dir: Path, kind: type[Agent]) -> None:
    agents = [agent(kind, 0), agent(kind, 1)]
    for _ in range(2):
        with serving(own_dir, **ONE) as server:
            again = [turn(server, agent) for _ in range(2) for agent in agents]
            end(server)
        assert max(again) <= 2, "the last token of an answer is drawn, not computed"


def test_one_that_calls_has_its_last_answer_computed_again_at_most(own_dir: Path) -> None:
    agents = [agent(ChatAgent, 0, calls=True), agent(ChatAgent, 1)]
    with serving(own_dir, **ONE) as server:
        again = [turn(server, agent) for _ in range(3) for agent in agents]
    assert max(again) <= ANSWER + 2, "a template may write a call in other tokens than the model"


def test_a_history_goes_on_over_another_api_with_nearly_all_of_it(own_dir: Path) -> None:
    """A run's thread, put into a chat; and one that the chat's history was put into."""
    with serving(own_dir, **ONE) as server:
        first = agent(ChatAgent, 0)
        turn(server, first)
        messages = [{"role": "system", "content": first.system}, *first.history]
        other = agent(ChatAgent, 1)
        turn(server, other)  # takes the slot
        body = {"model": MODEL, "instructions": "", "temperature": 0, "max_completion_tokens": 4}
        thread = server.post("/v1/threads", json={"messages": messages[1:]}).json()["id"]
        run = server.post(f"/v1/threads/{thread}/runs", json=body | {"instructions": first.system, "stream": True})
        assert '"cached_tokens": 0' not in run.text.replace('":0', '": 0')
        turn(server, other)
        messages.append({"role": "assistant", "content": "I see."})
