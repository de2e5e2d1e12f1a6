"""Which web pages may use the server: by the ``Host`` they call it, and by the ``Origin`` they come from.

A browser lets every page send requests here, and read the answers where we say so. So a request must not come from a
foreign page: it could change something, hold a stream open, or tell by the time that it takes what there is. A page
whose own name was made to lead here (DNS rebinding) is its own origin; it is known by calling the server by a name that
is not the server's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Request, Response, request

from janflask.api.plumbing import guards
from janflask.errors import ForeignOriginError, UnknownHostError
from janflask.settings import Settings
from janflask.settings.hosts import ANY, address_of, host_and_port, plain_host, plain_origin

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# What a page may read of an answer beside its body.
_EXPOSED = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Request-Id",
    "Retry-After",
    "X-Chat-Completion-Id",
    "X-Pagination",
    "X-Request-Id",
)
_LIMITS = [
    name
    for about in ("Limit", "Remaining", "Reset")
    for what in ("Requests", "Tokens")
    for name in (f"X-Ratelimit-{about}-{what}", f"Anthropic-Ratelimit-{what}-{about}")
]
EXPOSED = ", ".join((*_EXPOSED, *_LIMITS))
PREFLIGHT_AGE = 600  # seconds a browser may remember what it was allowed
# What an answer depends on. A cache must not give one site's answer, or a refusal, to another.
VARY = "Origin, Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest"
# A browser that asks whether a page of the internet may reach into a network, or this machine: Private Network Access,
# by both names that its drafts had. Today's Local Network Access asks the visitor instead.
_NETWORKS = ("Private", "Local")
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{0,2000}")


def register(app: Flask, settings: Settings) -> None:
    """Puts the rules in front of every route, and their headers on every answer."""
    policy = Policy.of(settings)

    def admit() -> Response | None:
        policy.check_host(request)
        if policy.is_preflight(request):
            return Response(status=204)  # for every path: a page may then read that there is none
        policy.check_origin(request)
        return None

    app.before_request(admit)
    app.after_request(lambda response: policy.tell(request, response))


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that follow from the settings; hosts and origins in the spelling of ``janflask.settings.hosts``."""

    hosts: frozenset[str]
    domains: tuple[str, ...]  # what a host's name may end in
    any_host: bool
    any_address: bool  # an IP address as the host: no page can come by rebinding without a name
    origins: frozenset[str]
    any_origin: bool

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Loopback, the address that the server listens on, and what the settings add."""
        bound = _plain_or_none(settings.host)
        listed = settings.allowed_hosts
        return cls(
            hosts=frozenset({"localhost", *listed, *([bound] if bound else [])}),
            domains=tuple(host.removeprefix(ANY) for host in listed if host.startswith(f"{ANY}.")),
            any_host=ANY in listed,
            any_address=bound in _EVERY_INTERFACE,
            origins=frozenset(settings.cors_origins),
            any_origin=ANY in settings.cors_origins,
        )

    def check_host(self, given: Request) -> None:
        """Raises UnknownHostError. A request without a ``Host`` (HTTP/1.0) comes from no browser."""
        header = given.environ.get("HTTP_HOST", "")
        if not header or self.any_host:
            return
        try:
            host, _ = host_and_port(header)
        except ValueError:
            host = ""
        if not self._knows(host):
            raise UnknownHostError(
                f"this server is not called {header[:200]!r}: if it is, list that name in JANFLASK_ALLOWED_HOSTS"
            )

    def _knows(self, host: str) -> bool:
        if host in self.hosts or host.endswith(self.domains):
            return True
        address = address_of(host)
        return address is not None and (address.is_loopback or self.any_address)

    def check_origin(self, given: Request) -> None:
        """Raises ForeignOriginError for a request of another site's page, unless it shows the visitor what is here."""
        environ = given.environ
        origin: str | None = environ.get("HTTP_ORIGIN")
        if origin is None:
            # No browser, or one so old that it sends neither; one that says where the page is is believed.
            foreign = environ.get("HTTP_SEC_FETCH_SITE", "none").lower() not in ("none", "same-origin")
        else:
            foreign = not (self._lists(origin) or _is_own(origin, given))
        if foreign and not self.any_origin and not _is_harmless(given):
            raise ForeignOriginError(
                f"this server takes {given.method} requests of its own pages only, not of one from "
                f"{'another site' if origin is None else repr(origin[:200])}: if it may, list its origin in "
                "JANFLASK_CORS_ORIGINS"
            )

    def is_preflight(self, given: Request) -> bool:
        """Whether a browser asks here what a page of a listed origin may send."""
        asks = given.method == "OPTIONS" and "Access-Control-Request-Method" in given.headers
        return asks and self._lists(given.headers.get("Origin", ""))

    def tell(self, given: Request, response: Response) -> Response:
        """Lets pages of the listed origins read the answer, and others not use it unread."""
        headers = response.headers
        guards.put_on(response, embeds=self.any_origin)
        if self.any_origin:
            headers["Access-Control-Allow-Origin"] = ANY  # for every request: a cache gives the answer to a page
        else:
            own = headers.get("Vary")
            headers["Vary"] = VARY if own is None else f"{own}, {VARY}"
            origin = given.environ.get("HTTP_ORIGIN")
            if origin is None or not self._lists(origin):
                return response
            headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED
        if self.is_preflight(given):
            self._permit(given, response)
        return response

    def _permit(self, given: Request, response: Response) -> None:
        """The answer to a browser that asks what a page may send."""
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE)
        wanted = given.headers.get("Access-Control-Request-Headers", "")
        if wanted and _HEADER_NAMES.fullmatch(wanted):
            response.headers["Access-Control-Allow-Headers"] = wanted
        for network in _NETWORKS:
            if given.headers.get(f"Access-Control-Request-{network}-Network") == "true":
                response.headers[f"Access-Control-Allow-{network}-Network"] = "true"

    def _lists(self, origin: str) -> bool:
        return self.any_origin or _plain_or_none(origin, plain_origin) in self.origins


def _plain_or_none(text: str, plain: Callable[[str], str] = plain_host) -> str | None:
    try:
        return plain(text)
    except ValueError:
        return None


def _is_own(origin: str, given: Request) -> bool:
    """Whether pages of ``origin`` came from where the request goes to. The scheme is the client's, also behind TLS."""
    own = _plain_or_none(f"{given.scheme}://{given.environ.get('HTTP_HOST', '')}", plain_origin)
    return own is not None and own == _plain_or_none(origin, plain_origin)  # "null" is nobody's own


def _is_harmless(given: Request) -> bool:
    """Whether a foreign page may ask this, too: what methods there are, and to show the visitor an answer.

    Who follows a link to here sees the answer in a window of its own, which the page cannot look into.
    """
    environ = given.environ
    return given.method == "OPTIONS" or (
        given.method in ("GET", "HEAD")
        and "HTTP_ORIGIN" not in environ  # of a page, or a part of one, that wants to read it
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
