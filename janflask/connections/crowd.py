"""How many connections each address has."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from typing import Any

from janflask.settings.hosts import ANY

_V6_PREFIX = 64  # bits: a household or a machine has at least all addresses that begin with these


class Crowd:
    """Counts connections by where they come from. One thread's.

    Args:
        limit: connections that one address may have; 0: any number.
        proxies: addresses and networks (or ``*``) of those who speak for others, and are not counted.
    """

    def __init__(self, limit: int, proxies: Iterable[str] = ()) -> None:
        named = frozenset(proxies)
        self._limit = 0 if ANY in named else limit
        self._proxies = [ipaddress.ip_network(each) for each in named - {ANY}]
        self._counts: Counter[str] = Counter()

    def admit(self, client: Any) -> str | None:
        """Counts one more of a socket's peer. Gives what ``leave`` takes: "" for who is not counted; None: refused."""
        place = self._place(client) if self._limit else ""
        if place and self._counts[place] >= self._limit:
            return None
        if place:
            self._counts[place] += 1
        return place

    def leave(self, place: str) -> None:
        """One of those who were admitted is gone."""
        if place and self._counts[place] > 1:
            self._counts[place] -= 1
        else:
            self._counts.pop(place, None)

    def _place(self, client: Any) -> str:
        """The address of a peer, of IPv6 the network; "" for this machine and for proxies."""
        if not isinstance(client, tuple):
            return ""  # a Unix socket
        try:
            address = ipaddress.ip_address(str(client[0]).partition("%")[0])
        except ValueError:
            return ""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback or any(address in network for network in self._proxies):
            return ""
        if isinstance(address, ipaddress.IPv4Address):
            return str(address)
        return str(ipaddress.ip_network((address, _V6_PREFIX), strict=False))
