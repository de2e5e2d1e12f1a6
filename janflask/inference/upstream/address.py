"""A base URL: where an upstream listens, and its routes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from janflask.errors import ConflictError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL that was read. ``base`` is its path, without a slash at the end."""

    url: str
    secure: bool
    host: str
    port: int
    base: str

    @property
    def host_header(self) -> str:
        """The value of ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"

    @property
    def root(self) -> str:
        """The path without ``/v1``, below which servers have their routes that are not OpenAI's."""
        return self.base.removesuffix("/v1")


def parse_base_url(url: str) -> Address:
    """Raises ConflictError for what is no base URL, or has more in it than one has."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _unusable("<not shown>" if "@" in url else url, str(error)) from None
    if "@" in parts.netloc:  # it may be a password: not to be shown
        raise _unusable(
            "<not shown>", "must have no user name or password: a key goes into api_key_file or api_key_env"
        )
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _unusable(url, "must be like http://10.0.0.2:8000/v1 or https://example.com/v1")
    if parts.query or parts.fragment:
        raise _unusable(f"{parts.scheme}://{parts.netloc}{parts.path}", "must end with its path")
    if not url.isascii() or any(character <= " " for character in url):
        raise _unusable(url, "must be plain ASCII without spaces")
    secure = parts.scheme == "https"
    base = parts.path.rstrip("/")
    shown = f"{parts.scheme}://{parts.netloc}{base}"
    return Address(shown, secure, parts.hostname, port or _PORTS[parts.scheme], base)


def _unusable(url: str, reason: str) -> ConflictError:
    return ConflictError(f"base_url {url!r} in the model's upstream {reason}", param="model")
