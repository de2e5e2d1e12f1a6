"""Opens http(s) URLs that somebody else chose: public addresses only, and nothing of this machine.

The address that was checked is the one that is connected to, so a name that changes its mind between the two (DNS
rebinding) gains nothing. Every redirect is a new URL with the same checks. Proxies of the environment are not used:
behind one, there would be no address to check.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from janflask.downloads.wire import Address, Connection, Patience, Response, Wire
from janflask.errors import UnsafeSourceError

MAX_URL = 8192  # characters
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_url(url: str) -> SplitResult:
    """The URL's parts in plain ASCII, without its fragment. Raises UnsafeSourceError."""
    if len(url) > MAX_URL or any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in url):
        raise UnsafeSourceError(f"a URL has at most {MAX_URL} characters and no blanks or control characters")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:  # also UnicodeError
        raise UnsafeSourceError(f"{url[:200]!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise UnsafeSourceError(f"only http and https are used, not {url[:200]!r}")
    if not host or parts.username is not None or parts.password is not None:
        raise UnsafeSourceError("the URL must name a host, and no user or password")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    path, query = (quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path or "/", parts.query))
    return SplitResult(parts.scheme, netloc, path, query, "")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also when it is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(
    host: str,
    port: int,
    allow_private: bool,
    remedy: str = "JANFLASK_ALLOW_PRIVATE_SOURCES=1 on the server allows such sources",
) -> list[Address]:
    """The host's addresses. Raises UnsafeSourceError if one of them is not public, OSError if there are none.

    ``remedy``: what allows others, for the error.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refused = [str(place[0]) for *_, place in found if not is_public(str(place[0]))]
    if refused and not allow_private:
        raise UnsafeSourceError(f"{host} is {refused[0]}, which is not a public address; {remedy}")
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def port_of(parts: SplitResult) -> int:
    """The URL's port, its scheme's own where it names none."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def origin_of(url: str | SplitResult) -> str:
    """``scheme://host[:port]`` of an http(s) URL, without the scheme's own port. Raises UnsafeSourceError."""
    parts = check_url(url) if isinstance(url, str) else url
    return f"{parts.scheme}://{parts.netloc.removesuffix(':443' if parts.scheme == 'https' else ':80')}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An open answer; to be closed."""

    url: str
    status: int
    headers: Mapping[str, str]  # names in lower case
    _connection: Connection
    _response: Response

    @property
    def is_chunked(self) -> bool:
        """Whether its end is marked, so that its length need not be known."""
        return bool(self._response.chunked)

    def read_into(self, buffer: memoryview) -> int:
        """Fills ``buffer`` with what has come and gives its size; 0 at the end, be it the right one or not.

        Raises OSError and http.client.HTTPException.
        """
        return self._response.read_some(buffer)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Web:
    """How URLs are opened. Origins are what ``origin_of`` gives.

    ``token`` is sent to ``token_origin`` alone. ``private_origin`` is one that the server's owner chose: it may have
    private addresses, whatever ``allow_private`` says of all others.
    """

    allow_private: bool = False
    patience: Patience = field(default_factory=Patience)
    token: str | None = None
    token_origin: str = ""
    private_origin: str = ""

    def open(self, url: str, headers: Mapping[str, str] | None = None, wire: Wire | None = None) -> Answer:
        """GET, through redirects. Raises UnsafeSourceError, OSError and http.client.HTTPException."""
        parts = check_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._get(parts, headers or {}, wire or Wire())
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            following = check_url(urljoin(urlunsplit(parts), location))
            if parts.scheme == "https" and following.scheme == "http":
                raise UnsafeSourceError(f"{parts.hostname} redirects from https to http, which is not safe")
            parts = following
        raise UnsafeSourceError(f"{url[:200]!r} redirects more than {MAX_REDIRECTS} times")

    def _get(self, parts: SplitResult, headers: Mapping[str, str], wire: Wire) -> Answer:
        origin = origin_of(parts)
        is_allowed = self.allow_private or origin == self.private_origin
        addresses = resolve(parts.hostname or "", port_of(parts), is_allowed)
        connection = Connection(parts, addresses, self.patience, wire)
        sent = {"User-Agent": "janflask", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        if self.token and origin == self.token_origin:
            sent["Authorization"] = f"Bearer {self.token}"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            response = connection.answer(target, sent)
        except BaseException:
            connection.close()
            raise
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(urlunsplit(parts), response.status, received, connection, response)
