"""The SDKs that agents are written with, each in an environment of its own, call tools and get objects of a real model.

``agents/`` holds a script for each. It does everything once; the tests look at what it told.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Server
from tests.e2e.tool_model import MODEL, TALK
from tools import agent_sdks

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parent / "agents"
LIMIT = 400  # seconds that a script may take on a slow machine
CALLS = [["get_weather", {"city": "Paris"}]]

LOOPS = {
    "langchain": ["loop", "loop, streamed", "required", "required, streamed", "named"],
    "pydantic-ai": ["loop", "loop, streamed"],
    "instructor": ["loop", "loop, streamed"],
    "ai": ["loop", "loop, streamed", "required", "required, streamed", "named"],
    "openai-agents": [f"{how}{stream}" for how in ("loop", "session", "conversation") for stream in ("", ", streamed")],
    "llm": [f"loop, {way}{stream}" for way in ("chat", "responses") for stream in ("", ", streamed")],
}
OBJECTS = {
    "langchain": [
        "json_schema",
        "json_schema, strict",
        "json_schema, streamed",
        "function_calling",
        "function_calling, streamed",
        "json_mode",
    ],
    "pydantic-ai": [f"{how}{stream}" for how in ("tool", "native", "prompted") for stream in ("", ", streamed")],
    "instructor": [f"{how}{stream}" for how in ("tools", "json", "json_schema") for stream in ("", ", streamed")],
    "ai": ["schema", "schema, streamed", "json_object"],
    "openai-agents": ["output_type", "output_type, streamed"],
    "llm": [f"{way}{stream}" for way in ("chat", "responses") for stream in ("", ", streamed")],
}
BOTH = ["ai", "pydantic-ai"]


def drive(sdk: str, url: str, folder: Path) -> dict[str, Any]:
    """Runs an SDK's script in its environment; returns what each of its items told."""
    if sdk == "ai":
        script = folder / "drive.mjs"  # Node.js looks for packages from where a script lies
        script.write_text((SCRIPTS / "js" / script.name).read_text())
        (folder / "node_modules").symlink_to(agent_sdks.node_modules("js", os.environ))
        command = ["node", str(script)]
    else:
        script = SCRIPTS / f"drive_{sdk.replace('-', '_')}.py"
        command = [str(agent_sdks.python(sdk, os.environ)), "-B", str(script)]
    # Nothing of the shell's environment: keys, proxies and tracing change what SDKs do.
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    arguments = [f"{url}/v1", MODEL, json.dumps(TALK)]
    done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    items: dict[str, Any] = json.loads(done.stdout)["items"]
    return items


@pytest.fixture(scope="module")
def told(tool_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What an SDK's script told; it runs once."""
    known: dict[str, dict[str, Any]] = {}

    def ask(sdk: str) -> dict[str, Any]:
        if sdk not in known:
            known[sdk] = drive(sdk, tool_server.url, tmp_path_factory.mktemp(sdk))
        return known[sdk]

    return ask


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(sdk, item) for sdk, items in table.items() for item in items]


@pytest.mark.parametrize(("sdk", "item"), pairs(LOOPS))
def test_the_model_calls_and_says_what_came_of_it(told: Callable[[str], dict[str, Any]], sdk: str, item: str) -> None:
    result = told(sdk)[item]
    assert result.get("calls") == CALLS, result
    assert "snow" in result["answer"].lower()
    if "ends" in result:
        assert [end.replace("-", "_") for end in result["ends"]] == ["tool_calls", "stop"]
    if "pieces" in result:
        assert result["pieces"] > 1


@pytest.mark.parametrize(("sdk", "item"), pairs(OBJECTS))
def test_objects(told: Callable[[str], dict[str, Any]], sdk: str, item: str) -> None:
    assert told(sdk)[f"object, {item}"] == {"name": "Paris", "country": "France"}


def test_a_tool_and_a_form_for_the_answer_in_one_request(told: Callable[[str], dict[str, Any]]) -> None:
    result = told("ai")["tool and object"]
    assert result.get("calls") == CALLS, result
    assert result["answer"]["city"] == "Paris"
    assert "snow" in result["answer"]["weather"].lower()


def test_a_form_beside_a_tool_that_need_not_be_called(told: Callable[[str], dict[str, Any]]) -> None:
    """pydantic-ai lets the model choose, and this one rather writes JSON."""
    result = told("pydantic-ai")["tool and object"]
    assert result.get("calls") in ([], CALLS), result
    assert result["answer"]["city"] == "Paris"


@pytest.mark.parametrize("item", [item for item in LOOPS["openai-agents"] if not item.startswith("loop")])
def test_a_session_keeps_both_turns(told: Callable[[str], dict[str, Any]], item: str) -> None:
    result = told("openai-agents")[item]
    assert result.get("items") == ["message", "function_call", "function_call_output", "message"] * 2, result
    if item.startswith("conversation"):
        assert (result["popped"], result["left"]) == (result["answer"], 7)


@pytest.mark.parametrize("sdk", LOOPS)
def test_nothing_is_told_that_is_not_looked_at(told: Callable[[str], dict[str, Any]], sdk: str) -> None:
    looked_at = {*LOOPS[sdk], *(f"object, {item}" for item in OBJECTS[sdk])}
    assert told(sdk).keys() == looked_at | ({"tool and object"} if sdk in BOTH else set())
