"""Streams that can be sought."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from janflask.storage.disk import translated

PIECE = 1 << 20  # bytes


@contextmanager
def spooled(stream: IO[bytes], folder: Path) -> Iterator[BinaryIO]:
    """What ``stream`` gives, in a file that nobody sees and that is gone afterwards. Raises StorageFullError."""
    with translated("what was sent"):
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below; its errors here are the disk's
    with file:
        with translated("what was sent"):
            shutil.copyfileobj(stream, file, PIECE)
            file.seek(0)
        yield cast(BinaryIO, file)
