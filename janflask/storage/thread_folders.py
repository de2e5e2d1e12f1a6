"""The folder of a thread, opened to read or locked to write, with errors that speak of the thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from janflask.errors import ConflictError, NotFoundError
from janflask.files import ids
from janflask.files.disk import opened_folder, translate
from janflask.files.locks import FolderLocks
from janflask.storage.jan import THREAD_FILE


class ThreadFolders:
    """The folders in ``root``, a thread each."""

    def __init__(self, root: Path, locks: FolderLocks) -> None:
        self.root = root
        self._name = str(root)
        self._locks = locks

    def path(self, thread_id: str, name: str) -> str:
        """Where a file of the thread is. Not for reading: what lies on the way may be a link."""
        return f"{self._name}/{thread_id}/{name}"

    @contextmanager
    def opened(self, thread_id: str) -> Iterator[int]:
        """The folder's descriptor. Raises NotFoundError; inside, OSError becomes one of ours."""
        folder = self._folder(thread_id)
        with _told(folder), opened_folder(folder) as fd:
            yield fd

    @contextmanager
    def writing(self, thread_id: str) -> Iterator[int]:
        """The same while nobody else writes there; raises StoreBusyError, too."""
        folder = self._folder(thread_id)
        with _told(folder), self._locks.exclusive(folder, f"thread {thread_id}", THREAD_FILE) as fd:
            yield fd

    def _folder(self, thread_id: str) -> Path:
        if not ids.is_id(thread_id):
            raise _missing(thread_id)
        return self.root / thread_id


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Errors as ours. What is no folder itself, a link for one, is no thread; such things inside it are told."""
    try:
        yield
    except (OSError, ConflictError) as error:
        told = translate(error, f"thread {folder.name}") if isinstance(error, OSError) else error
        if isinstance(told, ConflictError) and (folder.is_symlink() or not folder.is_dir()):
            raise _missing(folder.name) from None
        if told is error:
            raise
        raise told from error


def _missing(thread_id: str) -> NotFoundError:
    return NotFoundError(f"there is no thread {thread_id[:128]!r}", param="thread_id")
