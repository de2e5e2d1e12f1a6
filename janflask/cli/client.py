"""The CLI's way to a running server: JSON requests and server-sent events over the standard library's HTTP client.

The standard library is enough for one request at a time, starts faster than any other client and asks no proxy for a
server on this machine.
"""

from __future__ import annotations

import functools
import http.client
import json
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import click

from janflask.settings import Settings
from janflask.tls.trust import Trust, UntrustedError, why_not

KEY_VARIABLE = "JANFLASK_API_KEY"  # this shell's key of the server; no setting of the server's own
CA_VARIABLE = "JANFLASK_CA_FILE"  # this shell's, too: a file of certificates that are trusted beside the machine's
HTTPS_REQUIRED = "https_required"  # as ``connections.handshakes`` has it
CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 30.0  # seconds, for requests that have nothing to wait for
SILENCE_TIMEOUT = 60.0  # seconds without a word, not even a comment, after which events are not waited for any longer


_KEY = re.compile("[!-~]+")


class ServerUnreachableError(click.ClickException):
    """Nothing answers at the URL."""

    def __init__(self, url: str, reason: object) -> None:
        super().__init__(
            f"no server answers at {url} ({reason}). "
            "Start one with 'janflask serve' (or 'make run'), or say where it is with --url."
        )


class ServerError(click.ClickException):
    """The server refused or failed; the message is its own.

    Attributes:
        status: HTTP status, or None when the error came inside a stream.
        code: the server's word for it, e.g. ``model_not_found``, or None.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event, or (``comment``) a comment line."""

    text: str
    comment: bool = False


def server_url(settings: Settings) -> str:
    """Where a server with these settings is reached from this machine, without ``/v1``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "http" if settings.tls_cert is None and not settings.tls_self_signed else "https"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


def parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events (HTML standard, section 9.2.6) from lines; only ``data`` fields and comments matter here."""
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith(":"):
            yield Event(line[1:].strip(), comment=True)
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield Event("\n".join(data))
            data = []


class Client:
    """Requests to one server. ``url`` may or may not end in ``/v1``; ``key`` is sent with each of them.

    ``trust`` gives whom to take for it, if it speaks HTTPS; without, whom this machine trusts.

    Every method raises ServerUnreachableError when nothing listens there and ServerError when the server says no.
    """

    def __init__(self, url: str, key: str | None = None, trust: Callable[[], Trust] | None = None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.BadParameter(f"{url!r} is not an http:// or https:// URL", param_hint="--url")
        try:
            self._port = parts.port
        except ValueError as error:
            raise click.BadParameter(f"{url!r}: {error}", param_hint="--url") from None
        if key is not None and not _KEY.fullmatch(key):
            raise click.UsageError(f"{KEY_VARIABLE} holds no API key: one word of visible ASCII characters")
        self._key = key
        self._host = parts.hostname
        self._trust = functools.cache(trust or _machines) if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self.url = f"{parts.scheme}://{parts.netloc}{self._base}"

    def models(self) -> list[dict[str, Any]]:
        """Every model the server knows."""
        answer = self.call("GET", "/models")
        models = answer.get("data")
        if not isinstance(models, list):
            raise ServerError(f"{self.url} answers, but not like janflask: its /v1/models holds no list")
        return models

    def model(self, model_id: str) -> dict[str, Any]:
        return self.call("GET", model_path(model_id))

    def start(self, model_id: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Gives the answer once the model runs, however long that takes."""
        return self.call("PUT", model_path(model_id, "/start"), settings, timeout=None)

    def stop(self, model_id: str) -> dict[str, Any]:
        return self.call("PUT", model_path(model_id, "/stop"), {}, timeout=None)

    def pull(self, request: dict[str, Any]) -> dict[str, Any]:
        """The model whose download has begun, or was under way; ``request`` is the body of POST /v1/models."""
        return self.call("POST", "/models", request)

    def change(self, model_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """The model with ``changes`` in its ``model.json``; null removes."""
        return self.call("PATCH", model_path(model_id), changes)

    def delete(self, model_id: str) -> dict[str, Any]:
        """Deletes the model, or ends its download."""
        return self.call("DELETE", model_path(model_id), timeout=None)

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole answer of a completion, however long it takes."""
        return self.call("POST", "/completions", request, timeout=None)

    def call(
        self, method: str, path: str, body: object = None, *, timeout: float | None = ANSWER_TIMEOUT
    ) -> dict[str, Any]:
        """One request; its JSON object."""
        with self._open(method, f"/v1{path}", body, timeout) as response:
            return self._object(response, path)

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body of a route that is not below ``/v1`` and answers 503 in good order, such as ``/readyz``."""
        with self._answer("GET", path, None, ANSWER_TIMEOUT) as response:
            return response.status, self._object(response, path)

    def _object(self, response: http.client.HTTPResponse, path: str) -> dict[str, Any]:
        try:
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(f"{self.url}{path} gave no proper answer: {error}") from None
        if not isinstance(answer, dict):
            raise ServerError(f"{self.url} answers, but not like janflask: {path} holds no JSON object")
        return answer

    @contextmanager
    def stream(self, path: str, body: object) -> Iterator[Iterator[Event]]:
        """A request that is answered by events. Leaving the block closes the connection, which ends the work there."""
        with self._open("POST", f"/v1{path}", body, timeout=None) as response:
            yield self._events(response)

    @contextmanager
    def watch(self, model_id: str) -> Iterator[Iterator[Event]]:
        """How a model is, at each change until it settles. The last event tells whether that is why they end."""
        path = model_path(model_id, "/events")
        with self._open("GET", f"/v1{path}", None, timeout=SILENCE_TIMEOUT) as response:
            yield self._until_closed(response)

    def _until_closed(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        try:
            yield from (event for event in parse_events(response) if event.comment or event.text != "[DONE]")
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the connection to {self.url} broke: {error}") from None

    def _events(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        """Events up to ``[DONE]``; an end without it is an error."""
        try:
            for event in parse_events(response):
                if event.text == "[DONE]" and not event.comment:
                    return
                yield event
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the connection to {self.url} broke in the middle of the answer: {error}") from None
        raise ServerError(f"{self.url} closed the connection in the middle of the answer")

    @contextmanager
    def _open(self, method: str, path: str, body: object, timeout: float | None) -> Iterator[http.client.HTTPResponse]:
        with self._answer(method, path, body, timeout) as response:
            if response.status >= 400:
                raise _refusal(response)
            yield response

    @contextmanager
    def _answer(
        self, method: str, path: str, body: object, timeout: float | None
    ) -> Iterator[http.client.HTTPResponse]:
        """Whatever its status."""
        connection, trust = self._connection()
        try:
            with self._send(connection, trust, method, path, body, timeout) as response:
                yield response
        finally:
            connection.close()

    def _connection(self) -> tuple[http.client.HTTPConnection, Trust | None]:
        if self._trust is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT), None
        try:
            trust = self._trust()
        except UntrustedError as error:
            raise ServerError(str(error)) from None
        context = trust.context
        return http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_TIMEOUT, context=context), trust

    def _connect(self, connection: http.client.HTTPConnection, trust: Trust | None) -> None:
        """Raises OSError, and ServerError for a server that is not the right one."""
        try:
            connection.connect()
            if trust is not None and isinstance(connection.sock, ssl.SSLSocket):
                trust.check(connection.sock)
        except ssl.SSLError as error:
            raise ServerError(f"{self.url} {why_not(error, CA_VARIABLE)}") from None
        except UntrustedError as error:
            raise ServerError(f"{self.url}: {error}") from None

    def _send(
        self,
        connection: http.client.HTTPConnection,
        trust: Trust | None,
        method: str,
        path: str,
        body: object,
        timeout: float | None,
    ) -> http.client.HTTPResponse:
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json, text/event-stream"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        if payload is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connect(connection, trust)
            connection.sock.settimeout(timeout)
            connection.request(method, self._base + path, payload, headers)
            return connection.getresponse()
        except TimeoutError:
            raise ServerUnreachableError(self.url, "no answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachableError(self.url, getattr(error, "strerror", None) or error) from None


def _machines() -> Trust:
    return Trust(ssl.create_default_context())


def model_path(model_id: str, rest: str = "") -> str:
    """The route of a model; whatever a user typed as its id stays one path segment."""
    return f"/models/{quote(model_id, safe='', errors='replace')}{rest}"


def error_of(body: object, *, status: int | None = None, fallback: str) -> ServerError:
    """The error in an OpenAI-shaped ``{"error": {...}}`` body; ``fallback`` when it has another shape."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ServerError(fallback, status=status)
    return ServerError(str(error.get("message") or fallback), status=status, code=error.get("code"))


def _refusal(response: http.client.HTTPResponse) -> ServerError:
    fallback = f"the server answered {response.status} {response.reason}"
    try:
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        body = None  # a proxy's HTML page, say: the status tells what there is to tell
    error = error_of(body, status=response.status, fallback=fallback)
    if error.code == HTTPS_REQUIRED:
        hint = (
            "the server speaks HTTPS: say --url https://..., or set in this shell what the server has "
            "(JANFLASK_TLS_SELF_SIGNED=1, or JANFLASK_TLS_CERT)"
        )
        return ServerError(hint, status=error.status, code=error.code)
    if response.status != 401:
        return error
    hint = f"{error.message}. The commands send the key that is in {KEY_VARIABLE}."
    return ServerError(hint, status=error.status, code=error.code)
