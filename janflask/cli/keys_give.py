"""``janflask keys give``: what is stored becomes another key's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from janflask.cli.options import current_settings
from janflask.cli.store import counted, explained, open_store
from janflask.cli.terminal import echo
from janflask.errors import InvalidRequestError, JanflaskError, NotFoundError

if TYPE_CHECKING:
    from janflask.access.keys import Keyring
    from janflask.storage.base import Repository
    from janflask.storage.giving import Thing


@click.command(short_help="Give stored things to a key.")
@click.argument("key", metavar="NAME-OR-KEY")
@click.argument("object_ids", metavar="[ID...]", nargs=-1)
@click.option("--all-unowned", is_flag=True, help="All threads and files that are nobody's.")
@click.option("--from", "giver", metavar="KEY", help="All that is this key's, which may be revoked.")
def give(key: str, object_ids: tuple[str, ...], all_unowned: bool, giver: str | None) -> None:
    """Give threads, files and assistants to a key: those of these ids, nobody's, or another key's.

    What was stored before there were keys is nobody's, and what a revoked key made stays its own: only keys with the
    scope admin see either. A conversation or a response may stand for its thread.
    """
    from janflask.files.private import check_user
    from janflask.storage import giving

    if sum((bool(object_ids), all_unowned, giver is not None)) != 1:
        raise click.UsageError("say what to give: ids, --all-unowned or --from KEY")
    with explained():
        keyring, (_, store) = _keyring(), open_store()
        to = _named(keyring, key)
        folder = current_settings().data_dir
        check_user(folder, folder.stat())
        if all_unowned:
            done = _give(store, giving.unowned(store), to, frozenset({None}))
        elif giver is not None:
            owner = _named(keyring, giver, may_be_gone=True)
            done = _give(store, giving.owned_by(store, owner), to, frozenset({owner}))
        else:
            done = _give(store, [giving.named(store, name) for name in object_ids], to)
    echo(f"{counted(done, 'object')} given to {keyring.keys[to].name}.")


def _give(store: Repository, things: Iterable[Thing], to: str, of: frozenset[str | None] | None = None) -> int:
    """How many. What cannot be given is told, and does not keep the others. Raises ClickException then."""
    from janflask.storage import giving

    done = failed = 0
    for thing in things:
        try:
            done += giving.give(store, thing, to, of)
        except NotFoundError:  # it was deleted meanwhile
            continue
        except (JanflaskError, OSError) as error:
            failed += 1
            echo(f"{thing.kind} {thing.id} is left as it is: {error}", err=True)
    if failed:
        raise click.ClickException(f"{counted(done, 'object')} given; {failed} could not be")
    return done


def _keyring() -> Keyring:
    from janflask.access.key_file import KeyFile

    settings = current_settings()
    return KeyFile(settings.secrets_dir, settings.lock_timeout).current()


def _named(keyring: Keyring, text: str, *, may_be_gone: bool = False) -> str:
    """The id of a key that is named by it, by its name, or as it reads. Raises NotFoundError, InvalidRequestError."""
    from janflask.access.keys import id_in, is_key_id

    key_id = id_in(text)
    if key_id in keyring.keys or (may_be_gone and is_key_id(key_id)):
        return key_id
    found = [key.id for key in keyring.keys.values() if key.name == text]
    if len(found) > 1:
        raise InvalidRequestError(f"{len(found)} keys are called {text!r}: name one by its id, {', '.join(found)}")
    if not found:
        raise NotFoundError(f"there is no key {key_id!r}; `janflask keys list` shows them")
    return found[0]
