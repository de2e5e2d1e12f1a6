"""What a view needs of the application it runs in."""

from __future__ import annotations

import socket

from flask import current_app, request

from janflask.container import Services
from janflask.inference.waiting import Waiter
from janflask.ipc import shutdown

EXTENSION = "janflask"
INPUT = "wsgi.input"
STALLED = 120.0  # seconds a client may take nothing of what is sent to it
_CLIENT_SOCKETS = ("gunicorn.socket", "werkzeug.socket")  # where WSGI servers say what the request came over


def services() -> Services:
    """The current application's."""
    found = current_app.extensions[EXTENSION]
    if not isinstance(found, Services):
        raise TypeError(f"the application's {EXTENSION} extension is {type(found).__name__}")
    return found


def waiter() -> Waiter:
    """A waiter that watches the current request's client, where the server tells its socket."""
    client = client_socket()
    if client is not None:
        _limit_stalls(client)
    return Waiter(client, shutdown.TIME_IS_UP)


def client_socket() -> socket.socket | None:
    """What the current request came over, where the server tells it."""
    environ = request.environ
    for name in _CLIENT_SOCKETS:
        client: socket.socket | None = environ.get(name)
        if client is not None:
            return client
    return None


def has_body() -> bool:
    """Whether the current request says that it has one; it may be empty."""
    environ = request.environ
    return environ.get("CONTENT_LENGTH", "") not in ("", "0") or bool(environ.get("HTTP_TRANSFER_ENCODING"))


def _limit_stalls(client: socket.socket) -> None:
    """Lets the kernel give a client up that stays connected and stops reading, or that vanished without a word.

    Without it a thread that writes to such a client waits for ever, or for the quarter of an hour that TCP tries.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
