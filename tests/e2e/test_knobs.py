"""The knobs that decide speed: measured at the first start, remembered at the second, pinned by settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.server import MODEL, serving

UNPINNED = {"JANFLASK_FLASH_ATTN": "auto", "JANFLASK_KV_UNIFIED": "auto", "JANFLASK_SLICE_SIZE": "auto"}
SMALL = {"JANFLASK_CTX_LEN": "512", "JANFLASK_N_PARALLEL": "2"}


def chosen(knobs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name != "source"}


def test_measured_then_remembered(own_dir: Path) -> None:
    with serving(own_dir, **UNPINNED, **SMALL) as server:
        server.start().raise_for_status()
        measured = server.model()["runtime"]["knobs"]
        # "provisional": something else kept this machine so busy that the figures are not worth remembering.
        assert measured["source"] in ("measured", "provisional")
        assert measured["cpu_threads"] == 1, "what is pinned is not measured"
        compared = [name for name in measured["measurements"] if name.endswith("decode 1")]
        assert len(compared) == 4, "flash attention on and off, KV unified and not"
        assert all(value > 0 for value in measured["measurements"].values())
        memory = own_dir / "cache" / "tuning" / f"{MODEL}.json"
        kept = json.loads(memory.read_text()) if memory.exists() else {}
        assert list(kept.values()) == ([measured] if measured["source"] == "measured" else [])
    with serving(own_dir, **UNPINNED, **SMALL) as server:
        server.start().raise_for_status()
        again = server.model()["runtime"]["knobs"]
        assert (again["source"] == "remembered") == (measured["source"] == "measured")
        if kept:
            assert chosen(again) == chosen(measured)
        server.stop().raise_for_status()
        pinned = {"flash_attn": True, "kv_unified": True, "slice_size": 48, "cpu_threads": 1}
        server.start(**pinned).raise_for_status()
        runtime = server.model()["runtime"]
        assert (runtime["ctx_len"], runtime["n_parallel"]) == (512, 2)
        assert runtime["knobs"] == {**pinned, "source": "pinned", "measurements": {}}
