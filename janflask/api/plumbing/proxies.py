"""What a proxy in front tells of a request: who sent it, and below which path it came.

It is believed of those alone whom ``JANFLASK_TRUSTED_PROXIES`` names, and of Unix sockets; anybody can write a header.
The scheme and ``SCRIPT_NAME`` are gunicorn's to take, from the same ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from flask import Flask, Request

from janflask.api.plumbing.context import services
from janflask.settings import Settings
from janflask.settings.hosts import ANY, address_of, host_and_port

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_DOTS = re.compile(r"/\.\.?(?:/|$)")


class Trust:
    """Which peers are believed. ``proxies``: addresses and networks, or ``*`` for all."""

    def __init__(self, proxies: Iterable[str]) -> None:
        named = frozenset(proxies)
        self._everybody = ANY in named
        self._networks = [ip_network(each) for each in named - {ANY}]

    def covers(self, peer: str) -> bool:
        """Whether what ``peer`` says of a request is believed. One without an address is at a Unix socket."""
        address = address_of(peer)
        if self._everybody or address is None:
            return True
        return any(address in network for network in self._networks)

    def client_of(self, environ: dict[str, Any]) -> str:
        """The address that a request came from: the last one that none of the trusted proxies has."""
        address: str = environ.get("REMOTE_ADDR", "")
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        while hops and self.covers(address):
            hop = _address(hops.pop())
            if hop is None:
                break
            address = str(hop)
        return address


def client_address(given: Request) -> str:
    """Where a request came from, for logs."""
    return _trust(services().settings.trusted_proxies).client_of(given.environ)


def register(app: Flask, settings: Settings) -> None:
    """Lets ``X-Forwarded-Prefix`` say where the application is, to whoever takes the request then."""
    app.wsgi_app = _below_prefix(app.wsgi_app, _trust(settings.trusted_proxies))  # type: ignore[method-assign]


def _below_prefix(inner: Callable[..., Any], trust: Trust) -> Callable[..., Any]:
    """The proxy has taken the prefix off the path."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX")
        if prefix and _is_path(prefix) and trust.covers(environ.get("REMOTE_ADDR", "")):
            environ["SCRIPT_NAME"] = prefix.rstrip("/") + environ.get("SCRIPT_NAME", "")
        return inner(environ, start_response)

    return application


def _is_path(text: str) -> bool:
    """Nothing that a link with it before would leave this server by (``//elsewhere``)."""
    return _PREFIX.fullmatch(text) is not None and _DOTS.search(text) is None


@functools.lru_cache(maxsize=16)
def _trust(proxies: tuple[str, ...]) -> Trust:
    return Trust(proxies)


def _address(word: str) -> IPv4Address | IPv6Address | None:
    """A hop's address, with or without a port; None for whatever else stands there."""
    bare = address_of(word.strip())
    if bare is not None:
        return bare
    try:
        return address_of(host_and_port(word)[0])
    except ValueError:
        return None
