"""What was acknowledged outlives the writer, at whatever moment it dies; what was not is there whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.store_faults import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 300


def run_program(module: str, *arguments: object) -> dict[str, int]:
    """Runs one of the programs that fork; its JSON, or what it complains of."""
    command = [sys.executable, "-m", f"tests.integration.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    said: dict[str, int] = json.loads(done.stdout)
    return said


def test_three_hundred_rounds_of_sigkill(tmp_path: Path) -> None:
    said = run_program("store_crashes", tmp_path / "data", 20_240_607, ROUNDS)
    assert said["rounds"] == ROUNDS
    assert said["acknowledged"] > 4 * ROUNDS, "the writers did write"
    assert said["read"] > ROUNDS, "the readers did read"


def test_a_branch_of_a_long_thread_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    said = run_program("branch_deaths", tmp_path)
    assert said["deaths"] >= 10, said
    assert 0 < said["there"] < said["deaths"], said


def test_death_at_every_system_call(tmp_path: Path) -> None:
    said = run_program("store_deaths", tmp_path)
    assert set(said) == set(OPERATIONS)
    assert all(points >= 2 for points in said.values()), said
