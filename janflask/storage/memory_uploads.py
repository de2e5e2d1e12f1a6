"""Uploaded files in memory."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from janflask.errors import ConflictError, NotFoundError, StoreBusyError
from janflask.files import ids
from janflask.storage.base import Page, Slice, Upload
from janflask.storage.memory_threads import check_new
from janflask.storage.paging import cut
from janflask.storage.records import StoredFile


@dataclass(slots=True)
class _File:
    described: StoredFile
    content: bytes
    holders: set[str] = field(default_factory=set)
    holding: int = 0


class _Upload:
    def __init__(self, files: MemoryUploadStore) -> None:
        self._files = files
        self._content: io.BytesIO | None = io.BytesIO()

    def write(self, data: bytes, /) -> int:
        return self._open().write(data)

    def commit(
        self,
        filename: str,
        purpose: str,
        *,
        file_id: str | None = None,
        created_ms: int | None = None,
        owner: str | None = None,
    ) -> StoredFile:
        stored = self._files.add(self._open().getvalue(), filename, purpose, file_id, created_ms, owner)
        self._content = None
        return stored

    def discard(self) -> None:
        self._content = None

    def _open(self) -> io.BytesIO:
        if self._content is None:
            raise ValueError("this upload has ended")
        return self._content


class MemoryUploadStore:
    """Uploaded files; ``lock_timeout``, in seconds, is how long a deletion waits for those who hold one."""

    def __init__(self, lock_timeout: float) -> None:
        self._timeout = lock_timeout
        self._changed = threading.Condition()
        self._files: dict[str, _File] = {}

    def begin(self) -> Upload:
        return _Upload(self)

    def add(
        self,
        content: bytes,
        filename: str,
        purpose: str,
        file_id: str | None,
        created_ms: int | None,
        owner: str | None,
    ) -> StoredFile:
        file_id = file_id or ids.new_id(ids.FILE, created_ms)
        described = StoredFile(
            id=file_id,
            created_ms=(ids.time_of(file_id) or ids.now_ms()) if created_ms is None else created_ms,
            filename=filename,
            purpose=purpose,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            owner=owner,
        )
        with self._changed:
            check_new("file", file_id, self._files)
            self._files[file_id] = _File(described, content)
        return described

    def get(self, file_id: str) -> StoredFile:
        return deepcopy(self._find(file_id).described)

    def list(self, page: Page, *, purpose: str | None = None) -> Slice[StoredFile]:
        with self._changed:
            described = [file.described for file in self._files.values()]
        stored = {found.id: found for found in described if page.owner in (None, found.owner)}
        # An id of ours tells the place, so that a store on disk needs to read nothing to find it.
        keys = sorted((ids.time_of(file_id) or file.created_ms, file_id) for file_id, file in stored.items())
        return cut(keys, page, lambda key: stored[key] if purpose in (None, stored[key].purpose) else None)

    def give(self, file_id: str, owner: str | None) -> None:
        with self._changed:
            file = self._find(file_id)
            file.described = replace(file.described, owner=owner)

    def open(self, file_id: str) -> BinaryIO:
        return io.BytesIO(self._find(file_id).content)

    @contextmanager
    def holding(self, file_ids: Sequence[str], thread_id: str) -> Iterator[None]:
        if not ids.is_id(thread_id):
            raise NotFoundError(f"{thread_id[:200]!r} is not the id of a thread", param="thread_id")
        with self._changed:
            held = [self._find(file_id) for file_id in dict.fromkeys(file_ids)]
            for file in held:
                file.holding += 1
                file.holders.add(thread_id)
        try:
            yield
        finally:
            with self._changed:
                for file in held:
                    file.holding -= 1
                self._changed.notify_all()

    def delete(self, file_id: str, is_held: Callable[[str], bool]) -> None:
        with self._changed:
            file = self._find(file_id)
            if not self._changed.wait_for(lambda: file.holding == 0, self._timeout):
                raise StoreBusyError(f"file {file_id} is being used; try again", retry_after=1)
            self._find(file_id)
            for thread_id in sorted(file.holders):
                if is_held(thread_id):
                    raise ConflictError(f"file {file_id} is held by a message of thread {thread_id}; delete that first")
            del self._files[file_id]

    def _find(self, file_id: str) -> _File:
        with self._changed:
            file = self._files.get(file_id)
        if file is None:
            raise NotFoundError(f"there is no file {file_id[:200]!r}", param="file_id")
        return file
