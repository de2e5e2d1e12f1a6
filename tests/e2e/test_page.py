"""The page, as a person uses it: ``ui/tests`` in a real Chromium, and its built files against their source."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.browser import PROGRAM

ROOT = Path(__file__).resolve().parents[2]
UI = ROOT / "ui"
NPM = shutil.which("npm")
LIMIT = 170.0  # seconds for a file of tests
FILES = sorted((UI / "tests").glob("*.test.js"))

pytestmark = pytest.mark.skipif(NPM is None and "CI" not in os.environ, reason="needs Node (Debian: npm)")
needs_chromium = pytest.mark.skipif(
    PROGRAM is None and "CI" not in os.environ, reason="needs Chromium (Debian: chromium)"
)


def npm(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *command], cwd=UI, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_the_built_page_is_what_its_source_says(tmp_path: Path) -> None:
    built = npm("run", "build", "--", "--outDir", str(tmp_path), "--emptyOutDir")
    assert built.returncode == 0, built.stdout + built.stderr
    same = filecmp.dircmp(tmp_path, ROOT / "janflask" / "page")
    for part in (same, *same.subdirs.values()):
        assert (part.left_only, part.right_only, part.diff_files) == ([], [], []), "run `make ui`"


def test_the_source_has_no_type_errors() -> None:
    checked = npm("run", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_units() -> None:
    """Those of the page's own code, without a browser."""
    done = npm("run", "test")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_chromium
@pytest.mark.parametrize("file", [pytest.param(file, id=file.name.removesuffix(".test.js")) for file in FILES])
def test_as_a_person(file: Path, session_data_dir: Path) -> None:
    env = {**os.environ, "PYTHON": sys.executable, "CHROMIUM": str(PROGRAM)}
    env["JANFLASK_TEST_MODELS"] = str(session_data_dir / "models")
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(file)],
        cwd=UI,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
