"""Objects that are one folder each: which there are, putting one in its place, taking one away."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from janflask.errors import InvalidRequestError, JanflaskError, NotFoundError
from janflask.files import ids
from janflask.files.disk import STAGING, Disk, opened_root
from janflask.storage.lru import Recent

log = logging.getLogger(__name__)
T = TypeVar("T")

_TOLD = 1000  # objects of which is remembered what was said of them


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
    settle_removal(disk, root, name, gone)
    disk.discard(root, gone)


def settle_removal(disk: Disk, root: Path, name: str, gone: str) -> None:
    """What ``Disk.retire`` put away stays away, or comes back when that cannot be made sure."""
    try:
        disk.sync_root(root)
    except BaseException:
        disk.restore(root, f"{STAGING}/{gone}", name)
        raise


class Readable:
    """What can be read of the objects in ``root``. The others are logged once, until their ``file`` changes."""

    def __init__(self, root: Path, file: str, kind: str) -> None:
        self._root = root
        self._file = file
        self._kind = kind
        self._told: Recent[tuple[object, str]] = Recent(_TOLD)

    def get(self, name: str, load: Callable[[str], T]) -> T | None:
        """What ``load`` gives for ``name``; None where that is no object, gone meanwhile or cannot be read."""
        try:
            return load(name)
        except NotFoundError:
            return None
        except (JanflaskError, OSError) as error:
            self.tell(name, error)
            return None

    def tell(self, name: str, error: Exception) -> None:
        """Lists leave ``name`` out because of ``error``."""
        try:
            about = os.lstat(self._root / name / self._file)
            state: object = about.st_ino, about.st_ctime_ns, about.st_size
        except OSError:
            state = None
        said = state, str(error)
        if self._told.get(name) != said:
            self._told.put(name, said)
            log.warning("%s %s is left out of lists: %s", self._kind, name, error)
