"""What a view needs of the application it runs in."""

from __future__ import annotations

from flask import current_app, request

from janflask.services.container import Services
from janflask.services.waiting import Waiter

EXTENSION = "janflask"
_CLIENT_SOCKETS = ("gunicorn.socket", "werkzeug.socket")  # where WSGI servers say what the request came over


def services() -> Services:
    """The current application's."""
    found = current_app.extensions[EXTENSION]
    if not isinstance(found, Services):
        raise TypeError(f"the application's {EXTENSION} extension is {type(found).__name__}")
    return found


def waiter() -> Waiter:
    """A waiter that watches the current request's client, where the server tells its socket."""
    sockets = (request.environ.get(name) for name in _CLIENT_SOCKETS)
    return Waiter(next((client for client in sockets if client is not None), None))
