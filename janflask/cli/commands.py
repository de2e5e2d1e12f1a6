"""The command ``janflask`` and all that it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask.cli import FlaskGroup, routes_command, shell_command

import janflask
from janflask.cli.assistants import assistants
from janflask.cli.chat import chat
from janflask.cli.conversations import conversations
from janflask.cli.doctor import doctor
from janflask.cli.health import health
from janflask.cli.keys import keys
from janflask.cli.models import models
from janflask.cli.serve import serve
from janflask.cli.threads import threads
from janflask.cli.webhooks import webhooks

if TYPE_CHECKING:
    from flask import Flask

COMMANDS: tuple[click.Command, ...] = (
    serve,
    chat,
    models,
    threads,
    conversations,
    assistants,
    keys,
    webhooks,
    doctor,
    health,
)


def _create_app() -> Flask:
    """The application, for the commands that need one (``routes``, ``shell``)."""
    from janflask import create_app

    return create_app()


cli = FlaskGroup(
    name="janflask",
    help="Serve language models on this machine, and talk to them.",
    create_app=_create_app,
    add_default_commands=False,
    add_version_option=False,
    load_dotenv=False,
    set_debug_flag=False,
)
click.version_option(janflask.__version__, prog_name="janflask")(cli)
for _command in (*COMMANDS, routes_command, shell_command):
    cli.add_command(_command)
