"""Installs what agents are written with, and two that are ready made, each in an environment of its own, for tests.

None of them is a dependency of ours. What they need is pinned in ``requirements/agents/`` (``make lock``) and, for npm,
in ``tests/e2e/agents/*/package-lock.json``. The environments are kept in ``$XDG_CACHE_HOME/janflask/agents/``; nothing
of a package is run while it is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.build_llama import ROOT, cache_folder, locked
from tools.progress import exit_status, run_logged

LOCKS = ROOT / "requirements" / "agents"
NPM_LOCKS = ROOT / "tests" / "e2e" / "agents"

# What each environment is for; the versions of all that comes with it stand in its lock file.
PYTHON: Mapping[str, tuple[str, ...]] = {
    "langchain": ("langchain-openai==1.7.4",),
    "pydantic-ai": ("pydantic-ai-slim[openai]==2.68.0",),
    "instructor": ("instructor==1.17.0",),
    "openai-agents": ("openai-agents==0.24.0",),
    "llm": ("llm==0.36",),
}
# Folders with a package.json: the AI SDK, and the command line clients Codex and Claude Code.
NPM = ("js", "clients")


class AgentSdkError(Exception):
    """An environment cannot be made; nothing was left behind."""


def python(name: str, env: Mapping[str, str]) -> Path:
    """The interpreter of the environment ``name``, which is made if it is not there.

    Raises:
        CommandError: a package cannot be had.
    """
    lock = LOCKS / f"{name}.txt"

    def make(folder: Path, scratch: Path) -> None:
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        run_logged(command, label=f"agents: making an environment for {name}", log=scratch / "venv.log", env=env)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        command = [*pip, "--no-deps", "--no-compile", "--only-binary", ":all:", "-r", str(lock)]
        run_logged(command, label=f"agents: installing {name}", log=scratch / "pip.log", env=env)

    parts = [lock.read_text(), sys.version, sys.base_prefix]
    return ensure(name, parts, env, make) / "bin" / "python"


def node_modules(name: str, env: Mapping[str, str]) -> Path:
    """The folder with the npm packages of ``name``, one of NPM, which are installed if they are not there.

    Raises:
        AgentSdkError: there is no npm.
        CommandError: a package cannot be had.
    """
    npm, node = shutil.which("npm", path=env.get("PATH")), shutil.which("node", path=env.get("PATH"))
    if npm is None or node is None:
        raise AgentSdkError("Node.js with npm is missing; it is needed here. Debian/Ubuntu: apt-get install npm")
    files = [NPM_LOCKS / name / "package.json", NPM_LOCKS / name / "package-lock.json"]

    def make(folder: Path, scratch: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        command = [npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        run_logged(command, label=f"agents: installing {name} by npm", log=scratch / "npm.log", env=env)

    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    return ensure(name, [*(file.read_text() for file in files), version], env, make) / "node_modules"


def ensure(name: str, parts: list[str], env: Mapping[str, str], make: Callable[[Path, Path], None]) -> Path:
    """The folder for ``name`` that was made of ``parts``; it appears whole or not at all.

    ``make`` fills the folder that it is given; its second folder is for logs. An environment without scripts of its own
    can be moved: Python looks for it from where its interpreter is.
    """
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    folder = cache_folder(env).with_name("agents") / f"{name}-{key}"
    with locked(folder.with_name(f"{folder.name}.lock"), f"agents: another process installs {name}"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-", ignore_cleanup_errors=True) as scratch:
                made = Path(scratch) / "made"
                make(made, Path(scratch))
                made.rename(folder)
    return folder


def main() -> int:
    """Makes sure that all of them are there."""

    def work() -> None:
        folders = [python(name, os.environ).parents[1] for name in PYTHON]
        folders += [node_modules(name, os.environ).parent for name in NPM]
        print(f"agents: {', '.join(folder.name for folder in folders)} are in {folders[0].parent}", flush=True)

    return exit_status("agents", work, AgentSdkError, subprocess.CalledProcessError)


if __name__ == "__main__":
    sys.exit(main())
