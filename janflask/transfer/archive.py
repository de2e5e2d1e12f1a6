"""Zip archives: written to nowhere but a stream, and read with distrust.

What is read is never unpacked by its name: ``portable_tree`` asks for the few paths that it knows. Even so an archive
that tries to be clever is refused as a whole, before anything of it is stored. What macOS and Windows do to archives is
not clever: paths with backslashes or a leading ``./``, names in UTF-8 that are not marked as such, files of their own.
"""

from __future__ import annotations

import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from janflask.errors import InvalidRequestError, NotFoundError
from janflask.transfer.layout import Entry
from janflask.transfer.streams import PIECE, pieces_of
from janflask.transfer.tree import is_noise

MAX_ENTRIES = 2_000_000
MAX_TOTAL = 1 << 40  # bytes, unpacked
MAX_RATIO = 200  # unpacked to packed, over the whole archive; real conversations reach some 30
ALWAYS_FINE = 1 << 26  # bytes, unpacked, however small the archive
_IN_MEMORY = 1 << 22  # bytes; what is larger is written as ZIP64, since its size is not known beforehand
_ROOT = "."
_IS_UTF8 = 0x800  # among an entry's flags
_IS_FOLDER = 0x10  # among the attributes of MS-DOS and Windows
_DRIVE = re.compile(r"[A-Za-z]:")
_EARLIEST, _LATEST = 315_619_200, 4_354_732_799  # seconds: what a zip's clock can tell, 1980-01-02 to 2107-12-30

# --- writing ----------------------------------------------------------------------------------------------------------


class _Outbox:
    """A stream that cannot be sought; what was written to it lies here until it is taken."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: Any, /) -> int:
        self._held.append(bytes(data))
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self, least: int = 1) -> Iterator[bytes]:
        """What is there, if it is ``least`` bytes."""
        if self._size >= least:
            yield b"".join(self._held)
            self._held, self._size = [], 0


def write(folders: Iterable[str], entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive in pieces. ``folders`` are there even if they are empty."""
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            archive.writestr(_info(f"{folder}/", int(time.time() * 1000), stat.S_IFDIR | 0o700), b"")
        for entry in entries:
            yield from _write_entry(archive, entry, outbox)
    yield from outbox.take()


def _write_entry(archive: zipfile.ZipFile, entry: Entry, outbox: _Outbox) -> Iterator[bytes]:
    pieces = iter(entry.pieces)
    first, size = [], 0
    for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size >= _IN_MEMORY:
            break
    info = _info(entry.path, entry.modified_ms, stat.S_IFREG | 0o600)
    with archive.open(info, "w", force_zip64=size >= _IN_MEMORY) as file:
        file.write(b"".join(first))
        yield from outbox.take(PIECE)
        for piece in pieces:
            file.write(piece)
            yield from outbox.take(PIECE)
    yield from outbox.take(PIECE)


def _info(path: str, modified_ms: int, mode: int) -> zipfile.ZipInfo:
    moment = time.gmtime(min(max(modified_ms // 1000, _EARLIEST), _LATEST))
    info = zipfile.ZipInfo(path, moment[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = mode << 16
    return info


# --- reading ----------------------------------------------------------------------------------------------------------


class ZipTree:
    """An archive as a tree of files (see ``portable_tree``).

    Raises InvalidRequestError for what is no zip and for one with encrypted, duplicate, linked or misplaced entries, or
    that grows too large.
    """

    name = ""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise InvalidRequestError(f"this is no zip archive that can be read: {error}") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._inside: dict[str, dict[str, bool]] = {"": {}}  # folder: its names, and whether each is a folder
        entries = self._archive.infolist()
        _check_amount(entries, stream.seek(0, 2))
        for info in entries:
            self._add(info)

    def folders(self, path: str) -> list[str]:
        return sorted(name for name, folder in self._inside.get(path, {}).items() if folder)

    def files(self, path: str) -> list[str]:
        return sorted(name for name, folder in self._inside.get(path, {}).items() if not folder)

    def links(self, path: str) -> list[str]:
        return []

    def size(self, path: str) -> int:
        return self._info(path).file_size

    def pieces(self, path: str) -> Iterator[bytes]:
        info = self._info(path)
        try:
            yield from pieces_of(self._archive.open(info))  # type: ignore[arg-type]
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise InvalidRequestError(f"the archive is damaged at {path!r}: {error}") from None

    def _info(self, path: str) -> zipfile.ZipInfo:
        info = self._entries.get(path)
        if info is None:
            raise NotFoundError(f"the archive has no {path!r}")
        return info

    def _add(self, info: zipfile.ZipInfo) -> None:
        path, is_folder = _path_of(info)
        _check_entry(info, path)
        if path == _ROOT or any(is_noise(part) for part in path.split("/")[:-1]):
            return
        if is_folder:
            self._inside.setdefault(path, {})
        elif path in self._entries:
            raise InvalidRequestError(f"the archive has {path[:200]!r} twice")
        else:
            self._entries[path] = info
        folder = is_folder
        while path:
            parent, _, name = path.rpartition("/")
            names = self._inside.setdefault(parent, {})
            if names.get(name) is folder:
                return
            if name in names:
                raise InvalidRequestError(f"the archive has {path[:200]!r} both as a file and as a folder")
            names[name] = folder
            path, folder = parent, True


def _path_of(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """An entry's path with ``/``, and whether it is a folder."""
    path = info.filename
    if not info.flag_bits & _IS_UTF8:
        with suppress(UnicodeError):  # the standard says cp437, as zipfile does; macOS writes UTF-8 all the same
            path = path.encode("cp437").decode("utf-8")
    path = path.replace("\\", "/")
    is_folder = path.endswith("/") or bool(info.external_attr & _IS_FOLDER and not info.file_size)
    path = path.removesuffix("/")
    while path.startswith("./"):
        path = path.removeprefix("./")
    return path, is_folder


def _check_amount(entries: list[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise InvalidRequestError(f"the archive has more than {MAX_ENTRIES} entries")
    packed, unpacked = sum(info.compress_size for info in entries), sum(info.file_size for info in entries)
    if packed > size:
        raise InvalidRequestError("the archive's entries overlap, so it is damaged or made to grow without end")
    if unpacked > MAX_TOTAL or unpacked > max(ALWAYS_FINE, MAX_RATIO * size):
        raise InvalidRequestError(f"the archive would grow from {size} to {unpacked} bytes, which no honest one does")


def _check_entry(info: zipfile.ZipInfo, path: str) -> None:
    shown = info.orig_filename[:200]
    if info.flag_bits & 0x1:
        raise InvalidRequestError(f"the archive's entry {shown!r} is encrypted: make one without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidRequestError(f"the archive's entry {shown!r} is packed in a way other than deflate")
    elsewhere = path != _ROOT and any(part in ("", ".", "..") for part in path.split("/"))
    if elsewhere or _DRIVE.match(path) or "\0" in info.orig_filename:
        raise InvalidRequestError(f"the archive's entry {shown!r} has a path that leads elsewhere")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidRequestError(f"the archive's entry {shown!r} is a link or a device: only plain files may be in it")
