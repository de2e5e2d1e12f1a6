"""What an API worker weighs after real traffic, and an engine beside llama-server; all in resident memory.

A model's weights are mapped from its file: whatever process uses them counts them, ours and llama-server alike.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.harness import Server, Stream, random_tokens, run_streams, serving
from benchmarks.llama_server import llama_server
from benchmarks.report import Row

WORKER_MB = 150.0
PARALLEL, CTX_LEN = 8, 8192
PROMPT, NEW = 480, 20  # tokens of each conversation
AT_REST, AFTER = 0.2, 0.35  # of llama-server's


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


def engine_memory() -> list[Row]:
    """RSS of an engine for 8 x 8,192 tokens / llama-server's: as it starts, and after 8 conversations of 500."""
    with (
        serving(ctx_len=CTX_LEN, n_parallel=PARALLEL) as ours,
        llama_server(n_parallel=PARALLEL, kv_cells=PARALLEL * CTX_LEN) as peer,
    ):
        processes = {"ours": int(ours.model()["runtime"]["pid"]), "llama-server": peer.process.pid}
        rest = _resident("at rest", processes)
        for server in (ours, peer):
            _talk(server)
        after = _resident("after 8 conversations", processes)
    return [
        Row("engine memory at rest vs llama-server", rest, AT_REST, "x", at_least=False),
        Row("engine memory after 8 conversations of 500 tokens vs llama-server", after, AFTER, "x", at_least=False),
    ]


def _talk(server: Server) -> None:
    run_streams(server.port, [Stream(random_tokens(PROMPT, i), NEW) for i in range(PARALLEL)], at_once=PARALLEL)


def _resident(when: str, processes: dict[str, int]) -> float:
    """Ours / the peer's."""
    sizes = {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in processes.items()}
    print(f"{when}: " + ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items()))
    return sizes["ours"] / sizes["llama-server"]


def _is_worker(process: psutil.Process) -> bool:
    return any("gunicorn" in part for part in process.cmdline())
