"""Conversations out of the store and into it: one as a JSON document, all as a zip archive, or to and from a folder.

Both directions of the archive and the folder are in the layout of the store itself, which is Jan's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from janflask.errors import InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage.base import Repository
from janflask.storage.items import with_message_ids
from janflask.storage.records import Thread
from janflask.transfer import (
    archive as portable_archive,
)
from janflask.transfer import (
    document as portable_document,
)
from janflask.transfer import (
    layout as portable_layout,
)
from janflask.transfer import (
    long_texts,
)
from janflask.transfer.document import PortableThread
from janflask.transfer.folder import ExportReport, FolderExport
from janflask.transfer.importing import Importer, ImportReport, Skipped, store_file, with_files
from janflask.transfer.layout import Progress, no_progress
from janflask.transfer.streams import as_file, with_file_ids
from janflask.transfer.tree import FolderTree, Tree

__all__ = ["ExportReport", "ImportReport", "PortableService", "Skipped"]

_MIB = 1 << 20


class PortableService:
    """Import and export. Thread-safe."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._settings = settings
        self._repository = repository
        self._max_message = settings.max_message_mb * _MIB
        self._max_file = settings.max_upload_mb * _MIB

    # --- one thread -------------------------------------------------------------------------------------------------

    def export_thread(self, thread_id: str) -> Iterator[bytes]:
        """The thread's document in pieces of some 64 KiB. NotFoundError is raised at the call."""
        return portable_document.write(self._repository, thread_id)

    def import_document(self, file: BinaryIO) -> Thread:
        """Makes a new thread out of an exported one, with new ids for it, its messages and its files.

        ``file`` must be one that can be sought; the contents of files stay in it until they are stored. The whole
        document is checked first; nothing stays behind when it fails later. Raises InvalidRequestError and
        RequestTooLargeError with the place as ``param``.
        """
        document, texts = long_texts.read(file, self._settings.max_body_mb * _MIB, self._settings.max_json_items)
        if not isinstance(document, dict):
            raise InvalidRequestError(
                "the document must be a JSON object: one of GET /v1/threads/{thread_id}/export or `janflask threads "
                "export`"
            )
        limits = {"max_message": self._max_message, "max_file": self._max_file}
        portable = portable_document.read(document, texts, **limits)
        new_files: dict[str, str] = {}
        try:
            for item in portable.files:
                pieces = portable_document.decoded(item.content)
                stored = store_file(self._repository.files, pieces, item.stored, self._max_file)
                new_files[item.stored.id] = stored.id
            return self._create(portable, new_files)
        except BaseException:
            for file_id in new_files.values():
                self._repository.files.delete(file_id, lambda _: False)
            raise

    def _create(self, portable: PortableThread, new_files: Mapping[str, str]) -> Thread:
        thread = dataclasses.replace(
            portable.thread,
            id=ids.new_id(ids.THREAD, portable.thread.created_ms),
            tool_resources=with_file_ids(portable.thread.tool_resources, new_files),
        )
        renewed = [ids.new_id(ids.MESSAGE) for _ in portable.messages]
        new_ids = {message.id: new_id for message, new_id in zip(portable.messages, renewed, strict=True)}
        messages = [
            dataclasses.replace(
                with_files(message, new_files),
                id=new_id,
                thread_id=thread.id,
                extra=with_message_ids(message.extra, new_ids),
            )
            for message, new_id in zip(portable.messages, renewed, strict=True)
        ]
        files = [(name, _content(content)) for name, content in portable.thread_files]
        with self._repository.files.holding(list(new_files.values()), thread.id):
            return self._repository.threads.create(thread, messages, files)

    # --- everything -------------------------------------------------------------------------------------------------

    def export_all(self) -> Iterator[bytes]:
        """All threads, assistants and uploaded files as a zip archive in pieces, made while it is read."""
        folders = (portable_layout.THREADS, portable_layout.ASSISTANTS, portable_layout.FILES)
        return portable_archive.write(folders, portable_layout.all_entries(self._repository))

    def import_archive(self, stream: BinaryIO, progress: Progress = no_progress) -> ImportReport:
        """Takes an archive of ``export_all``, or a zip of a Jan folder. ``stream`` must be one that can be sought.

        An archive with hostile entries is refused with InvalidRequestError before anything is stored.
        """
        return self._import(portable_archive.ZipTree(stream), progress)

    # --- folders ----------------------------------------------------------------------------------------------------

    def import_folder(self, path: Path, progress: Progress = no_progress) -> ImportReport:
        """Takes a Jan data folder, a folder of threads, or one thread's folder. Raises InvalidRequestError."""
        if not path.is_dir():
            raise InvalidRequestError(f"{path} is no folder")
        if _is_inside(path, self._settings.threads_dir) or path.resolve() == self._settings.data_dir.resolve():
            raise InvalidRequestError(f"{path} belongs to the server's own data folder")
        return self._import(FolderTree(path), progress)

    def export_folder(
        self, path: Path, thread_ids: Sequence[str] | None = None, progress: Progress = no_progress
    ) -> ExportReport:
        """Writes these threads (None: all), and the assistants and files that they use, into a data folder for Jan.

        What is there already stays as it is, and is told. Raises NotFoundError before anything is written.
        """
        if path.resolve() == self._settings.data_dir.resolve() or _is_inside(path, self._settings.threads_dir):
            raise InvalidRequestError(f"{path} belongs to the server's own data folder")
        for thread_id in thread_ids or ():
            self._repository.threads.get(thread_id)
        durable = self._settings.durability == "disk"
        return FolderExport(self._repository, path, durable=durable).run(self._threads(thread_ids), progress)

    def _threads(self, thread_ids: Sequence[str] | None) -> tuple[Iterator[Thread], int]:
        if thread_ids is None:
            return self._repository.threads.all(), self._repository.threads.count()
        return self._named(thread_ids), len(thread_ids)

    def _named(self, thread_ids: Sequence[str]) -> Iterator[Thread]:
        for thread_id in thread_ids:
            try:
                yield self._repository.threads.get(thread_id)
            except NotFoundError:  # it was deleted meanwhile
                continue

    def _import(self, tree: Tree, progress: Progress) -> ImportReport:
        limits = {"max_message": self._max_message, "max_file": self._max_file}
        return Importer(self._repository, tree, progress=progress, **limits).run()


def _content(content: portable_document.Content) -> BinaryIO:
    return as_file(lambda: portable_document.decoded(content))


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
