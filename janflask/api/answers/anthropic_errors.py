"""Errors as Anthropic's clients read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from janflask.errors import JanflaskError

# What their clients tell errors apart by, from https://docs.anthropic.com/en/api/errors; others are the client's doing
# below 500, and ours above.
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_error(error: JanflaskError, request_id: str) -> dict[str, Any]:
    """``{"type": "error", ...}``; our own ``code`` and ``param`` are its details."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    param = "messages" if error.param == "input" else error.param  # a response's name for them
    details = {"error_code": error.code, "param": param}
    told = {"type": kind, "message": error.message, "details": details}
    return {"type": "error", "error": told, "request_id": request_id}


def in_anthropics_form(status: int, example: Mapping[str, Any]) -> dict[str, Any]:
    """An example of an error in OpenAI's form, for the document."""
    told = example["error"]
    error = JanflaskError(told["message"], param=told["param"], code=told["code"], status=status)
    return anthropic_error(error, "0123456789abcdef0123456789abcdef")
