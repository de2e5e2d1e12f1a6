"""What a scrape of ``/metrics`` takes where there are many models."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

from benchmarks.harness import MODEL, Server, linked_data, serving_store
from benchmarks.report import Row

KNOWN = 20  # models
RUNNING = 2  # of them; more of them are loaded on few machines
ROUNDS = 40
MOST_MS = 20.0


def scrape() -> list[Row]:
    """One after the other, on a connection each, as Prometheus asks; the model has answered before."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = linked_data(Path(folder))
        names = [MODEL, *(f"model-{number}" for number in range(1, KNOWN))]
        for name in names[1:]:
            (data / "models" / name).mkdir()
            for file in (data / "models" / MODEL).glob("*.gguf"):
                (data / "models" / name / file.name).symlink_to(file.resolve())
        with serving_store(data, workers=2, ctx_len=512, n_parallel=1) as server:
            for name in names[:RUNNING]:
                server.put(f"/v1/models/{name}/start")
            times = [_scraped(server)[0] for _ in range(ROUNDS)]
            text = _scraped(server)[1]
    known = text.count('janflask:model_state{model_name="') // text.count(f'janflask:model_state{{model_name="{MODEL}"')
    running = text.count("janflask:num_requests_running{")
    if (known, running) != (KNOWN, RUNNING):
        raise SystemExit(f"{known} models are known and {running} run, not {KNOWN} and {RUNNING}")
    detail = {"worst_ms": round(max(times[2:]), 1), "running": running, "lines": text.count("\n")}
    return [
        Row(f"scrape of /metrics, {KNOWN} models known", median(times), MOST_MS, "ms", at_least=False, detail=detail)
    ]


def _scraped(server: Server) -> tuple[float, str]:
    """Milliseconds, and what came."""
    started = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    return 1e3 * (time.perf_counter() - started), text
