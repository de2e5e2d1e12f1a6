"""One model's download: its source resolved, its files fetched one after the other, the whole published in one step."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from janflask.downloads.fetch import Fetch, Limits, RemoteFile
from janflask.downloads.hub import Hub
from janflask.downloads.job import Job, JobFolder, check_files
from janflask.downloads.package import PackageFetch
from janflask.downloads.part import Part, check_room
from janflask.downloads.safety import Web
from janflask.downloads.sources import Source
from janflask.downloads.speed import Speed
from janflask.downloads.starter import known_starter
from janflask.errors import DownloadCancelledError, SourceError, SourceUnavailableError
from janflask.models import publish as model_folder
from janflask.models.gguf_header import GgufError
from janflask.models.publish import Origin
from janflask.models.state import DownloadState
from janflask.webhooks.events import of_model
from janflask.webhooks.outbox import Telling, untold

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every download of a server works with."""

    models_dir: Path
    jobs: JobFolder
    web: Web
    hub: Hub
    limits: Limits
    durable: bool = True
    telling: Telling = untold


class Download:
    """``run`` belongs to one thread; the rest is for any."""

    def __init__(self, job: Job, source: Source, means: Means) -> None:
        self.source = source
        self._means = means
        self._cancelled = threading.Event()
        self._speed = Speed()
        self._lock = threading.Lock()  # guards what follows
        self._job = job
        self._fetch: Fetch | PackageFetch | None = None
        self._stage = "queued"
        self._error: str | None = None
        self._there = means.jobs.bytes_there(job)
        self._sizes = {file.name: file.size for file in job.all_files}

    @property
    def job(self) -> Job:
        with self._lock:
            return self._job

    @property
    def stage(self) -> str:
        with self._lock:
            return self._stage

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def state(self) -> DownloadState:
        """How far it is."""
        with self._lock:
            transferred = sum(self._there.values())
            sizes = [size for size in self._sizes.values() if size is not None]
            total = sum(sizes) if sizes and len(sizes) == len(self._sizes) else None
            job, stage, error = self._job, self._stage, self._error
        rate = self._speed.bytes_per_second()
        return DownloadState(
            source=job.request.source,
            stage=stage,
            transferred=transferred,
            total=total,
            bytes_per_second=rate,
            eta_seconds=max(0, total - transferred) / rate if total is not None and rate > 0 else None,
            error=error,
            started_at=int(job.created),
        )

    def cancel(self) -> None:
        """``run`` ends soon with DownloadCancelledError, unless the model is being published already."""
        self._cancelled.set()
        with self._lock:
            fetch = self._fetch
        if fetch is not None:
            fetch.cancel()

    def fail(self, error: str) -> None:
        """It has ended, and why."""
        self._speed.stop()
        with self._lock:
            self._stage, self._error = "failed", error

    def run(self) -> None:
        """Returns when the model is there.

        Raises SourceUnavailableError and DownloadCancelledError: what has come stays and can be gone on with. Any other
        error is final, and the caller removes the job.
        """
        with self._means.jobs.claimed(self.job.model_id, self._pause) as staging:
            self._resolve()
            self._check_room(staging)
            for file in self.job.all_files:
                self._get(file, staging)
            self._publish(staging)

    def _pause(self, seconds: float) -> None:
        self._cancelled.wait(seconds)
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self.is_cancelled:
            raise DownloadCancelledError("the download was cancelled")

    def _enter(self, stage: str) -> None:
        self._check_cancelled()
        with self._lock:
            self._stage = stage

    def _keep(self, job: Job) -> None:
        self._check_cancelled()  # the job's file may be gone for good
        self._means.jobs.save(job)
        with self._lock:
            self._job = job

    def _resolve(self) -> None:
        """Finds out which files the model has, unless an earlier run did."""
        if self.job.files:
            return
        self._enter("resolving")
        failures = 0
        while True:
            try:
                resolved = self.source.resolve(self._means.hub, self.job.request.sha256)
                break
            except SourceUnavailableError:
                failures += 1
                if failures >= self._means.limits.tries:
                    raise
            self._pause(self._means.limits.wait(failures))
        job = replace(self.job, files=resolved.files, mmproj=resolved.mmproj, metadata=resolved.metadata)
        check_files(job.all_files)
        with self._lock:
            self._there = {file.name: 0 for file in job.all_files}
            self._sizes = {file.name: file.size for file in job.all_files}
        self._keep(job)

    def _check_room(self, staging: Path) -> None:
        """For all files together, as far as their sizes are known before."""
        with self._lock:
            missing = sum(max(0, (size or 0) - self._there[name]) for name, size in self._sizes.items())
        check_room(staging, missing, self.job.model_id)

    # --- one file after the other ---------------------------------------------------------------------------------

    def _get(self, file: RemoteFile, staging: Path) -> None:
        part = Part(staging, file.name)
        if file.name in self.job.finished:
            if not part.whole.exists() and part.path.exists():  # the server ended between the two steps below
                part.finish()
            if part.whole.exists():
                return
        self._enter("downloading")
        progress = partial(self._progress, file.name)
        starter = known_starter(file.url)
        fetch: Fetch | PackageFetch
        if starter is None:
            fetch = Fetch(file, staging, self._means.web, self._means.limits, progress)
        else:
            fetch = PackageFetch(starter, staging, progress)
        with self._lock:
            self._fetch = fetch
        self._check_cancelled()
        sha256 = fetch.run()
        self._keep(replace(self.job, finished={**self.job.finished, file.name: sha256}))
        part.finish()

    def _progress(self, name: str, stage: str, have: int, size: int | None) -> None:
        with self._lock:
            self._stage = stage
            self._there[name] = have
            if size is not None:
                self._sizes[name] = size
            transferred = sum(self._there.values())
        if stage == "downloading":
            self._speed.feed(transferred)
        else:
            self._speed.stop()

    def _publish(self, staging: Path) -> None:
        self._enter("verifying")
        job = self.job
        request, defaults = job.request, self.source.defaults
        files = [Origin(filename=file.name, url=file.url, sha256=job.finished[file.name]) for file in job.all_files]
        try:
            with self._means.telling(of_model("created", job.model_id), alone=True):
                model_folder.publish(
                    self._means.models_dir,
                    job.model_id,
                    staging,
                    source=self.source.source_url,
                    files=files,
                    name=request.name or defaults.name,
                    settings={**defaults.settings, **request.settings},
                    parameters={**defaults.parameters, **request.parameters},
                    metadata={**job.metadata, **request.metadata},
                    durable=self._means.durable,
                )
        except GgufError as error:
            raise SourceError(f"what came from the source cannot be used as a model: {error}") from error
