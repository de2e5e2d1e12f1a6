"""Every request is counted, and logged, by its route: from its headers to the last byte of its answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from flask import Flask, Response, g, request

from janflask.api.plumbing.proxies import client_address
from janflask.ipc.request_id import CURRENT
from janflask.metrics.http_counts import UNMATCHED, HttpCounts

log = logging.getLogger(__name__)


class Answer(Response):
    """Flask's, of which all are told that it has ended, also where it is a file, and where one of them fails.

    Werkzeug gives a file to the server as it is, so that the kernel can send it, and the server then closes only that.
    """

    def close(self) -> None:
        """Closes the body, then calls who waits for the end, in their order. Raises what one of them raised last."""
        with ExitStack() as ends:
            for each in reversed(self._on_close):  # a stack ends with what came first
                ends.callback(each)
            if hasattr(self.response, "close"):
                ends.callback(self.response.close)

    def get_app_iter(self, environ: Any) -> Iterable[bytes]:
        """See Werkzeug."""
        body = super().get_app_iter(environ)
        if body is self.response and hasattr(body, "close"):
            self.call_on_close(body.close)
            self.response = ()
            body.close = self.close
        return body


def register(app: Flask, counts: HttpCounts) -> None:
    """Before anything else that looks at a request."""

    def begin() -> None:
        g.began = time.perf_counter()
        counts.began()

    def finish(response: Response) -> Response:
        began = g.get("began")
        if began is None:
            return response
        rule, method, status = request.url_rule, request.method, response.status_code
        route = UNMATCHED if rule is None else rule.rule
        client = client_address(request) if log.isEnabledFor(logging.INFO) else None

        def end() -> None:
            seconds = time.perf_counter() - began
            counts.ended(method, route, status, seconds)
            if log.isEnabledFor(logging.INFO):  # where nobody has configured the root's level, it is not
                about = {"method": method, "route": route, "status": status}
                about |= {"seconds": round(seconds, 6), "client": client}
                log.info("%s %s %d", method, route, status, extra={"fields": about})
            CURRENT.set(None)

        response.call_on_close(end)
        return response

    app.response_class = Answer
    app.before_request(begin)
    app.after_request(finish)
