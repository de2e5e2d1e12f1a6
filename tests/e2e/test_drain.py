"""SIGTERM and hangs with a real model: what is under way ends or goes on, and the metrics tell what happened."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.server import LIMIT, MODEL, Server, serving, wait_for

BODY: dict[str, Any] = {"model": MODEL, "prompt": "One, two, three. " * 40, "temperature": 0}
ENDLESS = {"ignore_eos": True}
PROMPT = BODY | ENDLESS


class Stream(threading.Thread):
    def __init__(self, server: Server, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self._server, self._max_tokens = server, max_tokens
        self.pieces: list[str] = []
        self.begun = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            create = self._server.sdk().completions.create
            for chunk in create(stream=True, max_tokens=self._max_tokens, extra_body=ENDLESS, **BODY):
                self.pieces += [choice.text for choice in chunk.choices]
                self.begun.set()
        except Exception as error:
            self.error = error
        self.begun.set()


def metrics(server: Server) -> dict[str, float]:
    """Samples of the model, by name; those with more labels are added up."""
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(server.get("/metrics").text):
        for sample in family.samples:
            if sample.labels.get("model_name") == MODEL and not sample.name.endswith("_bucket"):
                found[sample.name.removeprefix("janflask:")] += sample.value
    return dict(found)


def test_a_stream_ends_whole_and_a_run_goes_on_with_the_next_server(own_dir: Path) -> None:
    with serving(own_dir) as server:
        server.start().raise_for_status()
        whole = server.post("/v1/completions", json=PROMPT | {"max_tokens": 300}).json()["choices"][0]["text"]
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Count."}]}
        thread_id = server.post("/v1/threads", json=body).json()["id"]
        stream = Stream(server, 300)
        stream.start()
        assert stream.begun.wait(LIMIT)
        body = {"model": MODEL, "temperature": 0, "ignore_eos": True, "max_completion_tokens": 1500}
        run = server.post(f"/v1/threads/{thread_id}/runs", json=body).json()
        wait_for(lambda: server.found(f"/v1/threads/{thread_id}/runs/{run['id']}")["status"] == "in_progress", "it")
        server.process.terminate()
        stream.join(LIMIT)
        assert stream.error is None
        assert "".join(stream.pieces) == whole
        assert server.process.wait(LIMIT) == 0
    with serving(own_dir) as server:
        path = f"/v1/threads/{thread_id}/runs/{run['id']}"
        assert server.found(path)["status"] in ("queued", "in_progress"), "it was left where it was"
        wait_for(lambda: server.found(path)["status"] in ("completed", "incomplete"), "the run's end")
        assert server.found(path)["usage"]["completion_tokens"] == 1500


def test_an_engine_that_hangs_is_replaced_and_the_metrics_tell(own_dir: Path) -> None:
    with serving(own_dir, JANFLASK_HANG_TIMEOUT="2") as server:
        server.start().raise_for_status()
        for _ in range(2):
            server.post("/v1/completions", json=PROMPT | {"max_tokens": 20}).raise_for_status()
        told = metrics(server)
        assert told["generation_tokens_total"] == 40
        assert told["request_success_total"] == told["e2e_request_latency_seconds_count"] == 2
        assert told["inter_token_latency_seconds_count"] == 38
        assert told["prefix_cache_queries_total"] == told["prompt_tokens_total"] > told["prefix_cache_hits_total"] > 0
        assert 0 < told["request_decode_time_seconds_sum"] < told["e2e_request_latency_seconds_sum"]
        (engine,) = server.engines()
        stream = Stream(server, 1500)
        stream.start()
        assert stream.begun.wait(LIMIT)
        os.kill(engine.pid, signal.SIGSTOP)
        stream.join(LIMIT)
        assert stream.error is not None
        assert "started again" in str(stream.error)
        answer = httpx.post(f"{server.url}/v1/completions", json=PROMPT | {"max_tokens": 5}, timeout=LIMIT)
        assert answer.status_code == 200, answer.text
        assert metrics(server)["model_restarts_total"] == 1
        assert [each.pid for each in server.engines()] != [engine.pid]
