"""``janflask assistants``: who answers. Works on the data folder, with or without a running server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from janflask.cli.options import json_option
from janflask.cli.store import explained, moment, named, open_store, print_json, table
from janflask.cli.terminal import Group, confirm, console, echo, one_line
from janflask.storage.records import Assistant


@click.group(cls=Group)
def assistants() -> None:
    """List, make and change assistants."""


def _field_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--name", metavar="TEXT", help="What it is called."),
        click.option("--description", metavar="TEXT", help="What it is for."),
        click.option("--model", metavar="MODEL", help="The model that it uses; * is any."),
        click.option("--instructions", metavar="TEXT", help="What it is told before every conversation."),
        click.option("--temperature", type=click.FloatRange(0, 2), help="0 is greedy."),
        click.option("--top-p", type=click.FloatRange(0, 1), help="The share of likely tokens to choose from."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@assistants.command("list")
@json_option
def list_assistants(as_json: bool) -> None:
    """List the assistants."""
    from janflask.storage.base import Page

    with explained():
        found = open_store()[1].assistants.list(Page(limit=None, order="asc")).items
    if as_json:
        print_json([_plain(assistant) for assistant in found])
        return
    rows = table("ASSISTANT", "NAME", "MODEL", "CREATED", "DESCRIPTION")
    for one in found:
        created = moment(one.created_ms) if one.created_ms else "-"
        rows.add_row(one.id, named(one.name), named(one.model), created, named(one.description))
    console().print(rows)


@assistants.command()
@click.argument("assistant_id", metavar="ASSISTANT")
@json_option
def show(assistant_id: str, as_json: bool) -> None:
    """Show one assistant."""
    with explained():
        found = open_store()[1].assistants.get(assistant_id)
    _print(found, as_json)


@assistants.command()
@click.argument("assistant_id", metavar="[ASSISTANT]", required=False)
@_field_options
@json_option
def create(assistant_id: str | None, as_json: bool, **fields: Any) -> None:
    """Make an assistant, with an id of your own if you like."""
    from janflask.files import ids

    now_ms = ids.now_ms()
    made = Assistant(id=assistant_id or ids.new_id(ids.ASSISTANT, now_ms), created_ms=now_ms)
    with explained():
        made = open_store()[1].assistants.create(dataclasses.replace(made, **_given(fields)))
    _print(made, as_json)


@assistants.command("set")
@click.argument("assistant_id", metavar="ASSISTANT")
@_field_options
@json_option
def change(assistant_id: str, as_json: bool, **fields: Any) -> None:
    """Change an assistant: what is not named stays as it is."""
    given = _given(fields)
    if not given:
        raise click.UsageError("say what to change, such as --instructions TEXT")
    with explained():
        changed = open_store()[1].assistants.update(assistant_id, lambda one: dataclasses.replace(one, **given))
    _print(changed, as_json)


@assistants.command()
@click.argument("assistant_ids", metavar="ASSISTANT...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
def delete(assistant_ids: tuple[str, ...], yes: bool) -> None:
    """Delete assistants; conversations that use them stay."""
    with explained():
        store = open_store()[1].assistants
        for assistant_id in assistant_ids:
            name = one_line(store.get(assistant_id).name)
            if not yes:
                confirm(f"Delete {assistant_id} {name!r} for good?")
            store.delete(assistant_id)
            echo(f"{assistant_id} is deleted.")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(assistant: Assistant) -> dict[str, Any]:
    from janflask.storage.jan_assistants import assistant_to_json

    return assistant_to_json(assistant)


def _print(assistant: Assistant, as_json: bool) -> None:
    if as_json:
        print_json(_plain(assistant))
        return
    echo(assistant.id)
    for name in ("name", "description", "model", "instructions", "temperature", "top_p"):
        value = getattr(assistant, name)
        if value not in ("", None):
            echo(f"{name.replace('_', ' ')}: {value}")
