"""Streams beside llama-server, in alternating rounds of the same requests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from statistics import quantiles

from benchmarks import cpu_time
from benchmarks.harness import Server, Stream, run_clients, run_streams, serving
from benchmarks.llama_server import OURS, VARIANTS, in_rounds, llama_server, peer_row
from benchmarks.plain_text import passages
from benchmarks.report import Row

TARGETS = {1: 1.05, 4: 1.10, 8: 1.10}  # clients -> tokens/s against llama-server's
GAPS = 1.0  # of llama-server's 99th percentile gap
NEW = 128
ROUNDS = 5
CLIENTS = 8
CTX_LEN = 8192  # of each client; llama-server has as many cells, for all together
REQUESTS = 2  # of each client, one after the other
PAUSE = 2.0  # seconds before each request, on average


def peer() -> list[Row]:
    """Streamed tokens/s of 1, 4 and 8 clients that begin together."""
    rows = []
    with _servers() as servers:
        prompts = passages(1)
        for clients, target in TARGETS.items():
            texts = [list(islice(prompts, clients)) for _ in range(ROUNDS)]
            costs = cpu_time.TokenCosts()
            measures = {name: partial(_rate, name, server, texts, costs) for name, server in servers.items()}
            rates = in_rounds(f"{clients} clients", measures, ROUNDS)
            name = f"streamed tokens/s vs llama-server, {clients} client" + "s" * (clients > 1)
            row = peer_row(name, rates, target, at_least=True)
            rows.append(replace(row, detail={**row.detail, **costs.shown()}))
    return rows


def _rate(name: str, server: Server, texts: list[list[str]], costs: cpu_time.TokenCosts, number: int) -> float:
    streams = [Stream(text, NEW) for text in texts[number]]
    tokens = len(streams) * NEW
    before = cpu_time.seconds(server)
    rate = tokens / run_streams(server.port, streams)
    costs.add(name, before, cpu_time.seconds(server), tokens)
    return rate


def peer_gaps() -> list[Row]:
    """The 99th percentile of the gaps between tokens, of clients that come at random moments, several times each."""
    rng = random.Random(2)
    prompts = passages(2)
    requests = [
        [[(rng.expovariate(1 / PAUSE), next(prompts)) for _ in range(REQUESTS)] for _ in range(CLIENTS)]
        for _ in range(ROUNDS)
    ]
    with _servers() as servers:
        measures = {name: partial(_gap, server, requests) for name, server in servers.items()}
        gaps = in_rounds("gaps, ms", measures, ROUNDS)
    name = f"99th percentile gap, {CLIENTS} clients at random moments, vs llama-server"
    return [peer_row(name, gaps, GAPS, at_least=False)]


def _gap(server: Server, requests: list[list[list[tuple[float, str]]]], number: int) -> float:
    clients = [[(pause, Stream(text, NEW)) for pause, text in client] for client in requests[number]]
    run_clients(server.port, clients)
    gaps = [gap for client in clients for _, stream in client for gap in stream.gaps]
    return quantiles(gaps, n=100)[98] * 1e3


@contextmanager
def _servers() -> Iterator[dict[str, Server]]:
    """Ours and the variants of the peer, by name, all running; only one is asked at a time."""
    with ExitStack() as stack:
        servers = {OURS: stack.enter_context(serving(ctx_len=CTX_LEN, n_parallel=CLIENTS))}
        for name, options in VARIANTS.items():
            servers[name] = stack.enter_context(llama_server(options, n_parallel=CLIENTS, kv_cells=CLIENTS * CTX_LEN))
        for server in servers.values():
            run_streams(server.port, [Stream(text, 8) for text in islice(passages(0), CLIENTS)])  # warm
        yield servers
