"""What several commands share: the settings of this shell, and the options ``--url`` and ``--json``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from janflask.cli.client import CA_VARIABLE, KEY_VARIABLE, Client, server_url
from janflask.errors import SettingsError
from janflask.settings import Settings
from janflask.tls import trust

Command = TypeVar("Command", bound=Callable[..., Any])


def current_settings() -> Settings:
    """The ``JANFLASK_*`` settings; a bad one is a usage error."""
    try:
        return Settings.from_env()
    except SettingsError as error:
        raise click.UsageError(error.message) from None


def url_option(command: Command) -> Command:
    """Adds ``--url``; see ``client_for``."""
    return click.option(
        "--url",
        metavar="URL",
        help="Where the server is.  [default: http(s)://JANFLASK_HOST:JANFLASK_PORT]",
    )(command)


def json_option(command: Command) -> Command:
    """Adds ``--json`` (the argument ``as_json``)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def client_for(url: str | None) -> Client:
    """A client for ``--url``, or for the server that this shell's settings describe, with this shell's key."""
    key = os.environ.get(KEY_VARIABLE) or None
    if url is not None:
        return Client(url, key, lambda: trust.of_any(os.environ.get(CA_VARIABLE), current_settings()))
    settings = current_settings()
    if settings.port == 0:
        raise click.UsageError("JANFLASK_PORT=0 lets the server take any free port: say where it is with --url")
    return Client(server_url(settings), key, lambda: trust.of_settings(settings))
