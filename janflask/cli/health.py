"""``janflask health``: for who looks after the server by a command, such as a container's health check."""

from __future__ import annotations

import json

import click

from janflask.cli.options import client_for, url_option
from janflask.cli.terminal import Command, echo


@click.command(cls=Command, short_help="Ask a server whether it is well.")
@click.option("--ready", is_flag=True, help="Whether it takes requests and its models run, not only whether it lives.")
@url_option
@click.pass_context
def health(context: click.Context, ready: bool, url: str | None) -> None:
    """Ask a server whether it is well; exit code 1 if not, or if it does not answer."""
    status, answer = client_for(url).probe("/readyz" if ready else "/livez")
    echo(json.dumps(answer, ensure_ascii=False))
    context.exit(0 if status == 200 else 1)
