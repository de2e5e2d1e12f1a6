"""What counts as a growth in `make soak`, and that it is seen."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.soak.growth import floor_growth, slope_growth
from benchmarks.soak.verdict import problems_of_files, problems_of_growth
from benchmarks.soak.watch import Watch


def noisy(growth: float, seed: int = 1) -> list[tuple[float, float]]:
    """100 MiB that grow by a part of it over an hour, with noise of a fiftieth and a jump in the middle."""
    rng = random.Random(seed)
    points = [(5.0 * n, 100.0 * (1 + growth * n / 720) + rng.uniform(-2, 2)) for n in range(720)]
    return [(time, value + (80 if 1000 < time < 1100 else 0)) for time, value in points]


@pytest.mark.parametrize("growth", [-0.1, 0.0, 0.02, 0.3])
def test_a_slope_is_found_in_noise(growth: float) -> None:
    for seed in range(5):
        assert slope_growth(noisy(growth, seed)) == pytest.approx(growth, abs=0.01)


def test_few_points_are_no_slope() -> None:
    assert slope_growth([]) is None
    assert slope_growth([(n, 1.0) for n in range(5)]) is None
    assert floor_growth([(n, 1.0) for n in range(5)]) is None


def test_what_comes_and_goes_is_no_growth_and_what_stays_is() -> None:
    comes = [(float(n), 10.0 + n % 7) for n in range(90)]
    assert floor_growth(comes) == 0
    assert floor_growth([(time, value + time // 20) for time, value in comes]) == 3


CHILD = """
import sys, time
held = [bytearray(40 << 20)]
files = []
print("up", flush=True)
for line in sys.stdin:
    held.append(bytearray(1 << 20))
    files.append(open("/dev/null"))
    print("more", flush=True)
"""


def test_a_process_that_grows_is_seen(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        watch = Watch(child.pid, tmp_path, tmp_path)
        for _ in range(12):
            watch.look()
            child.stdin.write("\n")
            child.stdin.flush()
            child.stdout.readline()
        problems = problems_of_growth(watch.growths(0.0), 1 << 20)
        child.stdin.close()
    assert any(f"master {child.pid}: anonymous grew by" in problem for problem in problems)
    assert any("more fds than" in problem for problem in problems)


def test_files_that_are_left(tmp_path: Path) -> None:
    for place in ("threads/a/thread.json", "usage/b.usage", "cache/kv/x", "models/m/m.gguf", "logs/y.tmp"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    assert problems_of_files(tmp_path) == [
        "threads has 1 files: ['threads/a/thread.json']",
        "unfinished files: ['logs/y.tmp']",
    ]


def test_a_process_that_is_ending_counts_no_more(tmp_path: Path) -> None:
    """It has no files any more, and fewer threads from moment to moment: against that the next one would have grown."""
    code = "import os, time; os.closerange(0, 64); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            watch = Watch(process.pid, tmp_path, tmp_path)
            descriptors = Path(f"/proc/{process.pid}/fd")
            deadline = time.monotonic() + 30
            while list(descriptors.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            watch.look()
        finally:
            process.kill()
    assert watch.totals["processes"] == []
    assert watch.so_far() == ""
