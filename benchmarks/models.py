"""Models on disk: what a list of many of them costs."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.harness import serving_store
from benchmarks.report import Row

MODELS = 500
LIST_MS = 30.0
ROUNDS = 101
TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}" * 20


def models_list() -> list[Row]:
    """GET /v1/models with many models on disk, again and again over one connection; and one of them by its source."""
    with tempfile.TemporaryDirectory(prefix="janflask-bench-") as folder:
        data = Path(folder) / "data"
        for number in range(MODELS):
            _write_model(data / "models" / f"model-{number:03d}", _source(number))
        with serving_store(data) as server:
            first, warm, size = _times(server.port, "/v1/models", MODELS)
            by_source = f"/v1/models/{_source(MODELS - 1).replace('/', '%2F').replace(':', '%3A')}"
            _, one, _ = _times(server.port, by_source, None)
    detail = {"first_ms": round(first, 1), "KiB": size >> 10}
    return [
        Row(f"GET /v1/models, {MODELS} on disk, warm", warm, LIST_MS, "ms", at_least=False, detail=detail),
        Row(f"GET one of {MODELS} by its source URL, warm", one, LIST_MS, "ms", at_least=False),
    ]


def _source(number: int) -> str:
    return f"https://example.com/models/{number}/model.gguf"


def _write_model(folder: Path, source: str) -> None:
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"GGUF")
    content = {
        "sources": [{"filename": "model.gguf", "url": source}],
        "id": folder.name,
        "object": "model",
        "name": f"The model {folder.name}",
        "version": "1.0",
        "description": "One of many.",
        "format": "gguf",
        "settings": {"ctx_len": 4096, "llama_model_path": "model.gguf"},
        "parameters": {"temperature": 0.7, "top_p": 0.95, "max_tokens": 2048, "stop": []},
        "metadata": {"author": "janflask", "tags": ["bench"], "architecture": "llama", "chat_template": TEMPLATE},
        "engine": "janflask",
    }
    (folder / "model.json").write_text(json.dumps(content))


def _times(port: int, path: str, count: int | None) -> tuple[float, float, int]:
    """Milliseconds of the first answer and of one after it, and an answer's bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    times = []
    data = b""
    for _ in range(ROUNDS):
        started = time.perf_counter()
        connection.request("GET", path)
        data = connection.getresponse().read()
        times.append((time.perf_counter() - started) * 1e3)
    connection.close()
    answer = json.loads(data)
    if count is not None and len(answer["data"]) != count:
        raise SystemExit(f"{len(answer['data'])} models are listed, not {count}")
    return times[0], median(times[1:]), len(data)
