"""Traces for OpenTelemetry, by its conventions for HTTP and for generative AI; without content.

Only with an endpoint in the environment (``OTEL_EXPORTER_OTLP_ENDPOINT``) is anything of OpenTelemetry imported. The
rest is up to its own variables: headers, sampling, the service's name.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from janflask.ipc.request_id import CURRENT
from janflask.ipc.spent import Spent

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAME = "janflask"
MILLISECOND = 1_000_000  # nanoseconds
LAST_SENDING = 2.0  # seconds for what has not been sent when the process ends

log = logging.getLogger(__name__)


def tracing() -> Tracing | None:
    """None where nobody wants traces, or OpenTelemetry is not installed; then the log says so."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        log.error("there are no traces, though %s is set: %s; pip install 'janflask[otel]'", ENDPOINTS[0], error)
        return None
    return Tracing()


class Tracing:
    """All methods are for any thread. The exporter and its thread are made with the first span: after any fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Tracer | None = None

    def request(self, method: str, headers: Mapping[str, str]) -> Request:
        """A request has come; it belongs to the trace that its ``traceparent`` names. ``end`` ends it."""
        return Request(self._tracer(), method, headers)

    def record(self, spent: Spent) -> None:
        """An answer is over: a span for it, and one for each stage where these are known."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        tracer = self._tracer()
        span = tracer.start_span(
            f"{spent.operation} {spent.model_id}",
            kind=SpanKind.INTERNAL,
            start_time=spent.began,
            attributes=_about(spent),
        )
        _set_error(span, spent.error)
        if spent.timings is not None:
            inside = set_span_in_context(span)
            for name, start, end in stages(spent):
                tracer.start_span(name, context=inside, start_time=start).end(end)
        span.end(spent.ended)

    def _tracer(self) -> Tracer:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        with self._lock:
            if self._made is None:
                named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": NAME}
                provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
                sender = BatchSpanProcessor(OTLPSpanExporter())
                provider.add_span_processor(sender)
                _shut_down_at_exit(sender.shutdown)
                self._made = provider.get_tracer(NAME)
            return self._made


class Request:
    """The span of an HTTP request, which is the current one of its thread until ``end``."""

    def __init__(self, tracer: Tracer, method: str, headers: Mapping[str, str]) -> None:
        from opentelemetry.context import attach
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, set_span_in_context

        about = {"http.request.method": method}
        parent = extract({name.lower(): value for name, value in headers.items()})
        self._span = tracer.start_span(method, context=parent, kind=SpanKind.SERVER, attributes=about)
        self._token = attach(set_span_in_context(self._span))

    def end(self, method: str, route: str, status: int) -> None:
        """Its answer is out."""
        from opentelemetry.context import detach

        detach(self._token)
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if (request_id := CURRENT.get()) is not None:
            self._span.set_attribute("janflask.request_id", request_id)
        _set_error(self._span, str(status) if status >= 500 else None)
        self._span.end()


def _shut_down_at_exit(shut_down: Callable[[], None]) -> None:
    """Within ``LAST_SENDING``: OpenTelemetry's own way waits for as long as a collector may say nothing.

    The thread is made now: a process that ends makes none any more.
    """
    ends = threading.Event()

    def wait() -> None:
        ends.wait()
        shut_down()

    thread = threading.Thread(target=wait, name="last traces", daemon=True)
    thread.start()

    def end() -> None:
        ends.set()
        thread.join(LAST_SENDING)

    atexit.register(end)


def stages(spent: Spent) -> list[tuple[str, int, int]]:
    """What an answer went through, one behind the other: name, begin and end, in nanoseconds since the epoch.

    The engine tells how long each took; the last one ended when the answer did. What came before is ``prepare``: the
    start of the model, the layout of the prompt, its tokens.
    """
    if spent.timings is None:
        return []
    lengths = (spent.timings.queue_ms, spent.timings.prompt_ms, spent.timings.predicted_ms)
    start = max(spent.began, spent.ended - round(sum(lengths) * MILLISECOND))
    found = [("prepare", spent.began, start)]
    for name, length in zip(("queue", "prefill", "decode"), lengths, strict=True):
        end = min(spent.ended, start + round(length * MILLISECOND))
        found.append((name, start, end))
        start = end
    return found


def _about(spent: Spent) -> dict[str, Any]:
    about: dict[str, Any] = {
        "gen_ai.operation.name": spent.operation,
        "gen_ai.provider.name": NAME,
        "gen_ai.request.model": spent.model_id,
        "gen_ai.response.model": spent.model_id,
    }
    if spent.reasons:
        about["gen_ai.response.finish_reasons"] = spent.reasons
    if spent.usage is not None:
        about["gen_ai.usage.input_tokens"] = spent.usage.prompt_tokens
        about["gen_ai.usage.output_tokens"] = spent.usage.completion_tokens
        about["gen_ai.usage.cache_read.input_tokens"] = spent.usage.cached_tokens
    if (request_id := CURRENT.get()) is not None:
        about["janflask.request_id"] = request_id
    return about


def _set_error(span: Span, error: str | None) -> None:
    from opentelemetry.trace import StatusCode

    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
