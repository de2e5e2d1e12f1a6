"""From the start of a server to the first token of a model that it has never seen, beside llama-server's."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import MODEL, START_LIMIT, Server, launched_store, linked_data
from benchmarks.llama_server import OURS, VARIANTS, in_rounds, launched_llama_server, peer_row
from benchmarks.report import Row

TARGET = 1.0  # times llama-server's start to its first token
BUSY = 1.2  # the same while other processes keep all cores busy
ROUNDS = 5
PARALLEL, CTX_LEN = 8, 8192
PAUSE = 0.01  # seconds between two tries
REQUEST = {"model": MODEL, "prompt": "The sky is blue because", "max_tokens": 4, "temperature": 0, "stream": True}


def start() -> list[Row]:
    """On a machine that does nothing else, and beside one busy process a core."""
    rows = [_row("start to first token vs llama-server", TARGET)]
    with _busy(os.cpu_count() or 1):
        rows.append(_row("start to first token vs llama-server, all cores busy", BUSY))
    return rows


def _row(name: str, target: float) -> Row:
    starts = {OURS: _ours} | {variant: partial(_peer, options) for variant, options in VARIANTS.items()}
    return peer_row(name, in_rounds(name, starts, ROUNDS), target, at_least=False)


def _ours(number: int) -> float:
    """Seconds, on a data folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder,
        launched_store(linked_data(Path(folder)), ctx_len=CTX_LEN, n_parallel=PARALLEL) as server,
    ):
        return _first_token(server)


def _peer(options: Sequence[str], number: int) -> float:
    with launched_llama_server(options, n_parallel=PARALLEL, kv_cells=PARALLEL * CTX_LEN) as server:
        return _first_token(server)


def _first_token(server: Server) -> float:
    """Seconds from its start."""
    while not _has_answered(server.port):
        if server.process.poll() is not None or time.perf_counter() - server.started > START_LIMIT:
            raise SystemExit(f"a server did not start:\n{server.log.read_text('utf-8', 'replace')[-3000:]}")
        time.sleep(PAUSE)
    return time.perf_counter() - server.started


def _has_answered(port: int) -> bool:
    """Whether a streamed completion brings a token; False while nobody listens or the model is still loaded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/v1/completions", json.dumps(REQUEST), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            seen = b""
            while answer.status == 200 and (piece := answer.read1(65536)):
                seen += piece
                if b'"text":' in seen:
                    return True
        except OSError:
            return False
        return False


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
