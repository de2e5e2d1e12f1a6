"""Objects that are one folder each: which there are, putting one in its place, taking one away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from janflask.errors import InvalidRequestError
from janflask.storage import ids
from janflask.storage.disk import STAGING, Disk, opened_root


def check_new_id(kind: str, new_id: str) -> None:
    """Raises InvalidRequestError for what must not become an object's id, and so a folder's name."""
    if not ids.is_id(new_id) or ids.is_reserved(new_id):
        raise InvalidRequestError(
            f"{new_id[:200]!r} cannot be the id of a new {kind}: 1 to 128 of A-Z, a-z, 0-9 and ._- are wanted, "
            "beginning with a letter or digit, and no reserved name",
            param="id",
        )


def names(root: Path) -> Iterator[str]:
    """The folders in ``root`` whose names are ids, and symbolic links, so that they can be told of; in no order."""
    try:
        with opened_root(root) as top, os.scandir(top) as entries:
            for entry in entries:
                if ids.is_id(entry.name) and (entry.is_dir(follow_symlinks=False) or entry.is_symlink()):
                    yield entry.name
    except FileNotFoundError:
        return


def publish(disk: Disk, root: Path, staged: str, fd: int, name: str) -> None:
    """A folder from ``Disk.staged`` is ``root/name`` from now on, for good; raises OSError, and then it is not."""
    disk.publish(root, staged, fd, name)
    try:
        disk.sync_root(root)
    except BaseException:
        disk.restore(root, name, f"{STAGING}/{staged}")
        raise


def remove(disk: Disk, root: Path, name: str) -> None:
    """The folder ``root/name`` is gone in one step, for good; raises OSError, and then it is still there.

    The caller holds its lock.
    """
    gone = disk.retire(root, name)
    try:
        disk.sync_root(root)
    except BaseException:
        disk.restore(root, f"{STAGING}/{gone}", name)
        raise
    disk.discard(root, gone)
