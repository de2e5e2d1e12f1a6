"""A server may have as many files open as the system lets it, whatever its shell says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from janflask.processes.open_files import USUAL, needed

ASK = """
import json, resource, sys
from janflask.processes.open_files import allow_many
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
print(json.dumps([allow_many(), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize("hard", [64, 300, 10_000])
def test_the_limit_is_raised_as_far_as_it_may_be(hard: int) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, str(hard)], check=True, capture_output=True, text=True)
    limit, soft, still = json.loads(done.stdout)
    assert limit == soft == min(hard, USUAL)
    assert still == hard


@pytest.mark.parametrize(("workers", "threads", "most"), [(1, 64, 328), (1, 500, 1200), (4, 125, 700)])
def test_what_all_streams_take(workers: int, threads: int, most: int) -> None:
    assert needed(workers, threads) == most
