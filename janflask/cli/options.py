"""What several commands share: the settings of this shell, and the options ``--url`` and ``--json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from janflask.cli.client import Client, server_url
from janflask.errors import SettingsError
from janflask.settings import Settings

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
        help="Where the server is.  [default: http://JANFLASK_HOST:JANFLASK_PORT]",
    )(command)


def json_option(command: Command) -> Command:
    """Adds ``--json`` (the argument ``as_json``)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def client_for(url: str | None) -> Client:
    """A client for ``--url``, or for the server that this shell's settings describe."""
    if url is not None:
        return Client(url)
    settings = current_settings()
    if settings.port == 0:
        raise click.UsageError("JANFLASK_PORT=0 lets the server take any free port: say where it is with --url")
    return Client(server_url(settings))
