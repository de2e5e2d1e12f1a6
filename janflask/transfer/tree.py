"""Where conversations are imported from: a tree of files, be it a folder or an archive."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from janflask.errors import InvalidRequestError
from janflask.files.disk import open_plain, opened_folder, opened_root, translated
from janflask.storage.jan import MESSAGES_FILE, THREAD_FILE
from janflask.transfer.layout import ASSISTANTS, FILES, THREADS
from janflask.transfer.streams import pieces_of

_DEPTH = 4  # how far into an archive its data folder may lie
_NOISE = frozenset({"__macosx", ".ds_store", "thumbs.db", "desktop.ini"})


def is_noise(name: str) -> bool:
    """Whether macOS or Windows has put a file or folder of that name there for itself."""
    return name.startswith("._") or name.lower() in _NOISE


class Tree(Protocol):
    """Paths are relative and have ``/``; the root is ``""``."""

    @property
    def name(self) -> str:
        """What the root is called; ``""`` if it has no name."""

    def folders(self, path: str) -> list[str]: ...

    def files(self, path: str) -> list[str]: ...

    def links(self, path: str) -> list[str]:
        """What is neither a folder nor a plain file, and so never read."""

    def size(self, path: str) -> int:
        """Bytes of a file. NotFoundError."""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes. NotFoundError, ConflictError for what is no plain file."""


class FolderTree:
    """A folder on this machine. No symbolic link below it is followed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.name = root.resolve().name

    def folders(self, path: str) -> list[str]:
        return self._names(path, stat.S_ISDIR)

    def files(self, path: str) -> list[str]:
        return self._names(path, stat.S_ISREG)

    def links(self, path: str) -> list[str]:
        return self._names(path, lambda mode: not stat.S_ISDIR(mode) and not stat.S_ISREG(mode))

    def size(self, path: str) -> int:
        with ExitStack() as stack:
            file = self._open(path, stack)
            try:
                return os.fstat(file).st_size
            finally:
                os.close(file)

    def pieces(self, path: str) -> Iterator[bytes]:
        with ExitStack() as stack:
            file = self._open(path, stack)
        yield from pieces_of(open(file, "rb"))  # noqa: SIM115, PTH123 - the pieces close it

    def _open(self, path: str, stack: ExitStack) -> int:
        *folders, name = path.split("/")
        with translated(path):
            fd = stack.enter_context(opened_root(self._root))
            for folder in folders:
                fd = stack.enter_context(opened_folder(folder, fd))
            return open_plain(fd, name)

    def _names(self, path: str, wanted: _ModeTest) -> list[str]:
        with ExitStack() as stack, translated(path or str(self._root)):
            fd = stack.enter_context(opened_root(self._root))
            for folder in path.split("/") if path else ():
                try:
                    fd = stack.enter_context(opened_folder(folder, fd))
                except FileNotFoundError:
                    return []
            names = []
            for name in os.listdir(fd):  # noqa: PTH208 - a descriptor
                try:
                    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                except FileNotFoundError:
                    continue
                if wanted(mode):
                    names.append(name)
            return sorted(names)


class _ModeTest(Protocol):
    def __call__(self, mode: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a tree: the paths of the folders of threads, assistants and uploaded files.

    ``threads`` are (id, path) of each conversation's folder.
    """

    threads: tuple[tuple[str, str], ...] = ()
    assistants: str | None = None
    files: str | None = None
    links: tuple[str, ...] = ()


def understand(tree: Tree) -> Layout:
    """A data folder, a folder of threads, or one thread's folder; in an archive it may lie a few folders deep.

    Raises InvalidRequestError where it is none of these.
    """
    path = ""
    for _ in range(_DEPTH):
        layout = _layout(tree, path)
        if layout is not None:
            return layout
        inner = [name for name in tree.folders(path) if not is_noise(name) and not name.startswith(".")]
        if len(inner) != 1 or tree.name:
            break
        path = join(path, inner[0])
    raise InvalidRequestError(
        f"there are no conversations here: expected is a data folder (with {THREADS}/ in it), a folder of threads or "
        f"one thread's folder (with {THREAD_FILE} or {MESSAGES_FILE} in it)"
    )


def _layout(tree: Tree, path: str) -> Layout | None:
    if _is_thread(tree, path):
        name = path.rpartition("/")[2] or tree.name or "thread"
        return Layout(threads=((name, path),))
    inside = tree.folders(path)
    if {THREADS, ASSISTANTS, FILES} & set(inside):
        threads = _threads(tree, join(path, THREADS)) if THREADS in inside else Layout()
        assistants = join(path, ASSISTANTS) if ASSISTANTS in inside else None
        return Layout(threads.threads, assistants, join(path, FILES) if FILES in inside else None, threads.links)
    if any(_is_thread(tree, join(path, name)) for name in inside):
        return _threads(tree, path)
    return None


def _threads(tree: Tree, path: str) -> Layout:
    names = [name for name in tree.folders(path) if not is_noise(name) and not name.startswith(".")]
    links = tuple(join(path, name) for name in tree.links(path))
    return Layout(tuple((name, join(path, name)) for name in names), links=links)


def _is_thread(tree: Tree, path: str) -> bool:
    return not {THREAD_FILE, MESSAGES_FILE}.isdisjoint(tree.files(path))


def join(*parts: str) -> str:
    """One path; an empty part is the root."""
    return "/".join(part for part in parts if part)


def lines(pieces: Iterator[bytes], limit: int) -> Iterator[bytes | None]:
    """The lines of a file without their ends; None in place of one longer than ``limit`` bytes."""
    rest = b""
    skipping = False
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield None if skipping or len(line) > limit else line
            skipping = False
        if len(rest) > limit:
            rest, skipping = b"", True
    if rest or skipping:
        yield None if skipping else rest


def read_whole(tree: Tree, path: str, limit: int) -> bytes:
    """A small file. Raises NotFoundError, and InvalidRequestError where it is larger than ``limit`` bytes."""
    if tree.size(path) > limit:
        raise InvalidRequestError(f"{path} is larger than {limit} bytes")
    data = b""
    for piece in tree.pieces(path):
        data += piece
        if len(data) > limit:  # it grew meanwhile
            raise InvalidRequestError(f"{path} is larger than {limit} bytes")
    return data
