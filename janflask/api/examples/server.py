"""The server, as it is looked at."""

from __future__ import annotations

from typing import Any

from janflask.api.examples.inference import CREATED, MODEL_ID
from janflask.api.examples.models import MODEL

SERVER: dict[str, Any] = {
    "object": "server",
    "version": "0.1.0",
    "started_at": CREATED,
    "cores": 2,
    "memory": {
        "budget_bytes": 6_442_450_944,
        "promised_bytes": 482_344_960,
        "used_bytes": 171_966_464,
        "total_bytes": 8_589_934_592,
        "available_bytes": 5_368_709_120,
    },
    "processes": [
        {"kind": "master", "pid": 4001, "rss_bytes": 41_943_040, "cpu_seconds": 0.6},
        {"kind": "worker", "pid": 4005, "rss_bytes": 88_080_384, "cpu_seconds": 4.1},
        {"kind": "supervisor", "pid": 4003, "rss_bytes": 46_137_344, "cpu_seconds": 0.9},
        {"kind": "runner", "pid": 4004, "rss_bytes": 79_691_776, "cpu_seconds": 1.2},
        {"kind": "engine", "pid": 4242, "rss_bytes": 171_966_464, "cpu_seconds": 31.7},
    ],
    "models": [
        {
            "id": MODEL_ID,
            "status": "running",
            "memory_bytes": 482_344_960,
            "used_bytes": 171_966_464,
            "runtime": MODEL["runtime"],
            "stats": MODEL["stats"],
        }
    ],
    "requests": [
        {
            "id": "req_7f3a1c",
            "model": MODEL_ID,
            "state": "answering",
            "age_seconds": 2.415,
            "prompt_tokens": 96,
            "cached_tokens": 64,
            "computed_tokens": 32,
            "answer_tokens": 81,
            "tokens_per_second": 38.4,
            "run_id": "run_abc123",
            "thread_id": "thread_abc123",
        }
    ],
    "missing": [],
}
