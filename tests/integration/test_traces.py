"""Traces: what a collector of OpenTelemetry is sent by real processes, and that nothing of it is there otherwise."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from janflask.ipc.messages.generation import Timings
from janflask.ipc.spent import Spent
from janflask.metrics.tracing import stages
from tests.integration.test_drain import Stream, serving
from tests.integration.test_drain import folder as folder
from tests.integration.waiting import LIMIT, wait_for

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: set[str] = set()
        self.resources: dict[str, str] = {}
        self.spans: list[Any] = []

    def named(self, name: str) -> list[Any]:
        return [span for span in list(self.spans) if span.name == name]


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.add(self.path)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.resources |= attributes(resource.resource)
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def attributes(of: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in of.attributes:
        kind = item.value.WhichOneof("value")
        value = getattr(item.value, kind)
        found[item.key] = [each.string_value for each in value.values] if kind == "array_value" else value
    return found


def test_an_answer_is_a_trace_of_its_stages(folder: Path) -> None:
    with collecting() as collector:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with serving(folder, **env) as server:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "req-trace"}
            body = {"model": "m", "prompt": "Xylophonwort"}
            httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=LIMIT).raise_for_status()
            wait_for(lambda: bool(collector.named("POST /v1/completions")))
            (request,) = collector.named("POST /v1/completions")
            (answer,) = collector.named("text_completion m")
            assert collector.paths == {"/v1/traces"}
            assert collector.resources["service.name"] == "janflask"
            assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
            assert attributes(request) == {
                "http.request.method": "POST",
                "http.route": "/v1/completions",
                "http.response.status_code": 200,
                "janflask.request_id": "req-trace",
            }
            assert (answer.trace_id, answer.parent_span_id) == (request.trace_id, request.span_id)
            assert attributes(answer) == {
                "gen_ai.operation.name": "text_completion",
                "gen_ai.provider.name": "janflask",
                "gen_ai.request.model": "m",
                "gen_ai.response.model": "m",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 1,
                "gen_ai.usage.output_tokens": 3,
                "gen_ai.usage.cache_read.input_tokens": 0,
                "janflask.request_id": "req-trace",
            }
            inside = [span for span in collector.spans if span.parent_span_id == answer.span_id]
            assert [span.name for span in inside] == ["prepare", "queue", "prefill", "decode"]
            assert "Xylophonwort" not in repr(collector.spans)

            stream = Stream(server, "error")
            stream.join(LIMIT)
            wait_for(lambda: len(collector.named("text_completion m")) == 2)
            failed = collector.named("text_completion m")[-1]
            assert attributes(failed)["error.type"] == "invalid_request"
            assert failed.status.code == 2
            wait_for(lambda: len(collector.named("POST /v1/completions")) == 2)
            server.process.terminate()
            assert server.process.wait(LIMIT) == 0
        assert "ERROR" not in (folder / "log").read_text()


def test_a_collector_that_is_not_there_holds_nobody_up(folder: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with serving(folder, **env) as server:
        for _ in range(3):
            assert server.status("/livez") == 200


def test_a_collector_that_says_nothing_holds_no_end_up(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
        with serving(folder, **env) as server:
            assert server.status("/livez") == 200
            server.process.terminate()
            assert server.process.wait(LIMIT) == 0, "an hour would have been too long"


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import sys\nfrom janflask import create_app\nfrom janflask.settings import Settings\n"
        "create_app(Settings()).test_client().get('/livez')\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_stages_lie_within_the_answer() -> None:
    timings = Timings(cache_n=0, prompt_n=1, prompt_ms=2.0, predicted_n=3, predicted_ms=4.0, queue_ms=1.0)

    def of(began: int, ended: int) -> list[tuple[str, int, int]]:
        spent = Spent(
            operation="chat",
            model_id="m",
            began=began,
            ended=ended,
            usage=None,
            timings=timings,
            reasons=(),
            error=None,
        )
        return stages(spent)

    ms = 1_000_000
    assert of(0, 10 * ms) == [
        ("prepare", 0, 3 * ms),
        ("queue", 3 * ms, 4 * ms),
        ("prefill", 4 * ms, 6 * ms),
        ("decode", 6 * ms, 10 * ms),
    ]
    for _, start, end in of(0, 5 * ms):
        assert 0 <= start <= end <= 5 * ms
