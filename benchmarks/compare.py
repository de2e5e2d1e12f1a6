"""This checkout against another one, after / before: servers of both run at once and are asked in turns."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.harness import ROOT, Server, Stream, in_turns, random_tokens, run_streams, serving
from benchmarks.report import Row
from benchmarks.runs import LONG, first_token, long_thread

CLIENTS = (1, 4, 8)
PROMPT, NEW = 80, 128
ROUNDS = 7
RATE = 0.99  # of the tokens a second of the other checkout
FIRST = 0.9  # of its time to the first token
TURNS = 31  # of a thread that is in the KV cache; each takes a moment
FRESH = 3  # threads of which nothing is computed yet; each takes seconds


def streaming(other: Path) -> list[Row]:
    """Streamed tokens/s over HTTP, of completions that share nothing."""
    rows = []
    with _both(other, ctx_len=1024, n_parallel=max(CLIENTS)) as (after, before):
        for clients in CLIENTS:

            def seconds(server: Server, number: int, clients: int = clients) -> float:
                seed = (clients * 1000 + number) * 100
                return run_streams(server.port, [Stream(random_tokens(PROMPT, seed + i), NEW) for i in range(clients)])

            name = f"streamed tokens/s, {clients} client" + "s" * (clients > 1)
            times = in_turns(name, lambda n: seconds(after, n), lambda n: seconds(before, n), ROUNDS)
            rates = [(clients * NEW / ours, clients * NEW / theirs) for ours, theirs in times]
            rows.append(_row(name, rates, RATE, at_least=True))
    return rows


def run_first_token(other: Path) -> list[Row]:
    """A run's time to its first token on a thread of 4,000 tokens that was there before, the model up.

    With the thread's prefix in the KV cache, as in any next turn, what is left is laying out the prompt; without it,
    computing 4,000 tokens.
    """
    with _both(other, ctx_len=8192, n_parallel=1) as (after, before):
        threads = {server.port: long_thread(server) for server in (after, before)}
        for server in (after, before):
            first_token(server, threads[server.port])

        def known(server: Server) -> float:
            return first_token(server, threads[server.port]) * 1e3

        nonces = [secrets.token_hex(8) for _ in range(FRESH)]

        def fresh(server: Server, number: int) -> float:
            return first_token(server, long_thread(server, nonces[number])) * 1e3

        warm = in_turns("prefix cached", lambda _: known(after), lambda _: known(before), TURNS)
        cold = in_turns("nothing cached", lambda n: fresh(after, n), lambda n: fresh(before, n), FRESH)
    about = f"ms to a run's first token, {LONG} tokens"
    return [_row(f"{about} cached", warm, FIRST), _row(f"{about} new", cold, None)]


@contextmanager
def _both(other: Path, **settings: object) -> Iterator[tuple[Server, Server]]:
    """A server of each, both with the knobs that this one's tuning chose: code is compared, not luck."""
    with serving(checkout=ROOT, **settings) as after, serving(checkout=other, **settings, **after.knobs()) as before:
        yield after, before


def _row(name: str, pairs: list[tuple[float, float]], target: float | None, *, at_least: bool = False) -> Row:
    """The median of the rounds' ratios."""
    ratios = sorted(after / before for after, before in pairs)
    detail = {
        "after": round(median(after for after, _ in pairs), 1),
        "before": round(median(before for _, before in pairs), 1),
        "ratios": f"{ratios[0]:.3f}-{ratios[-1]:.3f}",
    }
    return Row(f"{name}, after / before", median(ratios), target, "x", at_least, detail)
