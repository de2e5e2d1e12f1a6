"""llama-server, the peer: with the same model, context and parallelism as ours, in alternating rounds.

Its binary is what ``JANFLASK_LLAMA_SERVER`` names, else what ``tools/build_peer.py`` keeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.harness import ROOT, Server, await_health, free_port, launched, model_file
from benchmarks.report import Row

VARIABLE = "JANFLASK_LLAMA_SERVER"
OURS = "ours"
# As it comes it chooses flash attention, which is slower on some CPUs: the better of the two counts.
VARIANTS: dict[str, tuple[str, ...]] = {"as it comes": (), "-fa off": ("-fa", "off")}


def binary() -> Path:
    """The program. SystemExit when there is none."""
    named = os.environ.get(VARIABLE)
    if named is None:
        command = [sys.executable, "-m", "tools.build_peer", "--path"]
        found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        named = found.stdout.strip() if found.returncode == 0 else ""
    if not named or not Path(named).is_file():
        raise SystemExit(f"no llama-server: run `make bench-peer`, or name one in {VARIABLE}")
    return Path(named)


@contextmanager
def launched_llama_server(options: Sequence[str] = (), *, n_parallel: int, kv_cells: int) -> Iterator[Server]:
    """A llama-server whose process runs, with the starter model; ended by process id.

    ``kv_cells`` is for all slots together, as llama-server's own ``-c`` is. ``options``: one of ``VARIANTS``.
    """
    port = free_port()
    command = [str(binary()), "-m", str(model_file()), "-np", str(n_parallel), "-c", str(kv_cells), *options]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-webui"]
    with (
        tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder,
        launched(command, port, Path(folder) / "llama-server.log") as server,
    ):
        yield server


@contextmanager
def llama_server(options: Sequence[str] = (), *, n_parallel: int, kv_cells: int) -> Iterator[Server]:
    """The same that has loaded it."""
    with launched_llama_server(options, n_parallel=n_parallel, kv_cells=kv_cells) as server:
        await_health(server, "/health")
        yield server


def in_rounds(what: str, measures: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Each one's figures, by name; ``measures`` are given the round's number, and another one goes first in each."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    print(f"  {what}", flush=True)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(measures[name](number))
        print("   ", "  ".join(f"{name}={figures[name][-1]:.4g}" for name in names), flush=True)
    return figures


def peer_row(name: str, figures: dict[str, list[float]], target: float, *, at_least: bool) -> Row:
    """``OURS`` against the better one of ``VARIANTS``, by their medians."""
    medians = {server: median(values) for server, values in figures.items()}
    choose = max if at_least else min
    best = choose(medians[variant] for variant in VARIANTS)
    detail = {server.replace(" ", "_"): round(value, 2) for server, value in medians.items()}
    return Row(name, medians[OURS] / best, target, "x", at_least=at_least, detail=detail)
