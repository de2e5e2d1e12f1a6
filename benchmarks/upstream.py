"""A janflask whose model another janflask runs: what the way through it costs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import MODEL, Server, in_turns, serving, serving_store
from benchmarks.report import Row
from benchmarks.runs import CLIENTS, chats, rates_row

SHARE = 0.9  # of the tokens a second straight from the server that runs the model
ROUNDS = 9
THROUGH = "through"  # the model's name where another server runs it


def upstream() -> list[Row]:
    """8 streamed chats by way of a second janflask vs the same straight from the first; in turns."""
    with serving(ctx_len=1024, n_parallel=CLIENTS) as server, _beside(server) as beside:
        chats(server), chats(beside, THROUGH)  # fill the prefix cache, open connections
        times = in_turns("straight and through", lambda _: chats(server), lambda _: chats(beside, THROUGH), ROUNDS)
    name = f"tokens/s of {CLIENTS} streams through an upstream, vs straight"
    return [rates_row(name, times, SHARE, "straight")]


@contextmanager
def _beside(server: Server) -> Iterator[Server]:
    """A second server without an engine; ``server`` runs its one model."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        model = Path(folder) / "data" / "models" / THROUGH
        model.mkdir(parents=True)
        entry = {"base_urls": [f"http://127.0.0.1:{server.port}/v1"], "model": MODEL, "kind": "janflask"}
        (model / "model.json").write_text(json.dumps({"id": THROUGH, "object": "model", "upstream": entry}))
        with serving_store(model.parent.parent) as beside:
            yield beside
