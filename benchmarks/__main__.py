"""``python -m benchmarks [NAME ...]``: runs the benchmarks, prints tables, writes ``benchmarks/results/NAME.json``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import downloads, latency, memory, models, runs, sampling, store, streaming, structured, switching
from benchmarks.report import Row, cpu_name, save

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "sampling": sampling.run,
    "streaming": streaming.run,
    "structured": structured.run,
    "long_prompts": latency.long_prompts,
    "shared_prefix": latency.shared_prefix,
    "stall": latency.stall,
    "cancel": latency.cancel,
    "memory": memory.run,
    "append": store.append,
    "append_http": store.append_http,
    "threads_page": store.threads_page,
    "long_thread": store.long_thread,
    "get_thread": store.get_thread,
    "models_list": models.models_list,
    "model_switch": switching.model_switch,
    "two_models": switching.two_models,
    "downloads": downloads.run,
    "streamed_runs": runs.streamed_runs,
    "next_turn": runs.next_turn,
    "rejoined_runs": runs.rejoined_runs,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="janflask's benchmarks; every figure is a ratio within this run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    print(f"on {cpu_name()}", flush=True)
    for name in options.names or BENCHMARKS:
        started = time.monotonic()
        print(f"\n{name} ...", flush=True)
        rows = BENCHMARKS[name]()
        for row in rows:
            print(row.line())
        print(f"({time.monotonic() - started:.0f} s, {save(name, rows, options.results)})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
