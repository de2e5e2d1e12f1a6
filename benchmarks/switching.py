"""Several models: what changing from one to another costs, and what a second one costs the requests of the first."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import MODEL, ROOT, Server, data_dir, model_file, serving_store
from benchmarks.report import Row

SWITCH = 1.25  # times llama-cpp-python's load and first token
BESIDE = 1.25  # times the way of a request while no other model runs
ROUNDS = 7
REQUESTS = 60
PAUSE = 2.5  # seconds from one switch to the next, which is when people make them at the soonest
CTX_LEN = 2048
BUDGET_GB = 0.3  # room for one of them
PROMPT = "The sky is blue because"
LIMIT = 180.0  # seconds

# Loads the model as its users do and asks for one token, again and again in one process.
_REFERENCE = """
import json, sys, time
from llama_cpp import Llama
times = []
for _ in range(int(sys.argv[3])):
    started = time.perf_counter()
    model = Llama(model_path=sys.argv[1], n_ctx=int(sys.argv[2]), verbose=False)
    next(model.create_completion(sys.argv[4], max_tokens=1, temperature=0, stream=True))
    times.append(time.perf_counter() - started)
    model.close()
print(json.dumps(times))
"""


def model_switch() -> list[Row]:
    """A question to each of two models in turn, with room for one: the other is unloaded, it loads, the first token."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = _two_models(Path(folder) / "data")
        with serving_store(data, ctx_len=CTX_LEN, n_parallel=1, memory_budget_gb=BUDGET_GB) as server:
            for model in ("one", "two"):
                _first_token(server, model)  # its file is read, once
            times = []
            for model in ("one", "two") * ROUNDS:
                time.sleep(PAUSE)
                times.append(_first_token(server, model))
            starts = [server.get(f"/v1/models/{model}")["runtime"] for model in ("two",)]
        arguments = [str(model_file()), str(CTX_LEN), str(2 * ROUNDS + 1), PROMPT]
        done = subprocess.run(
            [sys.executable, "-c", _REFERENCE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=LIMIT
        )
    reference = median(json.loads(done.stdout)[1:])
    ours = median(times)
    detail = {"ms": round(1e3 * ours), "reference_ms": round(1e3 * reference), "load_s": starts[0]["load_seconds"]}
    return [Row("a switch between two models, vs loading in-process", ours / reference, SWITCH, "x", False, detail)]


def two_models() -> list[Row]:
    """Small requests to one model, alone and while another one runs beside it with nothing to do."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = _two_models(Path(folder) / "data")
        with serving_store(data, ctx_len=CTX_LEN, n_parallel=1) as server:
            alone, beside = [], []
            _first_token(server, "one")
            for _ in range(3):
                server.put("/v1/models/two/stop")
                alone.append(median(_way(server, "one") for _ in range(REQUESTS)))
                server.put("/v1/models/two/start")
                beside.append(median(_way(server, "one") for _ in range(REQUESTS)))
    ratio = median(second / first for first, second in zip(alone, beside, strict=True))
    detail = {"alone_ms": round(1e3 * median(alone), 2), "beside_ms": round(1e3 * median(beside), 2)}
    return [Row("a request's way with 2 models running vs 1", ratio, BESIDE, "x", False, detail)]


def _two_models(data: Path) -> Path:
    for name in ("one", "two"):
        model = data / "models" / name
        model.mkdir(parents=True)
        described = json.loads((data_dir() / "models" / MODEL / "model.json").read_text())
        described["settings"] = {"llama_model_path": model_file().name}
        (model / "model.json").write_text(json.dumps(described))
        (model / model_file().name).symlink_to(model_file().resolve())
    return data


def _first_token(server: Server, model: str) -> float:
    """Seconds to the first text of a streamed answer."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "ignore_eos": True, "stream": True}
    return _ask(server, "/v1/completions", body, b'"text":')


def _way(server: Server, model: str) -> float:
    """Seconds of a request that an engine answers without computing."""
    return _ask(server, "/v1/tokenize", {"model": model, "content": PROMPT}, b'"tokens":')


def _ask(server: Server, path: str, body: dict[str, Any], until: bytes) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
    started = time.perf_counter()
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    took, seen = None, b""
    while piece := answer.read1(65536):
        seen += piece
        if took is None and until in seen:
            took = time.perf_counter() - started
    connection.close()
    if took is None or b'"error"' in seen:
        raise SystemExit(f"{path} did not answer as it should: {seen[-500:]!r}")
    return took
