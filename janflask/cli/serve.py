"""``janflask serve``: the settings into the environment, then this process becomes gunicorn."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

import janflask
from janflask.cli.terminal import Command
from janflask.errors import SettingsError
from janflask.settings import PREFIX, Settings

CONFIG = Path("conf") / "gunicorn.conf.py"
SHOWN = (
    "host",
    "port",
    "data_dir",
    "tls_cert",
    "tls_key",
    "workers",
    "threads",
    "log_level",
    "ctx_len",
    "n_parallel",
    "cpu_threads",
)


def _setting_options(command: click.Command) -> click.Command:
    """One option for each of the settings that are chosen most; the rest are ``JANFLASK_*`` variables only."""
    by_name = {item.name: item for item in fields(Settings)}
    for name in SHOWN:
        variable = PREFIX + name.upper()
        option = "--" + name.replace("_", "-")
        help_text = f"{by_name[name].metadata['help']}  [{variable}]"
        command.params.append(click.Option([option], help=help_text, metavar="VALUE"))
    return command


@_setting_options
@click.command(cls=Command, short_help="Serve the models over HTTP.")
@click.option(
    "--tls-self-signed",
    is_flag=True,
    help="Speak HTTPS with a certificate that is made here and kept in the data folder.  [JANFLASK_TLS_SELF_SIGNED=1]",
)
def serve(tls_self_signed: bool, **values: Any) -> None:
    """Serve the models over HTTP until Ctrl-C.

    An option wins over the JANFLASK_* variable of its setting. Every other setting is taken from its variable.
    """
    env = dict(os.environ)
    env |= {PREFIX + name.upper(): value for name, value in values.items() if value is not None}
    if tls_self_signed:
        env["JANFLASK_TLS_SELF_SIGNED"] = "1"
    try:
        settings = Settings.from_env(env)
    except SettingsError as error:
        raise click.UsageError(error.message) from None
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, gunicorn_command(), env | settings.to_env())  # noqa: S606 - no shell is wanted


def gunicorn_command() -> list[str]:
    """gunicorn with the configuration and the application of this installation.

    In a checkout those are ``conf/gunicorn.conf.py`` and ``wsgi.py`` beside the package; an installed package carries
    the configuration inside. The paths are absolute, so that it works from any folder.
    """
    package = Path(janflask.__file__).resolve().parent
    command = [sys.executable, "-m", "gunicorn"]
    if (package.parent / CONFIG).is_file() and (package.parent / "wsgi.py").is_file():
        return [*command, "--config", str(package.parent / CONFIG), "--pythonpath", str(package.parent), "wsgi:app"]
    if (package / CONFIG).is_file():
        return [*command, "--config", str(package / CONFIG), "janflask:create_app()"]
    raise click.ClickException(f"this installation is not complete: {package / CONFIG} is missing. Install it again.")
