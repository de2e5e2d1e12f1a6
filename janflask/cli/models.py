"""``janflask models``: what is on disk and what runs. Talks to the running server; looks at the disk when none runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from janflask.catalog import ModelCatalog
from janflask.cli import tables
from janflask.cli.client import ServerUnreachableError
from janflask.cli.options import client_for, console, current_settings, json_option, url_option
from janflask.errors import ModelNotFoundError

ALIVE = ("starting", "running", "stopping")


@click.group()
def models() -> None:
    """List, start and stop models."""


@models.command("list")
@url_option
@json_option
def list_models(url: str | None, as_json: bool) -> None:
    """List the models. Without a running server: those on disk."""
    try:
        found: list[dict[str, Any]] = client_for(url).models()
    except ServerUnreachableError as error:
        found = [tables.card_object(card) for card in _catalog(url, error).list()]
    if as_json:
        _print_json(found)
    elif found:
        tables.print_list(found, console())
    else:
        click.echo("There are no models.")


@models.command()
@click.argument("model_id", metavar="MODEL")
@url_option
@json_option
def show(model_id: str, url: str | None, as_json: bool) -> None:
    """Show one model: its settings, how it runs, what was measured."""
    try:
        model = client_for(url).model(model_id)
    except ServerUnreachableError as error:
        catalog = _catalog(url, error)
        try:
            model = tables.card_object(catalog.find(model_id))
        except ModelNotFoundError:
            known = tables.ids([tables.card_object(card) for card in catalog.list()]) or "none"
            raise click.ClickException(f"there is no model {model_id!r} on disk; there are: {known}") from None
    if as_json:
        _print_json(model)
    else:
        tables.print_model(model, console())


@models.command()
@click.argument("model_id", metavar="MODEL")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Another setting for this run (ctx_len=4096)."
)
@url_option
@json_option
def start(model_id: str, overrides: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Start a model; returns once it answers."""
    settings = dict(_override(item) for item in overrides)
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


@models.command()
@url_option
@json_option
def ps(url: str | None, as_json: bool) -> None:
    """Show the running models and their load."""
    client = client_for(url)
    alive = [model for model in client.models() if tables.status_of(model) in ALIVE]
    alive = [client.model(str(model["id"])) for model in alive]
    if as_json:
        _print_json(alive)
    elif alive:
        tables.print_processes(alive, console())
    else:
        click.echo("No model is running.")


def _catalog(url: str | None, error: ServerUnreachableError) -> ModelCatalog:
    """The models on disk, and a word about it. Raises ``error`` when a server was named: its disk may be another."""
    if url is not None:
        raise error
    folder = current_settings().models_dir
    click.echo(f"No server answers; these are the models in {folder}:", err=True)
    return ModelCatalog(folder)


def _override(item: str) -> tuple[str, Any]:
    """``ctx_len=4096`` as a name and a number, true, false, null or text."""
    name, equals, value = item.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """A spinner with the time it has taken, where somebody looks."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield


def _print_outcome(answer: dict[str, Any], model_id: str, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
    else:
        click.echo(f"{model_id} is {tables.status_of(answer)}.")


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
