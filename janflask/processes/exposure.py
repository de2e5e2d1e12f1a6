"""A server without keys is for its own machine: what it is to listen on is looked at before anything of it runs.

The workers look at each connection, too (``api/plumbing/access.py``): for what changes while the server runs.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable
from typing import Any

from janflask.errors import KeysUnreadableError, SettingsError
from janflask.settings import Settings
from janflask.settings.hosts import address_of

KEYS_FILE = "keys.json"  # as ``access.key_file`` has it; without one, nothing of that is imported


def check(settings: Settings, addresses: Iterable[Any], log: logging.Logger | None = None) -> None:
    """Refuses a server that others could use without a key.

    Args:
        settings: they tell where the keys are, and whether it is meant so.
        addresses: what it listens on, as gunicorn has it: (host, port, ...), a Unix socket's path, or a descriptor.
        log: where a warning goes if it is meant so.

    Raises SettingsError, also for keys that cannot be read.
    """
    exposed = [address for address in addresses if is_exposed(address)]
    if _keyring_asks(settings) or not exposed:
        return
    where = _shown(exposed)
    if not settings.allow_keyless:
        raise SettingsError(
            f"other machines can reach {where}, and there are no keys in {settings.secrets_dir}: make one with "
            "`janflask keys add NAME`, or listen on 127.0.0.1 (JANFLASK_HOST). If whoever reaches the server may do "
            "everything, set JANFLASK_ALLOW_KEYLESS=1",
            param="JANFLASK_HOST",
        )
    if log is not None:
        log.warning("Whoever reaches %s may do everything: there are no keys, and JANFLASK_ALLOW_KEYLESS is set", where)


def warn_of_readers(addresses: Iterable[Any], server: Any) -> None:
    """Tells the log of gunicorn's ``server`` if keys will cross the network for everybody to read."""
    exposed = [address for address in addresses if is_exposed(address)]
    if exposed and not server.cfg.is_ssl:
        server.log.warning(
            "%s speaks plain HTTP: whoever is on the way can read keys and conversations, unless a proxy in front "
            "speaks HTTPS (JANFLASK_TLS_CERT, or JANFLASK_TLS_SELF_SIGNED=1 for a first try)",
            _shown(exposed),
        )


def _shown(addresses: Iterable[Any]) -> str:
    return ", ".join(f"{address[0] or '*'}:{address[1]}" for address in addresses)


def is_exposed(address: Any) -> bool:
    """Whether something else than this machine's own programs gets there. A descriptor tells it once it is open."""
    if not isinstance(address, tuple):
        return False
    host = address[0]
    if not isinstance(host, str) or not host:
        return True
    plain = address_of(host)
    return not (all(map(_is_loopback, _resolved(host))) if plain is None else plain.is_loopback)


def listened_on(sockets: Iterable[Any]) -> list[Any]:
    """The addresses of gunicorn's open sockets, inherited ones among them."""
    return [os.fsdecode(name) if isinstance(name := each.getsockname(), bytes) else name for each in sockets]


def _resolved(host: str) -> list[str]:
    """The addresses of a name; none of one that nobody knows, which cannot be listened on either."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _is_loopback(text: str) -> bool:
    address = address_of(text)
    return address is not None and address.is_loopback


def _keyring_asks(settings: Settings) -> bool:
    if not os.path.lexists(settings.secrets_dir / KEYS_FILE):
        return False
    from janflask.access.key_file import KeyFile

    try:
        return KeyFile(settings.secrets_dir).current().required
    except KeysUnreadableError as error:
        raise SettingsError(error.message, param="JANFLASK_DATA_DIR") from None
