"""What is told is what was done, at whatever moment the process dies that does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_store_sigkill import run_program
from tests.integration.webhook_deaths import EXPECTED


@pytest.mark.parametrize("operation", EXPECTED)
def test_death_at_every_system_call_of_a_change_that_is_told(tmp_path: Path, operation: str) -> None:
    said = run_program("webhook_deaths", tmp_path, operation)
    assert said[operation] >= 8
