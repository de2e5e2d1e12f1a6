"""A span for every request, where traces are wanted."""

from __future__ import annotations

from flask import Flask, Response, g, request

from janflask.metrics.http_counts import UNMATCHED
from janflask.metrics.tracing import Request, Tracing


def register(app: Flask, tracing: Tracing | None) -> None:
    """Nothing is registered without ``tracing``."""
    if tracing is None:
        return

    def begin() -> None:
        g.span = tracing.request(request.method, dict(request.headers))

    def finish(response: Response) -> Response:
        span: Request | None = g.get("span")
        if span is not None:
            rule, method, status = request.url_rule, request.method, response.status_code
            response.call_on_close(lambda: span.end(method, UNMATCHED if rule is None else rule.rule, status))
        return response

    app.before_request(begin)
    app.after_request(finish)
