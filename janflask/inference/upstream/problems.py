"""What an upstream's refusals and failures mean to whoever asked us."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from janflask.decoding import json_decoder
from janflask.errors import (
    ContextLengthExceededError,
    InvalidRequestError,
    JanflaskError,
    RequestTooLargeError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamSetupError,
    UpstreamUnavailableError,
)
from janflask.inference.upstream.answers import NULL
from janflask.models.upstream_key import hidden, shown

NO_ROUTE = "upstream_no_route"  # the code of an error
MAX_SHOWN = 300  # characters of a foreign text in our messages
MAX_WAIT = 3600  # seconds of a Retry-After that are believed

_CONTEXT = re.compile(
    r"maximum context length|context (window|length|size)|exceeds? the (available )?context|prompt is too long", re.I
)
_NO_MODEL = re.compile(r"model\b.{0,200}\b(does not exist|not found)|unknown model", re.I | re.S)
_CONTEXT_WORDS = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_LATER = frozenset({408, 425, 502, 503, 504})
_PARAMS = frozenset({"messages", "prompt", "input"})
_PATHS = re.compile(r"(tools|tool_choice)\b")  # fields that are handed on as they are, and what is in them


@dataclass(frozen=True, slots=True)
class Where:
    """Which upstream an answer came from; ``secret`` is the key, which no message shows."""

    base_url: str
    model: str
    secret: str = field(default="", repr=False)

    def shown(self, text: str | bytes) -> str:
        """A foreign text for our messages: in one line, not too long, without the key."""
        return shown(text, self.secret, MAX_SHOWN)


class _Told(msgspec.Struct, frozen=True):
    """An error object; servers differ in the types of its fields."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class _Body(msgspec.Struct, frozen=True):
    error: _Told | str | None = None
    message: str | None = None  # older vLLM: the object itself
    type: str | None = None
    code: str | int | None = None
    detail: msgspec.Raw = NULL  # FastAPI


def refusal(status: int, headers: Mapping[str, str], body: bytes, where: Where) -> JanflaskError:
    """The error for an answer of that status, which is not 200."""
    told = _told(body, where)
    text = where.shown(told.message or "") or "no reason given"
    server = f"the upstream {where.base_url}"
    if 300 <= status < 400:
        return UpstreamSetupError(
            f"{server} redirects to {_location(headers, where)}: redirects are not followed, put the right "
            "address into base_urls"
        )
    if status in (401, 403):
        return UpstreamSetupError(
            f"{server} does not let this server in ({status}): check the key, api_key_file or api_key_env of the model"
        )
    retry_after = retry_seconds(headers)
    if status == 429:
        if told.code == "insufficient_quota":
            return UpstreamError(f"{server} refuses: {text}", code="insufficient_quota")
        return UpstreamBusyError(f"{server} takes no more requests now: {text}", retry_after=retry_after)
    if status >= 500 or status in _LATER:
        return _failure(status, told, f"{server} failed ({status}): {text}", retry_after)
    return _clients_fault(status, told, text, where)


def stream_error(raw: bytes, where: Where) -> JanflaskError:
    """The error for an error event in the middle of a stream; ``raw`` is its data."""
    told = _told(raw, where)
    text = where.shown(told.message or raw)
    code = told.code if isinstance(told.code, int) else None
    if code is not None and 400 <= code < 500:
        return refusal(code, {}, raw, where)
    if told.type == "rate_limit_error":
        return UpstreamBusyError(f"the upstream {where.base_url} takes no more requests now: {text}")
    if told.type in ("invalid_request_error", "BadRequestError") or _is_about_context(told):
        return _clients_fault(400, told, text, where)
    return _failure(code or 503, told, f"the upstream {where.base_url} failed in the middle of an answer: {text}", None)


def nonsense(what: str, found: bytes, where: Where) -> UpstreamError:
    """``what`` was expected; ``found`` came."""
    told = where.shown(found) or "an empty answer"
    return UpstreamError(f"the upstream {where.base_url} did not answer with {what}: {told}")


def retry_seconds(headers: Mapping[str, str]) -> int | None:
    """``Retry-After``, which is a number of seconds or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(int(value[:9]), MAX_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0, round(moment - time.time())), MAX_WAIT)


def _failure(status: int, told: _Told, message: str, retry_after: int | None) -> JanflaskError:
    if status in _LATER:
        return UpstreamUnavailableError(message, retry_after=1 if retry_after is None else retry_after)
    if _is_about_context(told):
        return ContextLengthExceededError(message, param="messages")
    return UpstreamError(message, retry_after=retry_after)


def _clients_fault(status: int, told: _Told, text: str, where: Where) -> JanflaskError:
    server = f"the upstream {where.base_url}"
    param = told.param if told.param in _PARAMS or _PATHS.match(told.param or "") else None
    if _is_about_context(told):
        return ContextLengthExceededError(f"{text} (says {server})", param=param)
    if told.code == "model_not_found" or _NO_MODEL.search(told.message or ""):
        return UpstreamSetupError(
            f"{server} has no model {where.model!r}: correct the model's name in its upstream. It says: {text}"
        )
    if status in (404, 405):
        return UpstreamSetupError(
            f"{server} has no such route ({status}): check base_urls (they end with /v1 at most servers) and kind. It "
            f"says: {text}",
            code=NO_ROUTE,
        )
    if status == 413:
        return RequestTooLargeError(f"{server} takes no request of this size: {text}")
    if status not in (400, 422):
        return UpstreamError(f"{server} did not do what it was asked ({status}): {text}")
    return InvalidRequestError(f"{server} refused the request ({status}): {text}", param=param)


def _is_about_context(told: _Told) -> bool:
    words = {told.code, told.type}
    return bool(words & _CONTEXT_WORDS) or bool(_CONTEXT.search(told.message or ""))


def _told(body: bytes, where: Where) -> _Told:
    try:
        found = json_decoder(_Body).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Told(message=_beginning(body, where))
    if isinstance(found.error, _Told):
        return found.error
    if isinstance(found.error, str):
        return _Told(message=found.error)
    if found.message is not None:
        return _Told(message=found.message, type=found.type, code=found.code)
    return _Told(message=_beginning(body if found.detail == NULL else bytes(found.detail), where))


def _beginning(body: bytes, where: Where) -> str:
    return hidden(body, where.secret)[: 4 * MAX_SHOWN]


def _location(headers: Mapping[str, str], where: Where) -> str:
    """Without what may be a secret in it."""
    try:
        parts = urlsplit(headers.get("location", ""))
        host = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") if parts.hostname else ""
    except ValueError:
        return "somewhere else"
    return where.shown(f"{host}{parts.path}") or "somewhere else"
