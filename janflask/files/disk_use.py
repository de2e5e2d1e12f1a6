"""How much of the disk some folders take."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_BLOCK = 512  # bytes, of those in which the kernel counts
_AGE = 5.0  # seconds for which a figure holds at least,
_SHARE = 20  # and so many times as long as it took to come by


class DiskUse:
    """What ``folders`` take together. It is looked at now and then, by a thread; in between what was added counts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._guard = threading.Lock()
        self._bytes: int | None = None
        self._added = 0
        self._fresh_until = 0.0
        self._looking = False

    def bytes(self) -> int:
        """As far as is known; only the first one to ask waits for it."""
        with self._guard:
            if self._bytes is None:
                self._bytes = self._look()
            elif time.monotonic() > self._fresh_until and not self._looking:
                self._looking = True
                threading.Thread(target=self._look_again, name="disk-use", daemon=True).start()
            return self._bytes + self._added

    def add(self, size: int) -> None:
        """So much is written in a moment."""
        with self._guard:
            self._added += size

    def _look(self) -> int:
        """By one thread at a time."""
        began = time.monotonic()
        found = sum(bytes_below(folder) for folder in self._folders)
        now = time.monotonic()
        self._fresh_until = now + max(_AGE, _SHARE * (now - began))
        return found

    def _look_again(self) -> None:
        added = self._added
        try:
            found = self._look()
            with self._guard:
                self._bytes, self._added = found, self._added - added
        finally:
            with self._guard:
                self._looking = False


def bytes_below(folder: Path | str) -> int:
    """What a folder takes with all that is in it; links are not followed but for the folder itself."""
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    total += bytes_below(entry.path)
    return total
