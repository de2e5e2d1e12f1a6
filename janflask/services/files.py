"""Uploaded files: received in pieces, described, handed out, and deleted only when nobody holds them."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import BinaryIO

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError, RequestTooLargeError, StoreDamagedError
from janflask.settings import Settings
from janflask.storage.base import Page, Repository, Slice, Upload
from janflask.storage.records import StoredFile

PURPOSES = ("assistants", "vision", "user_data", "batch", "fine-tune", "evals")  # what OpenAI's clients may send
MAX_NAME = 255  # characters

# Characters that break a line or turn the direction of writing: a name that hides its own ending.
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain_name(filename: str) -> str:
    """The last part of a path from outside, without control characters; empty when nothing of a name is left."""
    name = re.split(r"[/\\]", filename)[-1]
    name = "".join(c for c in name if unicodedata.category(c) not in _UNSEEN and c not in _TURNS).strip()
    return "" if name.strip(".") == "" else name


class IncomingFile:
    """A file that is being received. Nobody sees it before ``commit``; ``discard`` ends it in every other case."""

    def __init__(self, upload: Upload, max_mb: int) -> None:
        self._upload = upload
        self._max_mb = max_mb
        self._size = 0

    def write(self, data: bytes) -> int:
        """Raises RequestTooLargeError beyond ``JANFLASK_MAX_UPLOAD_MB``, StorageFullError."""
        self._size += len(data)
        if self._size > self._max_mb << 20:
            raise too_large(self._max_mb)
        return self._upload.write(data)

    def commit(self, filename: str, purpose: str) -> StoredFile:
        """Stores it. Raises InvalidRequestError for a name that is none and a purpose that nobody knows."""
        if purpose not in PURPOSES:
            raise InvalidRequestError(
                f"purpose must be one of {', '.join(PURPOSES)}, not {purpose[:80]!r}",
                param="purpose",
                code="invalid_value",
            )
        name = plain_name(filename)
        if not name or len(name) > MAX_NAME:
            raise InvalidRequestError(
                f"the file must have a file name of 1 to {MAX_NAME} characters", param="file", code="invalid_value"
            )
        return self._upload.commit(name, purpose)

    def discard(self) -> None:
        """Forgets it; harmless after ``commit``."""
        self._upload.discard()


def too_large(max_mb: int) -> RequestTooLargeError:
    """The error for a file beyond the limit."""
    return RequestTooLargeError(f"the file is larger than {max_mb} MiB (JANFLASK_MAX_UPLOAD_MB)", param="file")


class FileService:
    """Thread-safe. Its methods raise NotFoundError for an id that names no file, and what the store raises."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.max_upload_mb = settings.max_upload_mb
        self._threads = repository.threads
        self._assistants = repository.assistants
        self._files = repository.files

    def begin(self) -> IncomingFile:
        """A new file, empty so far."""
        return IncomingFile(self._files.begin(), self.max_upload_mb)

    def get(self, file_id: str) -> StoredFile:
        """What is known of it."""
        return self._files.get(file_id)

    def list(self, page: Page, purpose: str | None = None) -> Slice[StoredFile]:
        """A page of the files, or of those with one purpose."""
        return self._files.list(page, purpose=purpose)

    def open(self, file_id: str) -> tuple[StoredFile, BinaryIO]:
        """The file and its content, to read from its beginning; the caller closes it.

        Raises StoreDamagedError when the content has not the length that it was stored with.
        """
        record, content = self._files.get(file_id), self._files.open(file_id)
        size = content.seek(0, os.SEEK_END)
        if size != record.bytes:
            content.close()
            raise StoreDamagedError(
                f"the content of file {file_id} has {size} bytes, not {record.bytes}: run `janflask doctor`"
            )
        content.seek(0)
        return record, content

    def delete(self, file_id: str) -> None:
        """Raises ConflictError naming the thread or the assistant that holds it."""
        self._files.get(file_id)
        # All assistants, not only those that the store knows as holders: Jan may have written some.
        for assistant in self._assistants.list(Page(limit=None)).items:
            if file_id in assistant.file_ids:
                raise ConflictError(
                    f"file {file_id} is held by assistant {assistant.id}: take it out of its file_ids first"
                )
        self._files.delete(file_id, lambda holder: self._is_held(file_id, holder))

    def _is_held(self, file_id: str, holder: str) -> bool:
        """Whether ``holder``, a thread or an assistant, holds the file; one that is gone does not."""
        try:
            if any(file_id in message.files for message in self._threads.all_messages(holder)):
                return True
        except NotFoundError:
            pass
        try:
            return file_id in self._assistants.get(holder).file_ids
        except NotFoundError:
            return False
