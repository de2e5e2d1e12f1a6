"""The environments of agents' SDKs: pinned, made in one step, once. What is installed is a stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import agent_sdks
from tools.agent_sdks import LOCKS, NPM, NPM_LOCKS, PYTHON, AgentSdkError, ensure, node_modules
from tools.progress import CommandError


class Maker:
    """Stands in for an installation and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, folder: Path, scratch: Path) -> None:
        self.made += 1
        folder.mkdir()
        (folder / "x").write_text("whole")
        (scratch / "pip.log").write_text("log")


def test_one_is_made_once_for_what_it_is_made_of(tmp_path: Path) -> None:
    env, maker = {"XDG_CACHE_HOME": str(tmp_path)}, Maker()
    first = ensure("x", ["a==1"], env, maker)
    assert [path.name for path in first.iterdir()] == ["x"]
    assert ensure("x", ["a==1"], env, maker) == first
    assert maker.made == 1
    other = ensure("x", ["a==2"], env, maker)
    assert other != first
    assert first.is_dir()
    assert maker.made == 2
    assert first.parent == tmp_path / "janflask" / "agents"


def test_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path, scratch: Path) -> None:
        folder.mkdir()
        raise CommandError("no network")

    env = {"XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(CommandError, match="no network"):
        ensure("x", [], env, fails)
    assert [path for path in (tmp_path / "janflask" / "agents").iterdir() if path.is_dir()] == []
    assert (ensure("x", [], env, Maker()) / "x").read_text() == "whole"


def test_without_npm_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentSdkError, match="npm is missing"):
        node_modules("js", {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})


def test_nothing_of_a_package_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **more: object) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir()

    monkeypatch.setattr(agent_sdks, "run_logged", run)
    agent_sdks.python("langchain", {"XDG_CACHE_HOME": str(tmp_path)})
    _, install = commands
    assert install[install.index("--only-binary") + 1] == ":all:"
    assert "--no-deps" in install


@pytest.mark.parametrize("name", PYTHON)
def test_what_is_wanted_is_pinned(name: str) -> None:
    pinned = {line for line in (LOCKS / f"{name}.txt").read_text().splitlines() if not line.startswith("#")}
    assert all(line.count("==") == 1 for line in pinned)
    assert {wanted.replace("[openai]", "") for wanted in PYTHON[name]} <= pinned
    assert any(line.startswith("openai==") for line in pinned)


@pytest.mark.parametrize("name", NPM)
def test_the_npm_packages_are_pinned(name: str) -> None:
    wanted = json.loads((NPM_LOCKS / name / "package.json").read_text())["dependencies"]
    locked = json.loads((NPM_LOCKS / name / "package-lock.json").read_text())["packages"]
    assert locked[""]["dependencies"] == wanted
    assert {package: locked[f"node_modules/{package}"]["version"] for package in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") for path, entry in locked.items() if path)
