"""``janflask doctor``: looks at every file of the store, says what is wrong, and repairs what can be.

Safe beside a running server: each object is looked at under its lock. Nothing is thrown away: what is replaced is kept
beside it as ``<name>.damaged-<time>``. No symbolic link is followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from janflask.errors import JanflaskError, NotFoundError
from janflask.files import ids
from janflask.files.disk import open_plain, opened_folder, opened_root
from janflask.files.locks import FolderLocks
from janflask.settings import Settings
from janflask.storage.doctor.case import Case, Finding, check_place, left_over_folders, objects
from janflask.storage.doctor.checks import check_assistant, check_file
from janflask.storage.doctor.threads import ThreadCheck
from janflask.storage.file_uploads import DESCRIPTION_FILE, HOLDERS_FOLDER, UploadStore

__all__ = ["Finding", "examine"]

Progress = Callable[[int, int], None]  # objects done, of how many


def examine(settings: Settings, fix: bool = False, progress: Progress = lambda done, total: None) -> Iterator[Finding]:
    """Everything that is wrong in ``settings.data_dir``; repaired on the way if ``fix`` and if it can be."""
    return _Doctor(settings, fix).run(progress)


class _Doctor:
    def __init__(self, settings: Settings, fix: bool) -> None:
        self._settings = settings
        self._case = Case(settings, fix=fix)
        self._uploads = UploadStore(settings.files_dir, self._case.disk, FolderLocks(settings.lock_timeout))

    def run(self, progress: Progress) -> Iterator[Finding]:
        places = (
            (self._settings.files_dir, "file", self._file),
            (self._settings.assistants_dir, "assistant", self._assistant),
            (self._settings.threads_dir, "thread", self._thread),
        )
        names = [(root, kind, check, name) for root, kind, check in places for name in objects(root)]
        for number, (root, kind, check, name) in enumerate(names):
            progress(number, len(names))
            misplaced = check_place(root, name, kind)
            if misplaced is not None:
                yield misplaced
                continue
            yield from self._examined(root, name, kind, check)
        for root in (*(root for root, _, _ in places), self._settings.models_dir):
            yield from left_over_folders(self._case, root)
        progress(len(names), len(names))

    def _examined(
        self, root: Path, name: str, kind: str, check: Callable[[Path, str], Iterator[Finding]]
    ) -> Iterator[Finding]:
        try:
            yield from check(root / name, name)
        except NotFoundError:  # it was deleted meanwhile
            return
        except (JanflaskError, OSError) as error:
            yield Finding(f"{root.name}/{name}", f"this {kind} could not be looked at: {error}")

    def _file(self, folder: Path, name: str) -> Iterator[Finding]:
        with self._case.locked(folder, f"file {name}") as fd:
            yield from list(check_file(self._case, fd, name))

    def _assistant(self, folder: Path, name: str) -> Iterator[Finding]:
        with self._case.locked(folder, f"assistant {name}") as fd:
            yield from list(check_assistant(self._case, fd, name))

    def _thread(self, folder: Path, name: str) -> Iterator[Finding]:
        with self._case.locked(folder, f"thread {name}") as fd:
            check = ThreadCheck(self._case, fd, name)
            findings = list(check.findings())  # the lock is not held while somebody reads them
        yield from findings
        for file_id in check.held:
            yield from self._held(name, file_id)

    def _held(self, thread_id: str, file_id: str) -> Iterator[Finding]:
        """Whether a file that a message holds is there, and knows it."""
        path = f"threads/{thread_id}/messages.jsonl"
        if not ids.is_id(file_id):
            yield Finding(path, f"a message holds the file {file_id[:100]!r}, which is no legal id")
            return
        try:
            with opened_root(self._settings.files_dir) as top, opened_folder(file_id, top) as fd:
                _exists(fd, DESCRIPTION_FILE)
                with opened_folder(HOLDERS_FOLDER, fd) as holders:
                    _exists(holders, thread_id)
        except FileNotFoundError:
            yield self._unheld(path, thread_id, file_id)
        except OSError:
            return  # links: the file's own check told them

    def _unheld(self, path: str, thread_id: str, file_id: str) -> Finding:
        try:
            self._uploads.get(file_id)
        except JanflaskError:
            return Finding(path, f"a message holds the file {file_id}, which is not there any more")
        marker = f"files/{file_id}/{HOLDERS_FOLDER}/{thread_id}"
        finding = Finding(marker, "it is missing, so that the file could be deleted although a message holds it")
        return self._case.mended(finding, lambda: self._hold(thread_id, file_id))

    def _hold(self, thread_id: str, file_id: str) -> None:
        with self._uploads.holding([file_id], thread_id):
            pass


def _exists(fd: int, name: str) -> None:
    os.close(open_plain(fd, name))
