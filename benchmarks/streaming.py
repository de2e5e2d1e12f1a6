"""Streamed tokens/s through gunicorn over HTTP against the best bare ``llama_decode`` loop."""

from __future__ import annotations

from statistics import median

from benchmarks.bare import bare_process
from benchmarks.harness import Stream, model_file, random_tokens, run_streams, serving
from benchmarks.report import Row

TARGETS = {1: 0.92, 4: 0.90, 8: 0.88}  # clients -> share of the bare loop
PROMPT, NEW = 80, 128
ROUNDS = 3


def run() -> list[Row]:
    """Alternates server and bare loop, round by round; the ratio is of the medians."""
    rows = []
    with serving() as server, bare_process(model_file()) as bare:
        for clients, target in TARGETS.items():
            ours: list[float] = []
            theirs: dict[str, list[float]] = {}
            for number in range(ROUNDS):
                seed = clients * 1000 + number
                streams = [Stream(random_tokens(PROMPT, seed * 100 + i), NEW) for i in range(clients)]
                ours.append(clients * NEW / run_streams(server.port, streams))
                for name, rate in bare.measure(
                    clients=clients, prompt_tokens=PROMPT, new_tokens=NEW, seed=seed
                ).items():
                    theirs.setdefault(name, []).append(rate)
            rates = {name: median(values) for name, values in theirs.items()}
            best = max(rates, key=lambda name: rates[name])
            rows.append(
                Row(
                    f"streamed tokens/s vs the best bare loop, {clients} clients",
                    median(ours) / rates[best],
                    target,
                    "x",
                    detail={"ours": round(median(ours), 1), "bare": round(rates[best], 1), "best": best},
                )
            )
    return rows
