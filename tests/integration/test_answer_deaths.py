"""An answer is there whole or not at all, at whatever system call the process that makes or deletes it dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.answer_deaths import KINDS
from tests.integration.test_store_sigkill import run_program


@pytest.mark.parametrize("kind", KINDS)
def test_death_at_every_system_call(tmp_path: Path, kind: str) -> None:
    assert run_program("answer_deaths", tmp_path, kind)[kind] >= 5
