"""Host names and web origins in one spelling each, so that they can be compared."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

ANY = "*"

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(\d{0,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that ``host`` is, or None for a name. One of IPv4 in IPv6 is the IPv4 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def plain_host(text: str) -> str:
    """A host without its port: lower case, no dot at its end, an address in its shortest form and without brackets.

    Raises ValueError for what is no host.
    """
    text = text.strip().lower()
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if (address := address_of(inner)) is not None:
        return str(address)
    name = inner.removesuffix(".")
    if inner is not text or not _NAME.fullmatch(name):
        raise ValueError(f"{text[:100]!r} is no host name or IP address")
    return name


def plain_network(text: str) -> str:
    """An address, or the network of those that begin as it does (10.0.0.0/8). Raises ValueError for what is neither."""
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise ValueError(f"{text[:100]!r} is no IP address and no network such as 10.0.0.0/8: {error}") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def host_and_port(text: str) -> tuple[str, int | None]:
    """What a ``Host`` header or an origin names, the host by ``plain_host``. Raises ValueError."""
    match = _AUTHORITY.fullmatch(text.strip())
    port = int(match[2]) if match is not None and match[2] else None
    if match is None or (port is not None and port > _LAST_PORT):
        raise ValueError(f"{text[:100]!r} is no host with or without a port")
    return plain_host(match[1]), port


def plain_origin(text: str) -> str:
    """A web origin as browsers send it: scheme, host and, where it is not the scheme's usual one, port.

    Raises ValueError for anything else, ``null`` among it.
    """
    match = _ORIGIN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text[:100]!r} is no origin such as https://example.com or http://localhost:3000")
    host, port = host_and_port(match[2])
    shown = f"[{host}]" if ":" in host else host
    return f"{match[1]}://{shown}" + ("" if port in (None, _PORTS.get(match[1])) else f":{port}")
