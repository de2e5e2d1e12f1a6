"""Threads into another folder, in Jan's layout: each object in one step, so that Jan never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from janflask.errors import ConflictError, NotFoundError, StoreDamagedError
from janflask.files.disk import Disk, make_folder, opened_folder, translated
from janflask.storage.base import Repository
from janflask.storage.records import Thread
from janflask.transfer.importing import Skipped
from janflask.transfer.layout import (
    ASSISTANTS,
    FILES,
    THREADS,
    Entry,
    Progress,
    assistant_entry,
    file_entries,
    thread_entries,
)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The ids of the threads that were written, and what was not."""

    threads: tuple[str, ...]
    skipped: tuple[Skipped, ...]


class FolderExport:
    """One export into the data folder ``target``, which is made if need be."""

    def __init__(self, repository: Repository, target: Path, *, durable: bool) -> None:
        self._repository = repository
        self._target = target
        self._disk = Disk(durable=durable)
        self._done: set[str] = set()
        self._skipped: list[Skipped] = []

    def run(self, threads: tuple[Iterable[Thread], int], progress: Progress) -> ExportReport:
        """``threads`` and how many they are. Raises StorageFullError, OSError."""
        found, total = threads
        written = []
        for number, thread in enumerate(found):
            progress(min(number, total), total)
            if self._place(f"{THREADS}/{thread.id}", thread_entries(self._repository, thread)):
                written.append(thread.id)
                self._place_used(thread)
        progress(total, total)
        return ExportReport(tuple(written), tuple(self._skipped))

    def _place_used(self, thread: Thread) -> None:
        """The assistants and uploaded files that a thread needs."""
        for item in thread.assistants:
            with suppress(NotFoundError, StoreDamagedError):
                assistant = self._repository.assistants.get(item.assistant_id)
                self._place(f"{ASSISTANTS}/{assistant.id}", iter([assistant_entry(assistant)]), quiet=True)
        for message in self._repository.threads.all_messages(thread.id):
            for file_id in message.files:
                with suppress(NotFoundError, StoreDamagedError):
                    stored = self._repository.files.get(file_id)
                    self._place(f"{FILES}/{stored.id}", file_entries(self._repository, stored), quiet=True)

    def _place(self, path: str, entries: Iterator[Entry], *, quiet: bool = False) -> bool:
        if path in self._done:
            return False
        self._done.add(path)
        kind, name = path.split("/")
        root = self._target / kind
        if (root / name).exists():
            if not quiet:
                self._skipped.append(Skipped(path, "there is one already, which stays as it is"))
            return False
        first = next(entries, None)
        if first is None:
            return False
        try:
            with translated(path), self._disk.staged(root) as (staged, fd):
                self._write(fd, first, path)
                for entry in entries:
                    self._write(fd, entry, path)
                self._disk.publish(root, staged, fd, name)
                self._disk.sync_root(root)
        except ConflictError as error:  # it appeared meanwhile
            self._skipped.append(Skipped(path, error.message))
            return False
        return True

    def _write(self, fd: int, entry: Entry, path: str) -> None:
        *folders, name = entry.path.removeprefix(f"{path}/").split("/")
        if folders:
            make_folder(fd, folders[0])
            with opened_folder(folders[0], fd) as inner:
                self._fill(inner, name, entry)
                self._disk.sync(inner)
        else:
            self._fill(fd, name, entry)

    def _fill(self, fd: int, name: str, entry: Entry) -> None:
        with self._disk.creating(fd, name) as file, os.fdopen(file, "wb", closefd=False) as out:
            for piece in entry.pieces:
                out.write(piece)
