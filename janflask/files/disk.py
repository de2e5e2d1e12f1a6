"""Files that survive: what was written is on disk, whole files change in one step, no symbolic link is followed.

Everything below a folder is reached by that folder's descriptor: between looking and writing nobody can put something
else in its place. Where ``fd`` stands, it is a folder's descriptor unless said otherwise. Only the folders that the
store stands in (``threads``, ``assistants``, ``files``) may be symbolic links; those are the owner's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from janflask.errors import ConflictError, NotFoundError, StorageFullError, StoreDamagedError
from janflask.files import ids

log = logging.getLogger(__name__)

STAGING = ".janflask"  # in each of the store's folders: what is not yet there, and what is no longer there
TEMPORARY = ".tmp"  # how the names of files end that are about to replace another
FOLDER_MODE, FILE_MODE = 0o700, 0o600  # conversations are private

_UNSAFE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a planted FIFO must not hold us
FOLDER = READ | os.O_DIRECTORY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns the operating system's errors into ours; ``what`` is the object they are about."""
    try:
        yield
    except OSError as error:
        raise translate(error, what) from error


def translate(error: OSError, what: str) -> Exception:
    """The error of our tree for one of the operating system's, or that itself if it says nothing that we understand.

    ``what`` is the object's kind and id.
    """
    if is_full(error):
        return StorageFullError(
            f"{what} could not be stored, since the disk or a quota is full ({os.strerror(error.errno or 0)}): "
            "make room and try again"
        )
    if error.errno == errno.ENOENT:
        kind, _, rest = what.partition(" ")
        return NotFoundError(f"there is no {what}", param=f"{kind}_id" if ids.is_id(rest) else None)
    if error.errno in _UNSAFE:
        return ConflictError(
            f"{what} is a symbolic link or not a plain file on the server's disk, which the store does not touch; "
            "`janflask doctor` lists such places"
        )
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return ConflictError(f"there is a {what} already", param="id")
    return error


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or the file has no room for more."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(fd: int) -> None:
    """A file's or folder's content and all about it reach the disk."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


class Disk:
    """``durable``: wait until a change has reached the disk; otherwise until the operating system has it."""

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable

    def sync(self, fd: int) -> None:
        """A file's or folder's content and all about it reach the disk."""
        if self.durable:
            sync(fd)

    def sync_data(self, fd: int) -> None:
        """A file's content reaches the disk, and what is needed to read it."""
        if self.durable and hasattr(os, "fdatasync") and not hasattr(fcntl, "F_FULLFSYNC"):
            os.fdatasync(fd)
        else:
            self.sync(fd)

    # --- files ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def creating(self, fd: int, name: str, mode: int = FILE_MODE) -> Iterator[int]:
        """A new file, open to be written; FileExistsError if there is one. On an error in the block it is gone again.

        The folder is not synced.
        """
        file = os.open(name, NEW, mode, dir_fd=fd)
        try:
            yield file
            self.sync(file)
        except BaseException:
            _forget(fd, name)
            raise
        finally:
            os.close(file)

    @contextlib.contextmanager
    def replacing(self, fd: int, name: str, *, mode: int = FILE_MODE, temporary: str | None = None) -> Iterator[int]:
        """A new file, open to be written, that takes the place of ``name`` in one step after the block.

        Whatever happens, ``name`` is the whole new file or what it was before. ``temporary`` is what the new one is
        called until then: given by those who alone write under that name, it is what one that was killed left there.
        """
        if temporary is None:
            temporary = f".{name}.{secrets.token_hex(8)}{TEMPORARY}"
        else:
            _forget(fd, temporary)
        with self.creating(fd, temporary, mode) as file:
            yield file
        try:
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            _forget(fd, temporary)
            raise
        self.sync(fd)

    def create(self, fd: int, name: str, data: bytes) -> None:
        """A new file with ``data``; FileExistsError if there is one. The folder is not synced."""
        with self.creating(fd, name) as file:
            write_all(file, data)

    def replace(self, fd: int, name: str, data: bytes) -> None:
        """The file ``name`` has ``data``, or, whatever happens, what it had before."""
        with self.replacing(fd, name) as file:
            write_all(file, data)

    def replace_both(self, fd: int, *files: tuple[str, bytes]) -> None:
        """The same for several files: all of them or, on an error, none. A crash in between may leave some replaced."""
        token = secrets.token_hex(8)
        undo: list[str] = []
        try:
            for name, data in files:
                self.create(fd, f".{name}.{token}{TEMPORARY}", data)
            for name, _ in files:
                with contextlib.suppress(FileNotFoundError):
                    os.link(name, f".{name}.{token}.before{TEMPORARY}", src_dir_fd=fd, dst_dir_fd=fd)
                undo.append(name)
                os.rename(f".{name}.{token}{TEMPORARY}", name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            for name in undo:
                with contextlib.suppress(OSError):
                    os.rename(f".{name}.{token}.before{TEMPORARY}", name, src_dir_fd=fd, dst_dir_fd=fd)
            raise
        finally:
            for name, _ in files:
                _forget(fd, f".{name}.{token}{TEMPORARY}")
                _forget(fd, f".{name}.{token}.before{TEMPORARY}")
        self.sync(fd)

    # --- whole folders ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def staged(self, root: Path) -> Iterator[tuple[str, int]]:
        """A new folder in ``root``'s staging area: its name there and its descriptor; removed unless published."""
        with opened_root(root, make=True) as top:
            make_folder(top, STAGING)
            with opened_folder(STAGING, top) as staging:
                name = f"new-{secrets.token_hex(8)}"
                os.mkdir(name, FOLDER_MODE, dir_fd=staging)
                try:
                    with opened_folder(name, staging) as fd:
                        yield name, fd
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        shutil.rmtree(name, dir_fd=staging)

    def publish(self, root: Path, staged: str, fd: int, name: str) -> None:
        """A staged folder becomes ``root/name`` in one step; FileExistsError or ENOTEMPTY if there is one.

        ``fd`` is the staged folder. The caller syncs ``root`` (``sync_root``).
        """
        self.sync(fd)
        self.place(root, staged, name)

    def place(self, root: Path, staged: str, name: str) -> None:
        """The step alone, for a folder that is synced already."""
        with opened_root(root) as top:
            os.rename(f"{STAGING}/{staged}", name, src_dir_fd=top, dst_dir_fd=top)

    def retire(self, root: Path, name: str) -> str:
        """``root/name`` is gone in one step; returns its name in the staging area, for ``discard``."""
        gone = f"gone-{secrets.token_hex(8)}"
        with opened_root(root) as top:
            make_folder(top, STAGING)
            os.rename(name, f"{STAGING}/{gone}", src_dir_fd=top, dst_dir_fd=top)
        return gone

    def restore(self, root: Path, source: str, target: str) -> None:
        """Takes ``publish`` or ``retire`` back as well as it can, after the step behind it failed."""
        with contextlib.suppress(OSError), opened_root(root) as top:
            os.rename(source, target, src_dir_fd=top, dst_dir_fd=top)

    def discard(self, root: Path, gone: str) -> None:
        """Removes what ``retire`` put away. A failure is logged: nobody misses it, and the doctor removes it later."""
        try:
            with opened_root(root) as top, opened_folder(STAGING, top) as staging:
                shutil.rmtree(gone, dir_fd=staging)
        except OSError as error:
            log.warning("%s in %s could not be removed: %s", gone, root / STAGING, error)

    def sync_root(self, root: Path) -> None:
        """What was published or retired stays so."""
        if self.durable:
            with opened_root(root) as top:
                self.sync(top)


# --- opening and reading ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened_root(root: Path, *, make: bool = False) -> Iterator[int]:
    """A folder that the store stands in; it may be a symbolic link. ``make`` makes it where it is missing."""
    if make and not root.is_dir():
        root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        sync_parent(root)
    fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_parent(path: Path) -> None:
    """A folder that was just made is in its parent for good."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        sync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_folder(path: str | Path, fd: int | None = None) -> Iterator[int]:
    """The descriptor of a folder (in ``fd``) that is no symbolic link. Raises OSError."""
    folder = os.open(path, FOLDER, dir_fd=fd)
    try:
        yield folder
    finally:
        os.close(folder)


def make_folder(fd: int, name: str) -> bool:
    """Makes the folder ``name`` in ``fd`` unless there is one; whether it was made."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=fd)
    except FileExistsError:
        return False
    return True


def open_plain(fd: int, name: str) -> int:
    """Opens a plain file in ``fd`` for reading. Raises OSError, ELOOP also for what is neither file nor link."""
    file = os.open(name, READ, dir_fd=fd)
    try:
        size_of_plain(file)
    except OSError:
        os.close(file)
        raise
    return file


def size_of_plain(file: int) -> int:
    """The size in bytes of an open file. Raises OSError (ELOOP) for a pipe, a device and the like."""
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.ELOOP, "not a plain file")
    return about.st_size


def read_plain(fd: int, name: str, limit: int, what: str) -> tuple[bytes, os.stat_result]:
    """A plain file's content and what ``fstat`` said. StoreDamagedError if it is larger than ``limit`` bytes."""
    file = open_plain(fd, name)
    try:
        about = os.fstat(file)
        data = read_all(file, min(about.st_size, limit) + 1)
    finally:
        os.close(file)
    if len(data) > limit:
        raise StoreDamagedError(f"{name} of {what} is larger than {limit} bytes; `janflask doctor` tells more")
    return data, about


def read_all(file: int, size: int) -> bytes:
    """Up to ``size`` bytes from where the file stands."""
    pieces = []
    while size > 0:
        piece = os.read(file, size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def write_all(file: int, data: bytes | memoryview) -> None:
    """All of ``data``; the kernel may take it in pieces."""
    written = os.write(file, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(file, data)


def _forget(fd: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=fd)
