"""A base URL: where an upstream listens, and its routes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from janflask.errors import ConflictError
from janflask.models.upstream import read_base_url

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
    """Raises ConflictError for what is no base URL or has more in it, which is not told: it may be a key."""
    try:
        checked = read_base_url(url)
    except ValueError as error:
        raise ConflictError(f"a base_url of the model's upstream {error}", param="model") from None
    parts = urlsplit(checked)
    secure = parts.scheme == "https"
    return Address(checked, secure, parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.path)
