"""What is stored becomes another key's: what was made before there were keys, or what a revoked one left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from janflask.errors import InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Page, Repository

THREAD, FILE, ASSISTANT = "thread", "file", "assistant"
KINDS = (THREAD, FILE, ASSISTANT)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of the store."""

    kind: str
    id: str


def unowned(repository: Repository) -> Iterator[Thing]:
    """Threads and files; some may be somebody's. Assistants that are nobody's are everybody's, and stay so."""
    return (thing for thing in _things(repository, None) if thing.kind != ASSISTANT)


def owned_by(repository: Repository, owner: str) -> Iterator[Thing]:
    """A key's threads, files and assistants; some may be another's by now, or nobody's."""
    return _things(repository, owner)


def named(repository: Repository, name: str) -> Thing:
    """What an id names: a thread (also as a conversation, or by an answer in it), a file or an assistant.

    Where it names two of them ``kind/id`` says which. Raises NotFoundError, InvalidRequestError.
    """
    kind, _, rest = name.partition("/")
    thread_id = ids.thread_of(name) or ids.thread_id(name)
    wanted = [Thing(kind, rest)] if rest else [Thing(THREAD, thread_id), Thing(FILE, name), Thing(ASSISTANT, name)]
    found = [thing for thing in wanted if _is_there(repository, thing)]
    if not found:
        raise NotFoundError(f"there is no thread, file or assistant {name[:128]!r}")
    if len(found) > 1:
        which = ", ".join(f"{thing.kind}/{thing.id}" for thing in found)
        raise InvalidRequestError(f"{name!r} names more than one: say which of {which}")
    return found[0]


def give(repository: Repository, thing: Thing, to: str, of: frozenset[str | None] | None = None) -> bool:
    """Gives it to a key, and whether it did: only what is one of those keys' (None: nobody's). Raises as the store."""
    owner = _owner(repository, thing)
    if owner == to or (of is not None and owner not in of):
        return False
    gives: dict[str, Callable[[str, str | None], None]] = {
        THREAD: repository.threads.give,
        FILE: repository.files.give,
        ASSISTANT: repository.assistants.give,
    }
    gives[thing.kind](thing.id, to)
    return True


def _things(repository: Repository, owner: str | None) -> Iterator[Thing]:
    """Listed before the first is given away: a list by owner changes under who goes through it."""
    whole = Page(limit=None, owner=owner)
    yield from [Thing(THREAD, name) for name in repository.threads.ids(whole)]
    yield from [Thing(FILE, file.id) for file in repository.files.list(whole).items]
    yield from [Thing(ASSISTANT, assistant.id) for assistant in repository.assistants.list(whole).items]


def _owner(repository: Repository, thing: Thing) -> str | None:
    if thing.kind == THREAD:
        return repository.threads.owner(thing.id)
    return (repository.files if thing.kind == FILE else repository.assistants).get(thing.id).owner


def _is_there(repository: Repository, thing: Thing) -> bool:
    if thing.kind not in KINDS:
        return False
    try:
        _owner(repository, thing)
    except NotFoundError:
        return False
    return True
