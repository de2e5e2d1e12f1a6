"""Uploaded files on disk, a folder each:

* ``files/<id>/file.json`` describes it,
* ``files/<id>/content`` is what was sent,
* ``files/<id>/threads/<thread_id>``, an empty file, says that the thread may hold it.

The folder is filled in the staging area and put in its place whole, so that a file is either there or not. Whoever
stores a message that holds it shares the folder's lock meanwhile; who deletes it has the lock alone and asks each
possible holder. Ids of our own tell the time, so that a page of a list reads no more files than it shows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.files.disk import (
    FILE_MODE,
    NEW,
    Disk,
    make_folder,
    open_plain,
    opened_folder,
    opened_root,
    read_plain,
    translated,
    write_all,
)
from janflask.files.locks import FolderLocks
from janflask.storage import folders
from janflask.storage.base import Page, Slice, Upload
from janflask.storage.jan import OWNER, Raw, decode_object, given, millis, owner_in, rest, with_rest
from janflask.storage.lru import Recent
from janflask.storage.message_log import Signature, is_settled, signature, signature_at
from janflask.storage.paging import Key, cut
from janflask.storage.records import StoredFile

DESCRIPTION_FILE, CONTENT_FILE, HOLDERS_FOLDER = "file.json", "content", "threads"
MAX_DESCRIPTION = 1 << 20  # bytes

_KNOWN = {"id", "object", "filename", "purpose", "bytes", "created_at", "sha256", OWNER}
_OWNERS_KEPT = 32_768


class UploadStore:
    """``base.FileStore`` over the folder ``root``, which is made when the first file arrives."""

    def __init__(self, root: Path, disk: Disk, locks: FolderLocks) -> None:
        self._root = root
        self._disk = disk
        self._locks = locks
        self._listed = folders.Readable(root, DESCRIPTION_FILE, "file")
        self._owners: Recent[tuple[Signature, str | None]] = Recent(_OWNERS_KEPT)

    def begin(self) -> Upload:
        return _Upload(self._root, self._disk)

    def get(self, file_id: str) -> StoredFile:
        what = _checked(file_id)
        with self._opened(file_id) as fd:
            data, about = read_plain(fd, DESCRIPTION_FILE, MAX_DESCRIPTION, what)
            raw = decode_object(data, f"{DESCRIPTION_FILE} of {what}")
            if type(raw.get("bytes")) is not int or raw["bytes"] < 0:
                raw["bytes"] = os.stat(CONTENT_FILE, dir_fd=fd, follow_symlinks=False).st_size
        found = file_from_json(raw, file_id, ids.time_of(file_id) or about.st_mtime_ns // 1_000_000)
        if is_settled(about):
            self._owners.put(file_id, (signature(about), found.owner))
        return found

    def list(self, page: Page, *, purpose: str | None = None) -> Slice[StoredFile]:
        with translated("folder of files"):
            keys = [key for name in folders.names(self._root) if (key := self._key(name, page.owner)) is not None]

        def wanted(file_id: str) -> StoredFile | None:
            if page.owner is not None and not self._may_be_of(file_id, page.owner):
                return None
            found = self._readable(file_id)
            if found is None or page.owner not in (None, found.owner):
                return None
            return found if purpose in (None, found.purpose) else None

        return cut(sorted(keys), page, wanted)

    def open(self, file_id: str) -> BinaryIO:
        with self._opened(file_id) as fd:
            return os.fdopen(open_plain(fd, CONTENT_FILE), "rb")

    @contextmanager
    def holding(self, file_ids: Sequence[str], thread_id: str) -> Iterator[None]:
        if not ids.is_id(thread_id):
            raise NotFoundError(f"{thread_id[:128]!r} is not the id of a thread", param="thread_id")
        for file_id in file_ids:
            self.get(file_id)  # in the order given, so that the error names the first
        with ExitStack() as held:
            for file_id in sorted(set(file_ids)):  # in one order, so that no two wait for each other
                what = _checked(file_id)
                fd = held.enter_context(self._locks.shared(self._root / file_id, what))
                with translated(what):
                    self._mark(fd, thread_id)
            yield

    def delete(self, file_id: str, is_held: Callable[[str], bool]) -> None:
        what = _checked(file_id)
        with self._locks.exclusive(self._root / file_id, what) as fd:
            with translated(what):
                # A folder without the file is no upload: whatever it is, it is not ours to remove.
                os.stat(DESCRIPTION_FILE, dir_fd=fd, follow_symlinks=False)
                holders = _holders(fd)
            for thread_id in holders:
                if is_held(thread_id):
                    raise ConflictError(f"{what} is held by {thread_id}; take it out of its messages first")
            with translated(what):
                folders.remove(self._disk, self._root, file_id)

    def give(self, file_id: str, owner: str | None) -> None:
        what = _checked(file_id)
        with self._locks.exclusive(self._root / file_id, what) as fd, translated(what):
            given = replace(self.get(file_id), owner=owner)
            self._disk.replace(fd, DESCRIPTION_FILE, encode_file(given))

    @contextmanager
    def _opened(self, file_id: str) -> Iterator[int]:
        with translated(_checked(file_id)), opened_root(self._root) as top, opened_folder(file_id, top) as fd:
            yield fd

    def _mark(self, fd: int, thread_id: str) -> None:
        """From now on, and after a power cut too, the thread counts as a possible holder."""
        if HOLDERS_FOLDER not in os.listdir(fd):  # a folder that was made by hand
            make_folder(fd, HOLDERS_FOLDER)
            self._disk.sync(fd)
        with opened_folder(HOLDERS_FOLDER, fd) as holders:
            with suppress(FileExistsError):
                self._disk.create(holders, thread_id, b"")
            # Also where the mark is there already: who made it shares the lock with us, and may not have synced it yet.
            self._disk.sync(holders)

    def _key(self, name: str, owner: str | None) -> Key | None:
        """An id of our own has its place whoever's it is; another one only in its owner's lists."""
        own_ms = ids.time_of(name) if name.startswith(ids.FILE) else None
        if own_ms is not None:
            return own_ms, name
        found = self._readable(name)
        return None if found is None or owner not in (None, found.owner) else (found.created_ms, name)

    def _readable(self, file_id: str) -> StoredFile | None:
        return self._listed.get(file_id, self.get)

    def _may_be_of(self, file_id: str, owner: str) -> bool:
        """False for what is known to be another's: a list of few among many opens few."""
        known = self._owners.get(file_id)
        path = f"{self._root}/{file_id}/{DESCRIPTION_FILE}"
        return known is None or known[1] == owner or signature_at(path) != known[0]


class _Upload:
    """A folder in the staging area; a process that ends leaves it there, for the doctor to remove."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._digest = hashlib.sha256()
        self._size = 0
        self._ended = False
        with ExitStack() as opened, translated("file"):
            self._staged, self._folder = opened.enter_context(disk.staged(root))
            make_folder(self._folder, HOLDERS_FOLDER)
            self._content = os.open(CONTENT_FILE, NEW, FILE_MODE, dir_fd=self._folder)
            opened.callback(os.close, self._content)
            self._opened = opened.pop_all()

    def write(self, data: bytes, /) -> int:
        """After an error the upload has ended."""
        self._check()
        try:
            with translated("file"):
                write_all(self._content, data)
        except BaseException:
            self.discard()
            raise
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    def commit(
        self,
        filename: str,
        purpose: str,
        *,
        file_id: str | None = None,
        created_ms: int | None = None,
        owner: str | None = None,
    ) -> StoredFile:
        """After a ConflictError it can be stored under another id; after any error ``discard`` is wanted."""
        self._check()
        file_id = file_id or ids.new_id(ids.FILE, created_ms)
        folders.check_new_id("file", file_id)
        stored = StoredFile(
            id=file_id,
            created_ms=(ids.time_of(file_id) or ids.now_ms()) if created_ms is None else created_ms,
            filename=filename,
            purpose=purpose,
            bytes=self._size,
            sha256=self._digest.hexdigest(),
            owner=owner,
        )
        with translated(f"file {file_id}"):
            with suppress(FileNotFoundError):  # there is one after a commit that failed
                os.unlink(DESCRIPTION_FILE, dir_fd=self._folder)
            self._disk.sync(self._content)
            self._disk.create(self._folder, DESCRIPTION_FILE, encode_file(stored))
            folders.publish(self._disk, self._root, self._staged, self._folder, file_id)
        self.discard()
        return stored

    def discard(self) -> None:
        """Closes what is open; the staged folder is removed unless it has been put in its place."""
        self._ended = True
        self._opened.close()

    def _check(self) -> None:
        if self._ended:
            raise ValueError("this upload has ended")


def file_from_json(raw: Raw, file_id: str, default_ms: int) -> StoredFile:
    """What ``file.json`` says. ``file_id`` is the folder's name, which counts; ``default_ms`` without a time."""
    known = StoredFile(
        id=file_id,
        created_ms=millis(raw, "created_at") or default_ms,
        filename=given(raw, "filename", str) or file_id,
        purpose=given(raw, "purpose", str),
        bytes=given(raw, "bytes", int),
        sha256=given(raw, "sha256", str),
        owner=owner_in(raw),
    )
    return replace(known, extra=rest(raw, _KNOWN, file_to_json(known)))


def file_to_json(stored: StoredFile) -> dict[str, Any]:
    """What ``file.json`` holds; the time is in milliseconds."""
    out: dict[str, Any] = {
        "id": stored.id,
        "object": "file",
        "filename": stored.filename,
        "purpose": stored.purpose,
        "bytes": stored.bytes,
        "created_at": stored.created_ms,
        "sha256": stored.sha256,
    }
    if stored.owner is not None:
        out[OWNER] = stored.owner
    return with_rest(out, stored.extra)


def encode_file(stored: StoredFile) -> bytes:
    """``file.json``, laid out for people."""
    return msgspec.json.format(msgspec.json.encode(file_to_json(stored)), indent=2) + b"\n"


def _holders(fd: int) -> list[str]:
    try:
        with opened_folder(HOLDERS_FOLDER, fd) as folder, os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if ids.is_id(entry.name))
    except FileNotFoundError:
        return []


def _checked(file_id: str) -> str:
    """How errors call the file. Raises NotFoundError for what is no id."""
    if not ids.is_id(file_id):
        raise NotFoundError(f"there is no file {file_id[:128]!r}", param="file_id")
    return f"file {file_id}"
