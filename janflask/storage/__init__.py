"""The store: conversations, assistants and uploaded files, in plain files that can be read and backed up."""

from __future__ import annotations

from janflask.files.disk import Disk
from janflask.files.locks import FolderLocks
from janflask.settings import Settings
from janflask.storage.base import Repository


def open_repository(settings: Settings) -> Repository:
    """The repository in ``settings.data_dir``. Makes no folder and reads no file before it is used."""
    from janflask.storage.file_assistants import FileAssistantStore
    from janflask.storage.file_runs import FileRunStore
    from janflask.storage.file_threads import FileThreadStore
    from janflask.storage.file_uploads import UploadStore

    disk = Disk(durable=settings.durability == "disk")
    locks = FolderLocks(settings.lock_timeout)
    return Repository(
        threads=FileThreadStore(settings.threads_dir, settings.cache_dir / "threads.sqlite", disk, locks),
        assistants=FileAssistantStore(settings.assistants_dir, disk, locks),
        files=UploadStore(settings.files_dir, disk, locks),
        runs=FileRunStore(settings.threads_dir, settings.runs_dir, disk, locks),
    )
