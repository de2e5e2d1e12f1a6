"""``janflask keys``: who may use the server. Works on the data folder; a running server takes each change at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from janflask.access.scopes import USUAL, Scope, in_words
from janflask.cli.keys_give import give
from janflask.cli.options import current_settings, json_option
from janflask.cli.store import counted, explained, moment, named, print_json, table
from janflask.cli.terminal import Group, confirm, console, echo

if TYPE_CHECKING:
    from janflask.access.key_file import KeyFile
    from janflask.access.keys import Key
    from janflask.access.ledger import Day

_LIMIT = click.IntRange(1, 10**9)


@click.group(cls=Group, short_help="Make and revoke API keys.")
def keys() -> None:
    """Make, list and revoke the API keys of this data folder.

    As soon as there is one, every request needs one. Without any the server takes requests of this machine only.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it is good for; more than once for more. admin has the others.  [default: inference, conversations]",
)
@click.option("--requests-per-minute", type=_LIMIT, metavar="N", help="Most requests a minute.")
@click.option("--tokens-per-minute", type=_LIMIT, metavar="N", help="Most tokens a minute, prompts and answers.")
@click.option("--streams", type=_LIMIT, metavar="N", help="Most answers under way at once.")
@json_option
def add(name: str, scopes: tuple[str, ...], as_json: bool, **limits: int | None) -> None:
    """Make a key. It is shown this once: what is kept of it does not tell it."""
    from janflask.access.key_file import MAX_NAME
    from janflask.access.keys import Limits, new_key

    if not 0 < len(name.strip()) <= MAX_NAME:
        raise click.UsageError(f"a key's name has 1 to {MAX_NAME} characters")
    chosen = frozenset(Scope(scope) for scope in scopes) or USUAL
    key, text = new_key(name.strip(), chosen, Limits(**limits), int(time.time()))
    with explained():
        keyring = _file().change(lambda keyring: keyring.with_key(key))
    if as_json:
        print_json({**_plain(key), "key": text})
        return
    echo(text)
    echo(f"\nThis is the key of {key.name} ({in_words(key.scopes)}). It is not shown again: keep it now.", err=True)
    if len(keyring.keys) == 1:
        echo("From now on every request needs a key.", err=True)
        echo("What is stored already is for keys with the scope admin, until `janflask keys give` gives it.", err=True)


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the keys, without their secrets."""
    with explained():
        keyring = _file().current()
    found = sorted(keyring.keys.values(), key=lambda key: (key.created, key.id))
    if as_json:
        print_json([_plain(key) for key in found])
        return
    if not found:
        closed = "There is no key, and nobody gets in: `janflask keys add NAME` makes one, `janflask keys off` opens."
        echo(closed if keyring.required else "There is no key: whoever reaches the server from this machine gets in.")
        return
    rows = table("KEY", "NAME", "SCOPES", "LIMITS", "CREATED")
    for key in found:
        rows.add_row(key.id, named(key.name), in_words(key.scopes), _limits(key), moment(key.created * 1000))
    console().print(rows)


@keys.command()
@click.argument("key_ids", metavar="KEY...", nargs=-1, required=True)
def revoke(key_ids: tuple[str, ...]) -> None:
    """Revoke keys, by their ids or as they read. They hold no longer, and answers under way are not cut."""
    from janflask.access.keys import Keyring, id_in
    from janflask.errors import NotFoundError

    def revoked(keyring: Keyring) -> Keyring:
        for key_id in map(id_in, key_ids):
            if key_id not in keyring.keys:
                raise NotFoundError(f"there is no key {key_id!r}; `janflask keys list` shows them")
            keyring = keyring.without(key_id)
        return keyring

    with explained():
        left = _file().change(revoked)
    echo(f"{counted(len(key_ids), 'key')} revoked. `janflask keys give NAME --from KEY` hands on what one has stored.")
    if not left.keys:
        echo("That was the last one, and now nobody gets in. `janflask keys off` opens the server to this machine.")


@keys.command()
@click.argument("key_id", metavar="[KEY]", required=False)
@click.option("--days", type=_LIMIT, default=30, show_default=True, metavar="N", help="The last N days.")
@json_option
def usage(key_id: str | None, days: int, as_json: bool) -> None:
    """Tell what keys have used, day by day (in UTC). Revoked ones are among them."""
    from janflask.access.keys import id_in
    from janflask.access.ledger import DAY, Ledger

    oldest = int(time.time() // DAY) - days + 1
    with explained():
        ledger, names = Ledger(current_settings().usage_dir), _file().current().keys
        wanted = ledger.keys() if key_id is None else [id_in(key_id)]
        found = [_used(each, names, day) for each in wanted for day in ledger.days(each) if day.number >= oldest]
    if as_json:
        print_json(found)
        return
    if not found:
        echo("Nothing was used.")
        return
    rows = table("KEY", "NAME", "DAY", "REQUESTS", "PROMPT", "CACHED", "ANSWERS")
    for key, name, *rest in (one.values() for one in found):
        rows.add_row(key, named(name or ""), *map(str, rest))
    console().print(rows)


def _used(key_id: str, keys: Mapping[str, Key], day: Day) -> dict[str, Any]:
    date = time.strftime("%Y-%m-%d", time.gmtime(day.began))
    name = keys[key_id].name if key_id in keys else None
    counts = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    return {"id": key_id, "name": name, "day": date, **{count: getattr(day, count) for count in counts}}


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def off(yes: bool) -> None:
    """Revoke all keys and ask for none: whoever reaches the server from this machine gets in."""
    from janflask.access.keys import Keyring

    with explained():
        file = _file()
        number = len(file.current().keys)
        if not yes:
            confirm(f"Revoke {counted(number, 'key')} and let everybody in who reaches the server from this machine?")
        file.change(lambda _: Keyring())
    echo("No key is asked for any more.")


keys.add_command(give)


def _file() -> KeyFile:
    from janflask.access.key_file import KeyFile

    settings = current_settings()
    return KeyFile(settings.secrets_dir, settings.lock_timeout)


def _plain(key: Key) -> dict[str, Any]:
    """What may be shown of a key."""
    scopes = [scope.value for scope in Scope if scope in key.scopes]
    return {"id": key.id, "name": key.name, "scopes": scopes, "limits": asdict(key.limits), "created": key.created}


def _limits(key: Key) -> str:
    words = (("requests/min", "requests_per_minute"), ("tokens/min", "tokens_per_minute"), ("streams", "streams"))
    told = [f"{value} {word}" for word, name in words if (value := getattr(key.limits, name)) is not None]
    return ", ".join(told) or "-"
