"""A long thread on a model that cannot forget a part of what it holds: what a turn costs next to computing it all."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import REPLY_LIMIT, Server, serving_store
from benchmarks.report import Row
from tools.tool_model import ensure
from tools.window_model import GEMMA

LONG = 3000  # tokens of the thread, at least
MESSAGES = 40
WORDS = "the lighthouse keeper counted every ship that passed and wrote its name into a heavy book before night fell "
ROUNDS = 3
NEXT, EDITED, RESTARTED = 1 / 8, 1 / 4, 1 / 5  # of the time to the first token of computing it all
LAYOUT = "<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n"
SETTINGS: dict[str, Any] = {"ctx_len": 8192, "n_parallel": 2, "spare_engine": 0}


def window_states() -> list[Row]:
    """Gemma 3 270M: the next turn, the last message edited, and the next turn after a restart; to the first token."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = _data(Path(folder))
        settings = dict(SETTINGS)
        whole, following, edited, restarted = [], [], [], []
        for number in range(ROUNDS):
            thread = _thread(number)
            with serving_store(data, **settings) as server:
                settings |= _started(server)
                whole.append(_first_token(server, thread))
                thread[-1]["content"] = "What did the keeper write, and when?"
                edited.append(_first_token(server, thread, cached=LONG // 2))
                thread += [{"role": "assistant", "content": "A name."}, {"role": "user", "content": "And then?"}]
                following.append(_first_token(server, thread, cached=LONG // 2))
                _first_token(server, thread, max_tokens=16)
            with serving_store(data, **settings) as server:
                _started(server)
                thread += [{"role": "assistant", "content": "He slept."}, {"role": "user", "content": "Who?"}]
                restarted.append(_first_token(server, thread, cached=LONG // 2))
    about = {"computed_ms": round(1e3 * median(whole)), "tokens": LONG}
    return [
        Row(f"{what}, Gemma 3 270M, vs computing it all", median(times) / median(whole), target, "x", False, about)
        for what, times, target in (
            ("next turn", following, NEXT),
            ("last message edited", edited, EDITED),
            ("next turn after a restart", restarted, RESTARTED),
        )
    ]


def _data(folder: Path) -> Path:
    """A data folder with the model in it."""
    model = folder / "data" / "models" / GEMMA.id
    model.mkdir(parents=True)
    (model / GEMMA.filename).symlink_to(ensure(os.environ, GEMMA))
    settings = {"llama_model_path": GEMMA.filename, "prompt_template": LAYOUT}
    (model / "model.json").write_text(json.dumps({"id": GEMMA.id, "settings": settings}))
    return folder / "data"


def _started(server: Server) -> dict[str, int]:
    """Has the model run; its knobs, so that the next server has the same."""
    server.put(f"/v1/models/{GEMMA.id}/start")
    return server.knobs(GEMMA.id)


def _thread(number: int) -> list[dict[str, str]]:
    """Messages of some 80 tokens each, in turn; no two threads begin alike."""
    roles = ["user", "assistant"] * (MESSAGES // 2) + ["user"]
    return [{"role": role, "content": f"{number}, {at}: {WORDS * 4}"} for at, role in enumerate(roles)]


def _first_token(server: Server, thread: list[dict[str, str]], *, cached: int = 0, max_tokens: int = 1) -> float:
    """Seconds to an answer of one token. Exits if fewer tokens than that were ``cached``, or the thread is short."""
    body = {"model": GEMMA.id, "messages": thread, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    started = time.perf_counter()
    usage = server.post("/v1/chat/completions", json.dumps(body).encode(), timeout=REPLY_LIMIT)["usage"]
    seconds = time.perf_counter() - started
    told = usage["prompt_tokens_details"]["cached_tokens"]
    if told < cached or usage["prompt_tokens"] < LONG:
        raise SystemExit(f"{told} of {usage['prompt_tokens']} prompt tokens were cached")
    return seconds
