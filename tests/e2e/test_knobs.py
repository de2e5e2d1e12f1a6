"""The knobs that decide speed: guessed at once, measured at rest, remembered at the next start, pinned by settings."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.e2e.server import MODEL, Server, serving

UNPINNED = {"JANFLASK_FLASH_ATTN": "auto", "JANFLASK_KV_UNIFIED": "auto", "JANFLASK_SLICE_SIZE": "auto"}
SMALL = {"JANFLASK_CTX_LEN": "512", "JANFLASK_N_PARALLEL": "2"}
LIMIT = 120.0  # seconds until all is measured; a quiet machine needs 10


def knobs_of(server: Server) -> dict[str, Any]:
    knobs: dict[str, Any] = server.model()["runtime"]["knobs"]
    return knobs


def await_figures(server: Server) -> dict[str, Any]:
    """The knobs once there is a figure of everything."""
    deadline = time.monotonic() + LIMIT
    knobs = knobs_of(server)
    while not any(name.startswith("64: slices") for name in knobs["measurements"]):
        assert time.monotonic() < deadline, knobs
        time.sleep(0.2)
        knobs = knobs_of(server)
    return knobs


def test_guessed_then_measured_then_remembered(own_dir: Path) -> None:
    memory = own_dir / "cache" / "tuning" / f"{MODEL}.json"
    with serving(own_dir, **UNPINNED, **SMALL) as server:
        server.start().raise_for_status()
        guessed = knobs_of(server)
        assert (guessed["source"], guessed["sure"], guessed["measurements"]) == ("guessed", 0.0, {})
        assert guessed["cpu_threads"] == 1, "what is pinned is not guessed"
        assert (guessed["flash_attn"], guessed["kv_unified"], guessed["slice_size"]) == (True, False, 64)
        measured = await_figures(server)
        assert measured["source"] == "measured"
        compared = [name for name in measured["measurements"] if ": decode 1, shallow" in name]
        assert compared == ["flash_attn=1: decode 1, shallow", "flash_attn=0: decode 1, shallow"]
        assert all(value > 0 for value in measured["measurements"].values())
        assert 0 <= measured["sure"] <= 1
        (kept,) = json.loads(memory.read_text()).values()
        assert kept["figures"]["decode 1, shallow"]["rounds"] >= 2
    with serving(own_dir, **UNPINNED, **SMALL) as server:
        server.start().raise_for_status()
        again = knobs_of(server)
        assert again["source"] == "remembered"
        assert again["measurements"].keys() >= measured["measurements"].keys()
        server.stop().raise_for_status()
        pinned = {"flash_attn": True, "kv_unified": True, "slice_size": 48, "cpu_threads": 1}
        server.start(**pinned).raise_for_status()
        runtime = server.model()["runtime"]
        assert (runtime["ctx_len"], runtime["n_parallel"]) == (512, 2)
        assert runtime["knobs"] == {**pinned, "source": "pinned", "measurements": {}, "sure": 1.0}
