"""Every error as OpenAI's error object (or Anthropic's): no HTML, no traceback, of an unexpected one only an id."""

from __future__ import annotations

import logging
import random
import re
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from janflask.api.answers.anthropic_errors import anthropic_error
from janflask.api.plumbing.dialects import is_anthropic
from janflask.api.plumbing.response import json_response
from janflask.errors import ClientDisconnectedError, InvalidRequestError, JanflaskError
from janflask.ipc.request_id import CURRENT

REQUEST_ID_HEADER = "X-Request-Id"
ANTHROPIC_ID_HEADER = "request-id"  # the same, as Anthropic's clients know it
RETRY_AFTER = 1  # seconds, for a 429 or 503 that doesn't say

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}
_NO_WEBSOCKETS = (
    "there are no websockets here: send POST (POST /v1/responses for a response) with stream true, and the answer "
    "comes as server-sent events"
)

log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Gives every request an id, and every error a body."""
    app.before_request(_take_request_id)
    app.after_request(_tell_request_id)
    app.register_error_handler(JanflaskError, on_janflask_error)
    app.register_error_handler(HTTPException, on_http_exception)
    app.register_error_handler(Exception, on_unexpected)


def error_body(error: JanflaskError) -> dict[str, Any]:
    """``{"error": {...}}``."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def internal_error(request_id: str) -> JanflaskError:
    """What a client is told of an error that we did not foresee."""
    return JanflaskError(
        f"an unexpected error happened in the server; its log tells more under request id {request_id}",
        code="internal_error",
    )


def on_janflask_error(error: JanflaskError) -> Response:
    """Our own errors say all that is needed."""
    if error.status >= 500:
        log.warning("request %s: %d %s", g.get("request_id"), error.status, error.message)
    elif isinstance(error, ClientDisconnectedError):
        log.info("request %s: %s", g.get("request_id"), error.message)
    body = anthropic_error(error, g.get("request_id", "unknown")) if is_anthropic() else error_body(error)
    response = json_response(body, error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503) or error.retry_after is not None:
        response.headers["Retry-After"] = str(RETRY_AFTER if error.retry_after is None else error.retry_after)
    return response


def on_http_exception(error: HTTPException) -> BaseResponse:
    """Flask's and Werkzeug's: unknown routes, wrong methods, bodies that are too large."""
    status = error.code or 500
    if status < 400 or isinstance(error.response, BaseResponse):  # a redirect, or an answer that is made already
        return error.get_response(request.environ)
    if status in (400, 405) and request.headers.get("Upgrade", "").lower() == "websocket":
        return on_janflask_error(InvalidRequestError(_NO_WEBSOCKETS))
    response = on_janflask_error(
        JanflaskError(
            _message(error, status),
            status=status,
            type="invalid_request_error" if status < 500 else "server_error",
            code=_CODES.get(status, "internal_error" if status >= 500 else "invalid_request"),
        )
    )
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def on_unexpected(error: Exception) -> Response:
    """A bug, or a machine in trouble."""
    log.error("request %s: %s %s failed", g.get("request_id"), request.method, request.path, exc_info=error)
    return on_janflask_error(internal_error(g.get("request_id", "unknown")))


def _message(error: HTTPException, status: int) -> str:
    if status == 404:
        return f"there is no route {request.method} {request.path}; {request.script_root}/docs lists what there is"
    if status == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return f"{request.path} does not know {request.method}" + (f", only {allowed}" if allowed else "")
    if isinstance(error, RequestEntityTooLarge):
        return f"the request's body is larger than {(request.max_content_length or 0) >> 20} MiB"
    return error.description or error.name


def _new_request_id() -> str:
    # It only has to differ from others: asking the kernel for better chance costs more than routing the request.
    return f"{random.getrandbits(128):032x}"


def _take_request_id() -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else _new_request_id()
    CURRENT.set(g.request_id)


def _tell_request_id(response: Response) -> Response:
    request_id = g.get("request_id") or _new_request_id()
    response.headers[REQUEST_ID_HEADER] = request_id
    if is_anthropic():
        response.headers[ANTHROPIC_ID_HEADER] = request_id
    return response
