"""Opens http(s) URLs that somebody else chose: public addresses only, and nothing of this machine.

The address that was checked is the one that is connected to, so a name that changes its mind between the two (DNS
rebinding) gains nothing. Every redirect is a new URL with the same checks. Proxies of the environment are not used:
behind one, there would be no address to check.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from janflask.errors import InvalidRequestError

MAX_URL = 8192  # characters
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class UnsafeSourceError(InvalidRequestError):
    """A URL, or where it leads, is refused."""

    code = "unsafe_source"

    def __init__(self, message: str, *, param: str | None = "source_url") -> None:
        super().__init__(message, param=param)


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
        raise UnsafeSourceError(f"models are fetched by http and https only, not from {url[:200]!r}")
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


def resolve(host: str, port: int, allow_private: bool) -> list[str]:
    """The host's addresses. Raises UnsafeSourceError if one of them is not public, OSError if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    refused = [address for address in addresses if not is_public(address)]
    if refused and not allow_private:
        raise UnsafeSourceError(
            f"{host} is {refused[0]}, which is not a public address; "
            "JANFLASK_ALLOW_PRIVATE_SOURCES=1 on the server allows such sources"
        )
    return addresses


class _Connection(http.client.HTTPConnection):
    """Connects to an address that it has checked itself."""

    def __init__(self, parts: SplitResult, timeout: float, allow_private: bool) -> None:
        self._tls = parts.scheme == "https"
        super().__init__(parts.hostname or "", parts.port or (443 if self._tls else 80), timeout=timeout)
        self.default_port = 443 if self._tls else 80  # what the Host header leaves out
        self._allow_private = allow_private

    def connect(self) -> None:
        failure: OSError | None = None
        for address in resolve(self.host, self.port, self._allow_private):
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError as error:
                failure = error
        else:
            raise failure or OSError(f"{self.host} has no address")
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


@dataclass(frozen=True, slots=True)
class Answer:
    """An open answer; to be closed. ``read`` gives what has come, at most ``size`` bytes, b"" at the end."""

    url: str
    status: int
    headers: Mapping[str, str]  # names in lower case
    _connection: _Connection
    _response: http.client.HTTPResponse

    def read(self, size: int) -> bytes:
        return self._response.read1(size)

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def abort(self) -> None:
        """Wakes a reader in another thread; it sees an end or an error."""
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):  # it has ended already
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Web:
    """How URLs are opened. ``token`` is sent to ``token_origin`` (``https://host[:port]``) alone.

    ``timeout`` is the longest silence, in seconds.
    """

    allow_private: bool = False
    timeout: float = 30.0
    token: str | None = None
    token_origin: str = ""

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET, through redirects. Raises UnsafeSourceError, OSError and http.client.HTTPException."""
        parts = check_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._get(parts, headers or {})
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            following = check_url(urljoin(urlunsplit(parts), location))
            if parts.scheme == "https" and following.scheme == "http":
                raise UnsafeSourceError(f"{parts.hostname} redirects from https to http, which is not safe")
            parts = following
        raise UnsafeSourceError(f"{url[:200]!r} redirects more than {MAX_REDIRECTS} times")

    def _get(self, parts: SplitResult, headers: Mapping[str, str]) -> Answer:
        connection = _Connection(parts, self.timeout, self.allow_private)
        sent = {"User-Agent": "janflask", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        if self.token and f"{parts.scheme}://{parts.netloc}" == self.token_origin:
            sent["Authorization"] = f"Bearer {self.token}"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("GET", target, headers=sent)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(urlunsplit(parts), response.status, received, connection, response)
