"""Uploaded files as somebody sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.storage.base import FileStore, Page, Slice, Upload
from janflask.storage.owned.viewer import Viewer, is_own, maker, page_for
from janflask.storage.records import StoredFile


class _OwnedUpload:
    """An upload that becomes ``owner``'s file."""

    def __init__(self, upload: Upload, owner: str | None) -> None:
        self._upload = upload
        self._owner = owner

    def write(self, data: bytes, /) -> int:
        return self._upload.write(data)

    def commit(
        self,
        filename: str,
        purpose: str,
        *,
        file_id: str | None = None,
        created_ms: int | None = None,
        owner: str | None = None,
    ) -> StoredFile:
        return self._upload.commit(filename, purpose, file_id=file_id, created_ms=created_ms, owner=self._owner)

    def discard(self) -> None:
        self._upload.discard()


class OwnedFileStore:
    """``base.FileStore`` over ``store``. One that cannot be read is nobody's, and so for those who see all."""

    def __init__(self, store: FileStore, viewer: Callable[[], Viewer]) -> None:
        self._store = store
        self._viewer = viewer

    def begin(self) -> Upload:
        owner = maker(self._viewer())
        return _OwnedUpload(self._store.begin(), owner)

    def get(self, file_id: str) -> StoredFile:
        viewer = self._viewer()
        if viewer.sees_all:
            return self._store.get(file_id)
        try:
            found = self._store.get(file_id)
        except (NotFoundError, StoreDamagedError, ConflictError):
            found = None
        if found is None or not is_own(viewer, found.owner):
            raise NotFoundError(f"there is no file {file_id[:128]!r}", param="file_id")
        return found

    def list(self, page: Page, *, purpose: str | None = None) -> Slice[StoredFile]:
        return self._store.list(page_for(self._viewer(), page), purpose=purpose)

    def open(self, file_id: str) -> BinaryIO:
        self._check(file_id)
        return self._store.open(file_id)

    @contextmanager
    def holding(self, file_ids: Sequence[str], thread_id: str) -> Iterator[None]:
        for file_id in file_ids:
            self._check(file_id)
        with self._store.holding(file_ids, thread_id):
            yield

    def give(self, file_id: str, owner: str | None) -> None:
        self._check(file_id)
        self._store.give(file_id, owner)

    def delete(self, file_id: str, is_held: Callable[[str], bool]) -> None:
        self._check(file_id)
        self._store.delete(file_id, is_held)

    def _check(self, file_id: str) -> None:
        """Raises NotFoundError, the same for a file of somebody else's and for one that never was."""
        if not self._viewer().sees_all:
            self.get(file_id)
