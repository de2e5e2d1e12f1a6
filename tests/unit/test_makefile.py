"""The steps of the set-up: what runs beside what, what a failed one leaves. Python is a script that takes notes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "Makefile",
    "pyproject.toml",
    "setup.py",
    *(f"requirements/{name}.txt" for name in ("build", "runtime", "test", "dev")),
    *(f"tools/{name}.py" for name in ("build_llama", "compiler")),
)
STEPS = ("compile", "dependencies", "extension")  # after pip and before the installation of what was compiled

# `-m venv` makes an environment with the same script. A step whose name is in $FAIL fails. Where $BESIDE is set, the
# compilation and the extension wait for each other, and fail unless both are under way at once.
PYTHON = """#!/bin/sh
case "$*" in
    *preflight*) exit 0 ;;
    *compileall*) echo "$*" > bytecode; exit 0 ;;
    *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && exit 0 ;;
    *"install pip=="*) step=pip ;;
    *"install -r"*) step=dependencies ;;
    *--editable*|*build_ext*) step=extension ;;
    *"build_llama --compile"*) step=compile ;;
    *build_llama*) step=install ;;
    *) step="$*" ;;
esac
echo "begin $step" >> calls
await() {
    tries=0
    until grep -q "$1" calls; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || exit 1
        sleep 0.05
    done
}
case "$BESIDE$step" in
    1compile) await "end extension" ;;
    1extension) await "begin compile" ;;
esac
[ -z "$SLOW" ] || sleep 0.2
case "$FAIL" in *"$step"*) exit 1 ;; esac
echo "end $step" >> calls
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in COPIED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "ext" / "janflask_ext").mkdir(parents=True)
    (tmp_path / "ext" / "janflask_ext" / "a.pyx").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def change(path: Path) -> None:
    """Makes the file newer than every stamp."""
    now = time.time()
    os.utime(path, (now + 10, now + 10))


def make(checkout: Path, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
    """Exit status, the steps of this call in their order, what was printed."""
    (checkout / "calls").write_text("")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | variables
    command = [shutil.which("make") or "make", f"PYTHON={checkout / 'python'}", *arguments]
    result = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, (checkout / "calls").read_text().splitlines(), result.stdout + result.stderr


@pytest.mark.parametrize("jobs", [(), ("-j4",)])
def test_llama_is_compiled_beside_the_rest_and_installed_after_it(checkout: Path, jobs: tuple[str, ...]) -> None:
    status, calls, output = make(checkout, *jobs, "setup", BESIDE="1")
    assert status == 0, output
    assert calls[:2] == ["begin pip", "end pip"]
    assert calls[-2:] == ["begin install", "end install"]
    beside = calls[2:-2]
    assert sorted(beside) == sorted(f"{mark} {step}" for mark in ("begin", "end") for step in STEPS)
    assert beside.index("end dependencies") < beside.index("begin extension")
    assert "warning" not in output.lower()


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("ext/janflask_ext/a.pyx", ["extension"]),
        ("tools/compiler.py", ["compile", "install"]),
        ("requirements/runtime.txt", ["dependencies"]),
    ],
)
def test_a_second_setup_does_nothing_and_a_changed_source_only_what_it_must(
    checkout: Path, changed: str, steps: list[str]
) -> None:
    make(checkout, "setup")
    assert make(checkout, "setup") == (0, [], "")
    assert make(checkout, "-j4", "setup") == (0, [], "")
    change(checkout / changed)
    assert ended(make(checkout, "setup")[1]) == steps


def ended(calls: list[str]) -> list[str]:
    return [call.removeprefix("end ") for call in calls if call.startswith("end ")]


@pytest.mark.parametrize("step", [*STEPS, "install"])
def test_a_step_that_failed_is_all_that_is_done_again(checkout: Path, step: str) -> None:
    status, calls, _ = make(checkout, "setup", FAIL=step)
    assert status != 0
    assert "install" not in ended(calls)
    status, again, output = make(checkout, "setup")
    assert status == 0, output
    assert sorted(ended(calls) + ended(again)) == sorted(["pip", *STEPS, "install"])


def test_everything_else_runs_one_after_the_other(checkout: Path) -> None:
    make(checkout, "setup")
    change(checkout / "requirements" / "runtime.txt")
    _, calls, _ = make(checkout, "-j4", ".venv/.stamp-runtime", ".venv/.stamp-test", ".venv/.stamp-dev", SLOW="1")
    assert calls == ["begin dependencies", "end dependencies"] * 3


def test_the_bytecode_is_there_before_the_first_start(checkout: Path) -> None:
    assert make(checkout, "setup")[0] == 0
    assert (checkout / "bytecode").read_text().split()[-2:] == ["janflask", "wsgi.py"]
