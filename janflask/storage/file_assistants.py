"""Assistants on disk: ``assistants/<id>/assistant.json``, as Jan has them.

``jan`` is built in: its file is written when it is first changed. Where that file is there but cannot be read, ``list``
still tells of the built-in one, so that a client finds an assistant; ``get`` and ``update`` raise, since somebody's own
instructions must neither be silently replaced by others in an answer nor be overwritten on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.files.disk import Disk, make_folder, opened_folder, opened_root, read_plain, translated
from janflask.files.locks import FolderLocks
from janflask.storage import folders
from janflask.storage.base import Page, Slice
from janflask.storage.jan import decode_object
from janflask.storage.jan_assistants import ASSISTANT_FILE, BUILT_IN, assistant_from_json, encode_assistant
from janflask.storage.paging import cut
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant

MAX_ASSISTANT_FILE = 4 << 20  # bytes


class FileAssistantStore:
    """``base.AssistantStore`` over the folder ``root``, which is made when the first assistant is written."""

    def __init__(self, root: Path, disk: Disk, locks: FolderLocks) -> None:
        self._root = root
        self._disk = disk
        self._locks = locks
        self._listed = folders.Readable(root, ASSISTANT_FILE, "assistant")

    def create(self, assistant: Assistant) -> Assistant:
        folders.check_new_id("assistant", assistant.id)
        what = _what(assistant.id)
        if assistant.id == DEFAULT_ASSISTANT:
            raise ConflictError(f"there is a {what} already: it always exists", param="id")
        with translated(what), self._disk.staged(self._root) as (staged, fd):
            self._disk.create(fd, ASSISTANT_FILE, encode_assistant(assistant))
            folders.publish(self._disk, self._root, staged, fd, assistant.id)
        return assistant

    def get(self, assistant_id: str) -> Assistant:
        what = _checked(assistant_id)
        try:
            with translated(what), opened_root(self._root) as top, opened_folder(assistant_id, top) as fd:
                return _read(fd, assistant_id)
        except NotFoundError:
            if assistant_id == DEFAULT_ASSISTANT:
                return BUILT_IN
            raise

    def list(self, page: Page) -> Slice[Assistant]:
        with translated("folder of assistants"):
            names = {DEFAULT_ASSISTANT, *folders.names(self._root)}
        readable = {name: assistant for name in names if (assistant := self._readable(name)) is not None}
        shown = {
            name: found for name, found in readable.items() if page.owner is None or found.owner in (None, page.owner)
        }
        return cut(sorted((found.created_ms, name) for name, found in shown.items()), page, shown.get)

    def update(self, assistant_id: str, change: Callable[[Assistant], Assistant]) -> Assistant:
        what = _checked(assistant_id)
        if assistant_id == DEFAULT_ASSISTANT:
            self._make_folder_of_default(what)
        with self._locks.exclusive(self._root / assistant_id, what) as fd:
            with translated(what):
                present = _read(fd, assistant_id)
            changed = replace(change(present), id=assistant_id, owner=present.owner)
            with translated(what):
                self._disk.replace(fd, ASSISTANT_FILE, encode_assistant(changed))
        return changed

    def give(self, assistant_id: str, owner: str | None) -> None:
        what = _checked(assistant_id)
        if assistant_id == DEFAULT_ASSISTANT:
            raise ConflictError(f"the {what} is everybody's and cannot be given away")
        with self._locks.exclusive(self._root / assistant_id, what) as fd, translated(what):
            given = replace(_read(fd, assistant_id), owner=owner)
            self._disk.replace(fd, ASSISTANT_FILE, encode_assistant(given))

    def delete(self, assistant_id: str) -> None:
        what = _checked(assistant_id)
        if assistant_id == DEFAULT_ASSISTANT:
            raise ConflictError(f"the {what} always exists and cannot be deleted")
        with self._locks.exclusive(self._root / assistant_id, what) as fd, translated(what):
            # A folder without the file is no assistant: whatever it is, it is not ours to remove.
            os.stat(ASSISTANT_FILE, dir_fd=fd, follow_symlinks=False)
            folders.remove(self._disk, self._root, assistant_id)

    def _readable(self, name: str) -> Assistant | None:
        found = self._listed.get(name, self.get)
        return BUILT_IN if found is None and name == DEFAULT_ASSISTANT else found

    def _make_folder_of_default(self, what: str) -> None:
        """An empty folder says no more than none: ``jan`` stays the built-in one until its file is written."""
        with translated(what), opened_root(self._root, make=True) as top:
            make_folder(top, DEFAULT_ASSISTANT)
            self._disk.sync(top)


def _what(assistant_id: str) -> str:
    return f"assistant {assistant_id}"


def _checked(assistant_id: str) -> str:
    """How errors call the assistant. Raises NotFoundError for what is no id."""
    if not ids.is_id(assistant_id):
        raise NotFoundError(f"there is no assistant {assistant_id[:128]!r}", param="assistant_id")
    return _what(assistant_id)


def _read(fd: int, assistant_id: str) -> Assistant:
    """The assistant in the folder ``fd``. Raises OSError, StoreDamagedError."""
    what = _what(assistant_id)
    try:
        data, about = read_plain(fd, ASSISTANT_FILE, MAX_ASSISTANT_FILE, what)
    except FileNotFoundError:
        if assistant_id == DEFAULT_ASSISTANT:
            return BUILT_IN
        raise
    default_ms = BUILT_IN.created_ms if assistant_id == DEFAULT_ASSISTANT else about.st_mtime_ns // 1_000_000
    return assistant_from_json(decode_object(data, f"{ASSISTANT_FILE} of {what}"), assistant_id, default_ms)
