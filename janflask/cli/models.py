"""``janflask models``: what is on disk and what runs. Talks to the running server; looks at the disk when none runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from janflask.cli import models_disk, tables
from janflask.cli.card import print_model
from janflask.cli.client import Client, ServerUnreachableError
from janflask.cli.models_bench import bench
from janflask.cli.models_import import import_model
from janflask.cli.models_pull import pull
from janflask.cli.models_upstream import add_upstream
from janflask.cli.options import client_for, json_option, url_option
from janflask.cli.store import print_json
from janflask.cli.terminal import Group, column, confirm, console, echo, show_error

ALIVE = ("starting", "running", "stopping")
SAMPLE = 1.0  # seconds over which ``ps`` counts the tokens of busy models
TABLES = ("settings", "parameters", "metadata")
TEXTS = ("name", "description")


@click.group(cls=Group)
def models() -> None:
    """Fetch, list, start, change and delete models."""


for _command in (pull, import_model, add_upstream, bench):
    models.add_command(_command)


@models.command("list")
@url_option
@json_option
def list_models(url: str | None, as_json: bool) -> None:
    """List the models. Without a running server: those on disk."""
    try:
        found: list[dict[str, Any]] = client_for(url).models()
    except ServerUnreachableError as error:
        found = models_disk.models(url, error)
    if as_json:
        print_json(found)
    elif found:
        tables.print_list(found, console())
    else:
        echo("There are no models.")


@models.command(short_help="Show one model.")
@click.argument("model_id", metavar="MODEL")
@url_option
@json_option
def show(model_id: str, url: str | None, as_json: bool) -> None:
    """Show one model: what it is, its settings, how it runs, and the memory that it needs."""
    try:
        model = client_for(url).model(model_id)
    except ServerUnreachableError as error:
        model = models_disk.model(model_id, url, error)
    if as_json:
        print_json(model)
    else:
        # Only a server of this shell's settings has its models on this disk.
        print_model(model, console(), models_disk.card(model_id) if url is None else None)


@models.command()
@click.argument("model_id", metavar="MODEL")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Another setting for this run (ctx_len=4096)."
)
@url_option
@json_option
def start(model_id: str, overrides: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Start a model; returns once it answers."""
    settings = dict(_assignment(item, "--set") for item in overrides)
    client = client_for(url)
    with _progress(f"starting {model_id}"):
        answer = client.start(model_id, settings)
    _print_outcome(answer, model_id, as_json)


@models.command()
@click.argument("model_id", metavar="MODEL")
@url_option
@json_option
def stop(model_id: str, url: str | None, as_json: bool) -> None:
    """Stop a model; its requests under way end."""
    client = client_for(url)
    with _progress(f"stopping {model_id}"):
        answer = client.stop(model_id)
    _print_outcome(answer, model_id, as_json)


@models.command(short_help="Show the running models and their load.")
@url_option
@json_option
def ps(url: str | None, as_json: bool) -> None:
    """Show the running models: their load, memory, and how long they have been idle.

    Of models that other servers run: whether each of these can be reached, and the requests under way there.
    """
    client = client_for(url)
    alive = _alive(client)
    if any(tables.part(model, "stats").get("busy") for model in alive) and not as_json:
        before, then = alive, time.monotonic()
        time.sleep(SAMPLE)
        alive = tables.with_rates(before, _alive(client), time.monotonic() - then)
    if as_json:
        print_json(alive)
    elif alive:
        tables.print_processes(alive, console())
    else:
        echo("No model is running.")


def _alive(client: Client) -> list[dict[str, Any]]:
    """The models with an engine, each with its load, and those that other servers run."""
    listed = client.models()
    return [
        model if model.get("upstream") else client.model(str(model["id"]))
        for model in listed
        if model.get("upstream") or tables.status_of(model) in ALIVE
    ]


@models.command("set")
@click.argument("model_id", metavar="MODEL")
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
@url_option
@json_option
def change(model_id: str, assignments: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Change a model's settings for good; KEY= removes one.

    \b
    ctx_len=4096                 a setting
    parameters.temperature=0.7   a default of its requests
    name=TEXT, description=TEXT  what people read

    A model that runs takes its new settings at its next start.
    """  # noqa: D301 - click reads the backspace
    changes = as_changes(assignments)
    try:
        model = client_for(url).change(model_id, changes)
    except ServerUnreachableError as error:
        model = models_disk.change(model_id, changes, url, error)
    if as_json:
        print_json(model)
        return
    for name in (*TEXTS, *TABLES):
        for key, value in changes[name].items() if isinstance(changes.get(name), dict) else ():
            now = tables.part(model, name).get(key)
            echo(f"{name}.{key} is {'not set' if value is None and now is None else json.dumps(now)}.")
        if isinstance(changes.get(name), str):
            echo(f"{name} is {json.dumps(model.get(name), ensure_ascii=False)}.")
    if tables.status_of(model) in ALIVE and "settings" in changes:
        echo(f"{model_id} runs with its old settings until it is started again.", err=True)


@models.command("rm")
@click.argument("model_ids", metavar="MODEL...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@url_option
@click.pass_context
def remove(context: click.Context, model_ids: tuple[str, ...], yes: bool, url: str | None) -> None:
    """Delete models with their files, and end downloads. Asks first, at a terminal."""
    failed = False
    for model_id in model_ids:
        try:
            _remove(model_id, yes or not _at_a_terminal(), url)
        except click.Abort:
            raise
        except click.ClickException as error:
            show_error(error)
            failed = True
    context.exit(1 if failed else 0)


def _remove(model_id: str, sure: bool, url: str | None) -> None:
    client = client_for(url)
    try:
        model: dict[str, Any] = client.model(model_id)
        served = True
    except ServerUnreachableError as error:
        model, served = models_disk.model(model_id, url, error), False
    if not sure:
        confirm(f"Delete {tables.one_liner(model)} for good?")
    free = models_disk.freed(model_id) if url is None else None
    if served:
        client.delete(model_id)
    else:
        models_disk.delete(model_id)
    echo(f"{model_id} is deleted{f', which frees {tables.size(free)}' if free else ''}.")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def as_changes(assignments: tuple[str, ...]) -> dict[str, Any]:
    """``ctx_len=4096`` and the like as the body of a PATCH. Raises BadParameter."""
    changes: dict[str, Any] = {}
    for item in assignments:
        key, value = _assignment(item, "KEY=VALUE")
        table, _, name = key.partition(".")
        text = item.partition("=")[2]
        if key in TEXTS:
            if key == "name" and not text:
                raise click.BadParameter("a model cannot be without a name", param_hint="KEY=VALUE")
            changes[key] = text
        elif table in TABLES and name:
            changes.setdefault(table, {})[name] = value if text else None
        elif "." in key:
            raise click.BadParameter(
                f"{key!r} is nothing that a model has: say NAME, parameters.NAME or metadata.NAME",
                param_hint="KEY=VALUE",
            )
        else:
            changes.setdefault("settings", {})[key] = value if text else None
    return changes


def _assignment(item: str, hint: str) -> tuple[str, Any]:
    """``ctx_len=4096`` as a name and a number, true, false, null or text."""
    name, equals, value = item.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{item!r} is not NAME=VALUE", param_hint=hint)
    try:
        return name, json.loads(value, parse_constant=_refuse)
    except ValueError:
        return name, value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """A spinner with the time it has taken, where somebody looks."""
    columns = SpinnerColumn(), column(), TimeElapsedColumn()
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield


def _print_outcome(answer: dict[str, Any], model_id: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        echo(f"{model_id} is {tables.status_of(answer)}.")
