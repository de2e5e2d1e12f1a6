"""A run's log is what was told, and what the run is, at whatever system call the process that carries it out dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.run_deaths import KINDS
from tests.integration.test_store_sigkill import run_program


@pytest.mark.parametrize("kind", KINDS)
def test_death_at_every_system_call(tmp_path: Path, kind: str) -> None:
    said = run_program("run_deaths", tmp_path, kind)
    assert said[kind] >= 10
