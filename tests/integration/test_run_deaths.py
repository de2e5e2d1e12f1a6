"""A run's log is what was told, and what the run is, at whatever system call the process that carries it out dies."""

from __future__ import annotations

from pathlib import Path

from tests.integration.run_deaths import KINDS
from tests.integration.test_store_sigkill import run_program


def test_death_at_every_system_call(tmp_path: Path) -> None:
    said = run_program("run_deaths", tmp_path)
    assert set(said) == set(KINDS)
    assert all(points >= 10 for points in said.values()), said
