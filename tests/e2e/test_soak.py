"""`make soak` for less than a minute: eight clients, reloads, models that change. Nothing fails, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import ROOT


@pytest.mark.timeout(420)
def test_nothing_fails_and_nothing_is_left(session_data_dir: Path, tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    options = ["--minutes", "0.75", "--warm-up", "0.2", "--reload", "20", "--results", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *options],
        cwd=ROOT,
        env={**os.environ, "JANFLASK_DATA_DIR": str(session_data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = json.loads(report.read_text())
    assert found["problems"] == []
    assert found["done"]["reload"] == 2
    assert len(found["done"]) > 10, "what was done"
    assert not [status for status in found["statuses"] if status >= "500"]
