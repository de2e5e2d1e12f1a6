"""Codex CLI and Claude Code, as they are installed, have a file written by a call of a scripted model.

Their configuration is what docs/agents.md says; nothing is downloaded, reported or updated while they run.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scripted_model import CTX_LEN, MODEL, SAYS, Scripted, calls_once, serving_scripted_model
from tools import agent_sdks

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]

LIMIT = 120  # seconds that a client may take on a slow machine
TASK = "Write a file hello.txt with the word hello in it."
CODEX_CONFIG = """\
check_for_update_on_startup = false
model_provider = "janflask"
model = "{model}"
model_context_window = {ctx_len}

[model_providers.janflask]
name = "janflask"
base_url = "{url}/v1"
wire_api = "responses"

[analytics]
enabled = false
"""
CLAUDE_ENV = {
    "ANTHROPIC_AUTH_TOKEN": "none",
    "ANTHROPIC_MODEL": MODEL,
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
}


def run(script: str, arguments: list[str], work: Path, **env: str) -> str:
    """What a client of ``clients/`` says; ``work`` is where it works, its own folders lie beside."""
    program = agent_sdks.node_modules("clients", os.environ) / script
    home = work.with_name("home")
    for folder in (work, home):
        folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["node", str(program), *arguments],
        # Nothing of the shell's environment: keys, proxies and telemetry change what clients do.
        env={"PATH": os.environ["PATH"], "HOME": str(home), **env},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def codex(url: str, work: Path, model: str = MODEL) -> str:
    home = work.with_name("codex")
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CODEX_CONFIG.format(model=model, ctx_len=CTX_LEN, url=url))
    # Without a sandbox of its own, which containers may not allow: what it runs is the script's.
    arguments = ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "--json", TASK]
    return run("@openai/codex/bin/codex.js", arguments, work, CODEX_HOME=str(home))


def claude(url: str, work: Path) -> str:
    arguments = ["--print", "--permission-mode", "acceptEdits", "--output-format", "json", TASK]
    env = {**CLAUDE_ENV, "ANTHROPIC_BASE_URL": url, "CLAUDE_CONFIG_DIR": str(work.with_name("claude"))}
    return run("@anthropic-ai/claude-code/cli-wrapper.cjs", arguments, work, **env)


def told_of_a_call(scripted: Scripted, name: str, arguments: dict[str, Any]) -> str:
    """What the model was told of its call in the last request; the earlier one is how that begins."""
    first, last = scripted.asked()[-2:]
    *before, called, result = last["messages"]
    assert before == first["messages"]
    assert last["tools"] == first["tools"]
    (call,) = called["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (name, arguments)
    assert (result["role"], result["tool_call_id"]) == ("tool", call["id"])
    content: str = result["content"]
    return content


def test_codex(tmp_path: Path) -> None:
    arguments = {"cmd": "printf hello > hello.txt"}
    with serving_scripted_model(tmp_path / "server", calls_once("exec_command", arguments)) as scripted:
        told = [json.loads(line) for line in codex(scripted.server.url, tmp_path / "work").splitlines()]
        assert (tmp_path / "work" / "hello.txt").read_text() == "hello"
        assert "exited with code 0" in told_of_a_call(scripted, "exec_command", arguments)
    items = [event["item"] for event in told if event["type"] == "item.completed"]
    assert [item["text"] for item in items if item["type"] == "agent_message"] == [SAYS]
    (usage,) = [event["usage"] for event in told if event["type"] == "turn.completed"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (14, 4)  # of both answers, as the upstream counts


def test_codex_patches_a_file_where_it_knows_the_name_of_the_model(tmp_path: Path) -> None:
    """It then sends tools that OpenAI's models know: a custom one for patches, whose call is text and no JSON."""
    patch = {"input": "*** Begin Patch\n*** Add File: hello.txt\n+hello\n*** End Patch\n"}
    with serving_scripted_model(tmp_path / "server", calls_once("apply_patch", patch), "gpt-5.5") as scripted:
        codex(scripted.server.url, tmp_path / "work", "gpt-5.5")
        assert (tmp_path / "work" / "hello.txt").read_text() == "hello\n"
        assert "hello.txt" in told_of_a_call(scripted, "apply_patch", patch)


def test_claude_code(tmp_path: Path) -> None:
    arguments = {"file_path": str(tmp_path / "work" / "hello.txt"), "content": "hello"}
    with serving_scripted_model(tmp_path / "server", calls_once("Write", arguments)) as scripted:
        told = json.loads(claude(scripted.server.url, tmp_path / "work"))
        assert (tmp_path / "work" / "hello.txt").read_text() == "hello"
        assert "created" in told_of_a_call(scripted, "Write", arguments)
    assert (told["result"], told["is_error"], told["num_turns"]) == (SAYS, False, 2)
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (14, 4)
