"""Branches: threads that begin as another one does, and the families that they make, told by their ``metadata``.

A family is its first thread and all that branched off from it or from one another. They have the messages up to where
they part in common, by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from janflask.files import ids
from janflask.storage.answers import BRANCHED_FROM, MADE_FOR
from janflask.storage.records import Thread

ROOT = "branch_root"  # the family's first thread, whether it is there still or not
PARENT = "branch_parent"  # the thread that this one branched off from
AFTER = "branch_after"  # the last message that the two have in common; "" for none
SHOWN = "branch_shown"  # of a first thread: the branch that a client wants shown in its place

_FAMILY = (ROOT, PARENT, AFTER, SHOWN)


def root_of(thread: Thread) -> str | None:
    """The first thread of the family that ``thread`` is a branch of; None for one that is no branch."""
    return root_in(thread.metadata, thread.id)


def root_in(metadata: Mapping[str, Any], thread_id: str) -> str | None:
    """The same, of a thread with these."""
    root = metadata.get(ROOT)
    return root if isinstance(root, str) and ids.is_id(root) and root != thread_id else None


def branch(thread: Thread, after: str) -> Thread:
    """A new thread that is as ``thread`` is and leaves it behind the message ``after``.

    One that leaves it where itself left another is a branch of that one, too.
    """
    told = thread.metadata
    root = root_of(thread)
    is_sibling = root is not None and isinstance(told.get(PARENT), str) and told.get(AFTER) == after
    parent = told[PARENT] if is_sibling else thread.id
    new_id = ids.new_id(ids.THREAD)
    now = ids.time_of(new_id) or ids.now_ms()
    return replace(
        thread,
        id=new_id,
        created_ms=now,
        updated_ms=now,
        metadata={**_without(told, _FAMILY), ROOT: root or thread.id, PARENT: parent, AFTER: after},
        extra=_without(thread.extra, (BRANCHED_FROM, MADE_FOR)),
    )


def alone(thread: Thread) -> Thread:
    """The thread, of no family: for one whose id is not what others call it by."""
    return replace(thread, metadata=_without(thread.metadata, _FAMILY))


def _without(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
