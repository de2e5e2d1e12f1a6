"""A process whose files may not grow: ``python -m tests.integration.store_limits DIR`` prints what it tried, as JSON.

The limit is the kernel's own (RLIMIT_FSIZE): a write stops short at it, and the next one fails. It holds for SQLite's
files as well.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path

from janflask.errors import StorageFullError
from janflask.storage import open_repository
from tests.integration.store_faults import OPERATIONS, fill, look, seen_by
from tests.integration.store_records import settings

LIMITS = [0, 1, 100, 350, 700, 1500, 5_000, 9_700, 9_900, 10_300, 12_000, 16_000, 24_000, 26_000]  # bytes


def main(folder: Path) -> dict[str, list[int]]:
    """For each operation the limits that it was refused at. Raises ValueError if anything is not as it should be."""
    _, unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill(folder / "filled")
    before = look(folder / "filled")
    refused: dict[str, list[int]] = {}
    for name, operation in OPERATIONS.items():
        refused[name] = []
        for limit in LIMITS:
            trial = folder / "trial"
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(folder / "filled", trial)
            repository = open_repository(settings(trial))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited))
            try:
                operation(repository)
            except StorageFullError as error:
                if error.status != 507:
                    raise ValueError(f"{name} within {limit} bytes: {error.status}") from None
                refused[name].append(limit)
            try:
                within = seen_by(repository)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
            if limit in refused[name]:
                if before not in (within,) or look(trial) != before:
                    raise ValueError(f"{name} within {limit} bytes was refused and changed something: {within}")
                operation(repository)
            if seen_by(repository) != look(trial) or look(trial) == before:
                raise ValueError(f"{name} within {limit} bytes did not work afterwards: {look(trial)}")
    return refused


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
