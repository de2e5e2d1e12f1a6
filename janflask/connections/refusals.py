"""What is told to a client whose request is no HTTP, or never became one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

_CODES = {
    403: "forbidden",
    408: "request_timeout",
    414: "uri_too_long",
    417: "expectation_failed",
    429: "too_many_connections",
    431: "headers_too_large",
}
_REASONS = {408: "Request Timeout", 429: "Too Many Requests"}
_MAX_WORDS = 300  # characters of a message: gunicorn quotes what it was sent


def refusal(status: int, reason: str, message: str, code: str | None = None) -> bytes:
    """A whole answer, the connection's last, with an error object as all others have it."""
    server = status >= 500
    error = {
        "message": message[:_MAX_WORDS] or reason,
        "type": "server_error" if server else "invalid_request_error",
        "param": None,
        "code": code or _CODES.get(status, "internal_error" if server else "invalid_http"),
    }
    body = json.dumps({"error": error}).encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        *(["Retry-After: 1"] if status == 429 else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def refuse(sock: Any, status: int, message: str) -> None:
    """Tells it to a client if it listens; nothing waits for it."""
    with suppress(OSError, ValueError):
        sock.setblocking(False)
        sock.send(refusal(status, _REASONS[status], message))


def write_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
    """In the place of ``gunicorn.util.write_error``, which writes HTML."""
    if status_int == 501:  # a transfer coding that nobody here knows: the client's mistake as much as a bad length
        status_int, reason = 400, "Bad Request"
    sock.setblocking(False)
    try:
        sock.send(refusal(status_int, reason, mesg))
    finally:
        sock.setblocking(True)
