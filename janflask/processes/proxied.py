"""What gunicorn has to know of proxies in front: whom to believe; and which requests are below their paths."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Any

from janflask.settings import Settings
from janflask.settings.hosts import ANY

SCRIPT_NAME = "SCRIPT_NAME"  # the header, and the variable: the path that the server is below


def trusted_addresses(settings: Settings) -> str:
    """gunicorn's ``forwarded_allow_ips``; those of IPv4 also as a socket that takes both kinds tells them."""
    told = list(settings.trusted_proxies)
    for each in settings.trusted_proxies:
        if each != ANY and ":" not in each:
            network = ip_network(each)
            told.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return ",".join(told)


def place(request: Any) -> None:
    """Takes a request whose path is not below ``SCRIPT_NAME`` as it is. gunicorn would fail, with a 500."""
    told = [value for name, value in request.headers if name == SCRIPT_NAME]
    prefix = (told[-1] if told else os.environ.get(SCRIPT_NAME, "")).rstrip("/")
    if prefix and not f"{request.path}/".startswith(f"{prefix}/"):
        request.headers = [pair for pair in request.headers if pair[0] != SCRIPT_NAME] + [(SCRIPT_NAME, "")]
