"""What an API worker weighs after real traffic, and that it does not map the model."""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.harness import Stream, random_tokens, run_streams, serving
from benchmarks.report import Row

WORKER_MB = 150.0


def run() -> list[Row]:
    """RSS of the largest gunicorn worker after 32 streams."""
    with serving(workers=2) as server:
        run_streams(server.port, [Stream(random_tokens(40, i), 16) for i in range(32)], at_once=8)
        workers = [child for child in psutil.Process(server.process.pid).children() if _is_worker(child)]
        if len(workers) != 2:
            raise RuntimeError(f"expected 2 gunicorn workers, found {len(workers)}")
        largest = max(worker.memory_info().rss for worker in workers) / 2**20
        mapped = [worker.pid for worker in workers if ".gguf" in Path(f"/proc/{worker.pid}/maps").read_text()]
    return [
        Row("API worker memory", largest, WORKER_MB, "MB", at_least=False),
        Row("API workers that map the GGUF", float(len(mapped)), 0.0, "", at_least=False),
    ]


def _is_worker(process: psutil.Process) -> bool:
    return any("gunicorn" in part for part in process.cmdline())
