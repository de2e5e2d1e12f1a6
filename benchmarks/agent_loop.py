"""An agent as a server sees it: its whole history with each turn, the last answer and a tool's output at its end.

What it counts are tokens, so its figures do not depend on the machine.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Post = Callable[[str, dict[str, Any]], Any]  # a path and a body to the answer's body

_SAID = """
the a file test value error module function returns when line passed failed in of with and def class import self None
True list dict open close read write café naïve x+=1; foo_bar(baz) -> int: # see 北京 [1, 2]
"""


def text(words: int, seed: int) -> str:
    """What a tool may print; the same for the same seed."""
    rng, said = random.Random(seed), _SAID.split()
    return "\n".join(" ".join(rng.choices(said, k=10)) for _ in range(words // 10))


def _object(**kinds: str) -> dict[str, Any]:
    properties = {name: {"type": kind, "description": f"the {name} that is wanted"} for name, kind in kinds.items()}
    return {"type": "object", "properties": properties, "required": list(kinds)}


TOOLS: list[tuple[str, str, dict[str, Any]]] = [
    ("read_file", "Gives the lines of a file of the project.", _object(path="string", first_line="integer")),
    ("run_command", "Runs a command in a shell and gives what it prints.", _object(command="string")),
    ("write_file", "Writes a file of the project.", _object(path="string", content="string")),
]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one turn, in tokens."""

    prompt: int
    cached: int
    generated: int


class Agent(ABC):
    """One history. ``calls``: it has to call a tool in every turn; else it says something."""

    path: str
    takes_seed = True

    def __init__(self, model: str, number: int, *, calls: bool, begins_with: int, output: int, answer: int) -> None:
        self.model = model
        self.number = number
        self.calls = calls
        self.output = output  # words of a tool's output
        self.answer = answer  # tokens of an answer at most
        self.system = f"You are coding agent {number}. " + text(begins_with, number)
        self.history: list[dict[str, Any]] = [{"role": "user", "content": "Find out why the test fails."}]
        self.computed = self.new = self.turns = 0
        self._known = 0  # tokens of the last prompt and its answer

    def turn(self, post: Post) -> Usage:
        """Asks, and puts answer and tool output behind the history."""
        sampling = {"temperature": 0.8, "seed": self.turns} if self.takes_seed else {}
        reply = post(self.path, {"model": self.model, **sampling, **self.body()})
        usage = self.usage(reply)
        self.new += usage.prompt - self._known
        self.computed += usage.prompt - usage.cached
        self._known = usage.prompt + usage.generated
        self.turns += 1
        self.take(reply, text(self.output, 1000 * self.number + self.turns))
        return usage

    @abstractmethod
    def body(self) -> dict[str, Any]:
        """The request, but for the model."""

    @abstractmethod
    def usage(self, reply: Any) -> Usage: ...

    @abstractmethod
    def take(self, reply: Any, output: str) -> None:
        """The answer as it came goes behind the history, and the output behind it."""


class ChatAgent(Agent):
    """Over chat completions."""

    path = "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        body = {
            "messages": [{"role": "system", "content": self.system}, *self.history],
            "max_tokens": self.answer,
        }
        tools = [
            {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}
            for name, about, schema in TOOLS
        ]
        return body | ({"tools": tools, "tool_choice": "required"} if self.calls else {})

    def usage(self, reply: Any) -> Usage:
        told = reply["usage"]
        cached = told["prompt_tokens_details"]["cached_tokens"]
        return Usage(told["prompt_tokens"], cached, told["completion_tokens"])

    def take(self, reply: Any, output: str) -> None:
        message = reply["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        self.history.append(
            {"role": "assistant", "content": message["content"]} | ({"tool_calls": calls} if calls else {})
        )
        self.history += [{"role": "tool", "tool_call_id": call["id"], "content": output} for call in calls]
        if not calls:
            self.history.append({"role": "user", "content": output})


class ResponsesAgent(Agent):
    """Over Responses that are not stored; as Codex does, it names a key under which their prompts may be kept."""

    path = "/v1/responses"

    def body(self) -> dict[str, Any]:
        body = {
            "instructions": self.system,
            "input": self.history,
            "store": False,
            "prompt_cache_key": f"agent-{self.number}",
            "max_output_tokens": self.answer,
        }
        tools = [
            {"type": "function", "name": name, "description": about, "parameters": schema, "strict": False}
            for name, about, schema in TOOLS
        ]
        return body | ({"tools": tools, "tool_choice": "required"} if self.calls else {})

    def usage(self, reply: Any) -> Usage:
        told = reply["usage"]
        return Usage(told["input_tokens"], told["input_tokens_details"]["cached_tokens"], told["output_tokens"])

    def take(self, reply: Any, output: str) -> None:
        self.history += reply["output"]
        calls = [item for item in reply["output"] if item["type"] == "function_call"]
        self.history += [
            {"type": "function_call_output", "call_id": call["call_id"], "output": output} for call in calls
        ]
        if not calls:
            self.history.append({"role": "user", "content": output})


class MessagesAgent(Agent):
    """Over Anthropic's Messages."""

    path = "/v1/messages"
    takes_seed = False

    def body(self) -> dict[str, Any]:
        body = {"system": self.system, "messages": self.history, "max_tokens": self.answer}
        tools = [{"name": name, "description": about, "input_schema": schema} for name, about, schema in TOOLS]
        return body | ({"tools": tools, "tool_choice": {"type": "any"}} if self.calls else {})

    def usage(self, reply: Any) -> Usage:
        told = reply["usage"]
        cached = told["cache_read_input_tokens"] or 0
        prompt = told["input_tokens"] + (told["cache_creation_input_tokens"] or 0) + cached
        return Usage(prompt, cached, told["output_tokens"])

    def take(self, reply: Any, output: str) -> None:
        self.history.append({"role": "assistant", "content": reply["content"]})
        calls = [block for block in reply["content"] if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": output} for call in calls]
        self.history.append({"role": "user", "content": results or output})


AGENTS: tuple[type[Agent], ...] = (ChatAgent, ResponsesAgent, MessagesAgent)


def ratio(agents: list[Agent]) -> float:
    """Prompt tokens computed / those that were new (not in the prompt before, nor generated), of all together."""
    return sum(agent.computed for agent in agents) / sum(agent.new for agent in agents)


def as_json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
