"""What the checks of the doctor share: what they find, and how they put something else in a file's place."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from janflask.errors import JanflaskError, StoreDamagedError
from janflask.files import ids
from janflask.files.disk import STAGING, TEMPORARY, Disk, opened_folder, opened_root, read_plain
from janflask.files.locks import FolderLocks
from janflask.settings import Settings
from janflask.storage.jan import decode_object

LEFT_OVER_AFTER = 3600  # seconds; what is younger may be under way
NOT_A_FILE = "it is a symbolic link or no plain file, which the store never follows: put the file itself there"
_WORDS: dict[type, str] = {str: "text", dict: "an object", list: "an array"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. ``path`` and ``kept`` (where the replaced original lies) are relative to the data folder.

    ``fixable``: ``--fix`` can repair it; ``fixed``: it did.
    """

    path: str
    problem: str
    fixable: bool = False
    fixed: bool = False
    kept: str | None = None


class Case:
    """One examination. ``fix``: repair what can be; the object's lock is held then, and shared otherwise."""

    def __init__(self, settings: Settings, *, fix: bool) -> None:
        self.settings = settings
        self.fix = fix
        self.disk = Disk(durable=settings.durability == "disk")
        self._locks = FolderLocks(settings.lock_timeout)
        self._suffix = f".damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"

    @contextmanager
    def locked(self, folder: Path, what: str) -> Iterator[int]:
        """The folder's descriptor, with its lock. Raises StoreBusyError, NotFoundError, ConflictError."""
        with (self._locks.exclusive if self.fix else self._locks.shared)(folder, what) as fd:
            yield fd

    def mended(self, finding: Finding, repair: Callable[[], str | None]) -> Finding:
        """The finding after ``repair``, which returns the original's new name; as it was without --fix."""
        finding = replace(finding, fixable=True)
        if not self.fix:
            return finding
        try:
            kept = repair()
        except (JanflaskError, OSError) as error:
            return replace(finding, problem=f"{finding.problem}; it could not be repaired: {error}")
        folder = finding.path.rpartition("/")[0]
        return replace(finding, fixed=True, kept=None if kept is None else f"{folder}/{kept}")

    def keep(self, fd: int, name: str) -> str | None:
        """A second name for a file that is about to be replaced; None where there is none."""
        for number in range(1000):
            kept = f"{name}{self._suffix}{f'-{number}' if number else ''}"
            try:
                os.link(name, kept, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return None
            except FileExistsError:
                continue
            return kept
        raise StoreDamagedError(f"there are too many copies of {name} already")

    def put(self, fd: int, name: str, data: bytes) -> str | None:
        """Replaces a file by ``data``; returns the name under which the old one was kept."""
        kept = self.keep(fd, name)
        self.disk.replace(fd, name, data)
        return kept

    def read_object(self, fd: int, name: str, limit: int) -> dict[str, Any]:
        """Raises StoreDamagedError, in words for a table, and OSError."""
        try:
            data, _ = read_plain(fd, name, limit, "it")
            return decode_object(data, "it")
        except StoreDamagedError as error:  # in words for the API's clients
            problem = error.message.removeprefix(f"{name} of ").split("; `janflask doctor`")[0]
            raise StoreDamagedError(problem) from None


def objects(root: Path) -> list[str]:
    """Everything that lies in one of the store's folders, but for hidden files."""
    try:
        with opened_root(root) as top:
            names = os.listdir(top)  # noqa: PTH208 - a descriptor
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def check_place(root: Path, name: str, kind: str) -> Finding | None:
    """Whether ``root/name`` can be an object at all; the finding if not."""
    path = f"{root.name}/{name}"
    try:
        mode = os.lstat(root / name).st_mode
    except FileNotFoundError:
        return Finding(path, "it went away while it was looked at")
    if stat.S_ISLNK(mode):
        return Finding(path, "it is a symbolic link, which the store never follows: put the folder itself there")
    if not stat.S_ISDIR(mode):
        return Finding(path, f"it is no folder, and only {kind}s' folders belong here: move it elsewhere")
    if not ids.is_id(name):
        return Finding(
            path, f"its name is no legal id, so that the {kind} is not shown: use letters, digits and ._- only"
        )
    if kind == "thread" and name in ids.ROUTES:
        return Finding(path, f"the API has a route of this name, so that the {kind} is not shown: rename the folder")
    return None


def wrong_types(raw: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, str]:
    """The fields that are there but not of their kind, and what they should be."""
    return {
        name: _WORDS[kind] for name, kind in kinds.items() if raw.get(name) is not None and type(raw[name]) is not kind
    }


def told(wrong: Mapping[str, str]) -> str:
    """Wrong types in words."""
    return "; ".join(f"{name} must be {kind}" for name, kind in wrong.items())


def links_in(fd: int, folder: str) -> list[str]:
    """What in a folder's folder is neither a plain file nor a folder. A folder that is itself a link counts (as "")."""
    try:
        with opened_folder(folder, fd) as inner:
            names = sorted(os.listdir(inner))  # noqa: PTH208 - a descriptor
            modes = [(name, os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode) for name in names]
    except FileNotFoundError:
        return []
    except OSError:
        return [""]
    return [name for name, mode in modes if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)]


def left_over_files(case: Case, fd: int, path: str) -> Iterator[Finding]:
    """Temporary files in an object's folder that nobody will finish. The lock is held."""
    for name in sorted(os.listdir(fd)):
        if name.startswith(".") and name.endswith(TEMPORARY) and _is_old([_modified(fd, name)]):
            finding = Finding(f"{path}/{name}", "it was left over by a write that did not end")
            yield case.mended(finding, lambda name=name: os.unlink(name, dir_fd=fd))  # type: ignore[misc]


def left_over_folders(case: Case, root: Path) -> Iterator[Finding]:
    """Folders in the staging area that nobody will finish or remove."""
    try:
        with opened_root(root) as top, opened_folder(STAGING, top) as staging:
            for name in sorted(os.listdir(staging)):  # noqa: PTH208 - a descriptor
                if _is_old(_times(staging, name)):
                    finding = Finding(f"{root.name}/{STAGING}/{name}", "it was left over by a write that did not end")
                    yield case.mended(finding, lambda name=name: _remove(staging, name))  # type: ignore[misc]
    except FileNotFoundError:
        return
    except OSError:
        yield Finding(f"{root.name}/{STAGING}", NOT_A_FILE.replace("plain file", "folder"))


def _times(staging: int, name: str) -> list[float]:
    try:
        with opened_folder(name, staging) as fd:
            inside = os.listdir(fd)  # noqa: PTH208 - a descriptor
            return [_modified(staging, name), *(_modified(fd, item) for item in inside)]
    except OSError:
        return [_modified(staging, name)]


def _modified(fd: int, name: str) -> float:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return time.time()


def _is_old(times: Iterable[float]) -> bool:
    return time.time() - max(times) > LEFT_OVER_AFTER


def _remove(fd: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=fd)
    else:
        os.unlink(name, dir_fd=fd)
