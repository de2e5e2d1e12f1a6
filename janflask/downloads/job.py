"""What is to be downloaded: ``models/.downloads/<id>.json``, with its files on their way in ``.downloads/<id>.files/``.

A job's file outlives the server: whatever it says is checked again when it is read. A folder without one is rubbish.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from janflask.decoding import json_decoder
from janflask.downloads.fetch import RemoteFile
from janflask.downloads.names import FOLDER
from janflask.downloads.part import Part, disk_errors, write_json
from janflask.downloads.safety import check_url
from janflask.downloads.starter import known_starter
from janflask.errors import JanflaskError, SourceError, SourceUnavailableError
from janflask.files.disk import opened_folder
from janflask.files.locks import try_lock
from janflask.models.catalog import is_model_id
from janflask.models.state import DownloadRequest

JOB, STAGING = ".json", ".files"  # behind an id, and both always: a.json may be an id itself
MAX_JOB_FILE = 64 * 1024 * 1024  # bytes
MAX_FILES = 1001  # the parts of a split model, and a projector
CLAIM_TIMEOUT = 10.0  # seconds for another server to let go of a download
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+ ()-]{0,199}\.gguf", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model's download. ``files`` are the model's, in order; there are none before the source is resolved."""

    model_id: str
    request: DownloadRequest
    created: float  # seconds since the epoch; jobs go on in this order
    files: tuple[RemoteFile, ...] = ()
    mmproj: RemoteFile | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)  # file name -> sha256

    @property
    def all_files(self) -> tuple[RemoteFile, ...]:
        return self.files if self.mmproj is None else (*self.files, self.mmproj)


def check_files(files: tuple[RemoteFile, ...]) -> None:
    """Raises SourceError unless the names are plain, distinct ones of GGUF files, and the URLs may be opened."""
    if len(files) > MAX_FILES:
        raise SourceError(f"the model has {len(files)} files; {MAX_FILES} are the limit")
    names = [file.name.lower() for file in files]
    for file in files:
        if _NAME.fullmatch(file.name) is None or names.count(file.name.lower()) > 1:
            raise SourceError(f"{file.name[:200]!r} is no name for a model's file, or there are two of it")
        if file.size is not None and file.size <= 0:
            raise SourceError(f"{file.name} has {file.size} bytes at its source")
        if file.sha256 is not None and _SHA256.fullmatch(file.sha256) is None:
            raise SourceError(f"the sha256 of {file.name} is not 64 hexadecimal digits")
        if known_starter(file.url) is None:
            check_url(file.url)


class JobFolder:
    """The jobs of the models' folder ``models_dir``. Thread-safe."""

    def __init__(self, models_dir: Path) -> None:
        self._root = models_dir / FOLDER
        self._lock = threading.Lock()  # between making the folder and removing it when it is empty

    def staging(self, model_id: str) -> Path:
        """The folder for a model's files until they are all there. ValueError for what is no model's id."""
        return self._root / f"{_checked(model_id)}{STAGING}"

    def exists(self, model_id: str) -> bool:
        return self._file(model_id).exists()

    def save(self, job: Job) -> None:
        """On the disk when it returns. Raises StorageFullError, and UnavailableError when the disk fails."""
        with self._lock, disk_errors(job.model_id):
            self._root.mkdir(parents=True, exist_ok=True)
            write_json(self._file(job.model_id), job, durable=True)

    def load(self) -> list[Job]:
        """The jobs that an earlier server left, oldest first. A damaged one is put aside and logged."""
        jobs = []
        for path in sorted(self._root.glob(f"*{JOB}")):
            try:
                jobs.append(_read(path))
            except (OSError, ValueError, JanflaskError) as error:
                log.warning("the download %s cannot be gone on with, its file is put aside: %s", path.stem, error)
                with suppress(OSError):
                    path.rename(path.with_name(path.name + ".damaged"))
        return sorted(jobs, key=lambda job: job.created)

    def remove(self, model_id: str) -> None:
        """The job first: without it, its files are nobody's."""
        path, staging = self._file(model_id), self.staging(model_id)
        try:
            path.unlink(missing_ok=True)
            if staging.exists():
                shutil.rmtree(staging)
        except OSError as error:
            log.warning("what is left of the download of %s could not be removed: %s", model_id, error)
        with self._lock, suppress(OSError):  # another download is in it
            self._root.rmdir()

    def sweep(self) -> None:
        """Removes the files that belong to no job, unless somebody is writing them."""
        for folder in self._root.glob(f"*{STAGING}/"):
            if folder.with_suffix(JOB).exists():
                continue
            with opened_folder(folder) as fd:
                if try_lock(fd):
                    log.info("removing %s, which no download is of", folder)
                    shutil.rmtree(folder, ignore_errors=True)
        with self._lock, suppress(OSError):
            self._root.rmdir()

    @contextmanager
    def claimed(self, model_id: str, wait: Callable[[float], object]) -> Iterator[Path]:
        """The staging folder, made if need be, while no other process works in it.

        ``wait`` sleeps so many seconds or raises. Raises SourceUnavailableError when another process stays there.
        """
        staging = self.staging(model_id)
        with disk_errors(model_id):
            staging.mkdir(parents=True, exist_ok=True)
        with opened_folder(staging) as fd:
            deadline = time.monotonic() + CLAIM_TIMEOUT
            while not try_lock(fd):
                if time.monotonic() > deadline:
                    raise SourceUnavailableError(f"another server on this data folder is downloading {model_id}")
                wait(0.1)
            yield staging

    def bytes_there(self, job: Job) -> dict[str, int]:
        """How much of each file is on the disk."""
        there = {}
        for file in job.all_files:
            part = Part(self.staging(job.model_id), file.name)
            there[file.name] = part.whole.stat().st_size if part.whole.exists() else part.size()
        return there

    def _file(self, model_id: str) -> Path:
        return self._root / f"{_checked(model_id)}{JOB}"


def _checked(model_id: str) -> str:
    if not is_model_id(model_id):
        raise ValueError(f"{model_id[:128]!r} is no model's id")
    return model_id


def _read(path: Path) -> Job:
    if path.stat().st_size > MAX_JOB_FILE:
        raise ValueError(f"it is larger than {MAX_JOB_FILE} bytes")
    job = json_decoder(Job).decode(path.read_bytes())
    if _checked(path.stem) != job.model_id:
        raise ValueError(f"it is of {job.model_id[:128]!r}")
    if job.mmproj is not None and not job.files:
        raise ValueError("it has no model's file")
    check_files(job.all_files)
    return job
