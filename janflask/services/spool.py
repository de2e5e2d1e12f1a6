"""Streams that can be sought."""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from janflask.files.disk import translated

log = logging.getLogger(__name__)

PIECE = 1 << 20  # bytes


@contextmanager
def spooled(stream: IO[bytes], folder: Path) -> Iterator[BinaryIO]:
    """What ``stream`` gives, in a file that nobody sees and that is gone afterwards. Raises StorageFullError.

    The file is in ``folder``, or, where none can be made there, in the system's folder for such files.
    """
    with _unseen_file(folder) as file:
        with translated("what was sent"):
            shutil.copyfileobj(stream, file, PIECE)
            file.seek(0)
        yield cast(BinaryIO, file)


def _unseen_file(folder: Path) -> IO[bytes]:
    with translated("what was sent"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            log.warning("%s cannot be written (%s): an archive waits in %s", folder, error, tempfile.gettempdir())
            return tempfile.TemporaryFile()
