"""Runs the benchmarks, prints tables, writes ``benchmarks/results/NAME.json``: ``python -m benchmarks [NAME ...]``.

With ``--against PATH`` servers of this checkout and of another one, which is set up as well, are measured side by side.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    agent,
    apart,
    compare,
    downloads,
    drafts,
    idle,
    keys,
    latency,
    memory,
    models,
    page,
    parsing,
    peer,
    responses,
    runs,
    sampling,
    scrape,
    starting,
    states,
    store,
    streaming,
    structured,
    switching,
    upstream,
)
from benchmarks.harness import python_of
from benchmarks.report import Row, cpu_name, save

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "sampling": sampling.run,
    "streaming": streaming.run,
    "structured": structured.run,
    "parsing": parsing.run,
    "long_prompts": latency.long_prompts,
    "shared_prefix": latency.shared_prefix,
    "stall": latency.stall,
    "cancel": latency.cancel,
    "memory": memory.run,
    "engine_memory": memory.engine_memory,
    "append": store.append,
    "append_http": store.append_http,
    "threads_page": store.threads_page,
    "own_page": store.own_page,
    "long_thread": store.long_thread,
    "get_thread": store.get_thread,
    "keys": keys.keys,
    "apart": apart.apart,
    "scrape": scrape.scrape,
    "idle_streams": idle.idle_streams,
    "models_list": models.models_list,
    "start": starting.start,
    "model_switch": switching.model_switch,
    "two_models": switching.two_models,
    "downloads": downloads.run,
    "drafts": drafts.drafts,
    "streamed_runs": runs.streamed_runs,
    "next_turn": runs.next_turn,
    "rejoined_runs": runs.rejoined_runs,
    "agent": agent.run,
    "window_states": states.window_states,
    "streamed_responses": responses.streamed_responses,
    "get_response": responses.get_response,
    "replayed_response": responses.replayed_response,
    "upstream": upstream.upstream,
    "page": page.page,
    "peer": peer.peer,
    "peer_gaps": peer.peer_gaps,
}
# Those that measure this checkout against another one.
COMPARISONS: dict[str, Callable[[Path], list[Row]]] = {
    "streaming": compare.streaming,
    "run_first_token": compare.run_first_token,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="janflask's benchmarks; every figure is a ratio within this run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help=f"another checkout with its .venv, to be compared with by {' and '.join(COMPARISONS)}",
    )
    options = parser.parse_args()
    other: Path | None = options.against and options.against.resolve()
    if other is not None and not (python_of(other).is_file() and (other / "wsgi.py").is_file()):
        parser.error(f"{other} is no checkout that is set up: run `make setup` there")
    known = BENCHMARKS if other is None else COMPARISONS
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # its servers end with it
    print(f"on {cpu_name()}", flush=True)
    for name in options.names or known:
        started = time.monotonic()
        print(f"\n{name} ...", flush=True)
        rows = BENCHMARKS[name]() if other is None else COMPARISONS[name](other)
        for row in rows:
            print(row.line())
        file = save(name if other is None else f"{name}-against", rows, options.results)
        print(f"({time.monotonic() - started:.0f} s, {file})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
