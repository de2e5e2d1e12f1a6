"""The downloads in the supervisor's care: queued, a few at once, gone on with after a restart."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from janflask.downloads import sources
from janflask.downloads.download import Download, Means
from janflask.downloads.fetch import Limits
from janflask.downloads.hub import Hub
from janflask.downloads.job import Job, JobFolder
from janflask.downloads.model_ids import choose_id, is_from
from janflask.downloads.part import check_room
from janflask.downloads.safety import Web
from janflask.downloads.wire import Patience
from janflask.errors import (
    ConflictError,
    DownloadCancelledError,
    JanflaskError,
    SourceUnavailableError,
    StoreBusyError,
    UnavailableError,
)
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest, DownloadState
from janflask.settings import Settings
from janflask.webhooks.outbox import Outbox

CANCEL_TIMEOUT = 10.0  # seconds that a cancelled download has to end; what hangs longer does so without its files
CLOSE_TIMEOUT = 2.0  # seconds that all downloads have to end with the server

log = logging.getLogger(__name__)


class DownloadManager:
    """Every download that is under way or has failed, by model id. Thread-safe.

    ``limits`` and ``patience`` are for tests; the largest file is always what the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        env: Mapping[str, str] | None = None,
        *,
        limits: Limits | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._jobs = JobFolder(settings.models_dir)
        self._means = _means(settings, self._jobs, os.environ if env is None else env, limits, patience)
        self._starting = threading.Lock()  # one start at a time
        self._lock = threading.Lock()  # guards what follows; never held while something is waited for
        self._downloads: dict[str, Download] = {}  # in the order in which they were asked for
        self._threads: dict[Download, threading.Thread] = {}  # of the running ones
        self._closing = False

    def start(self, request: DownloadRequest) -> str:
        """The model's id; the download goes on in the background.

        A source whose download is under way keeps the id that it has; one whose download was interrupted goes on where
        it ended. Raises InvalidRequestError for a source or id that cannot be used, ConflictError when the model is
        here already (``code`` ``model_exists``) or its id is taken, StorageFullError, and UnavailableError.
        """
        source = sources.parse(request.source, self._means.hub)
        with self._starting:
            with self._lock:
                if self._closing:
                    raise UnavailableError("the server is shutting down", retry_after=1)
                known = {download.source.key: model_id for model_id, download in self._downloads.items()}
            before = known.get(source.key)
            if before is not None and self._joins(before, request):
                return before
            if before is not None and request.model_id in (None, before):
                request = replace(request, model_id=before)
            cards = self._catalog.list()
            model_id = choose_id(request, source, cards, self._means, self._is_downloading)
            self._begin(model_id, request, source)
        return model_id

    def cancel(self, model_id: str) -> bool:
        """Ends a download, or forgets one that failed, and removes what came of it; whether there was one."""
        with self._lock:
            download = self._downloads.get(model_id)
            if download is None:
                return False
            download.cancel()  # under the lock, so that none begins to run behind our back
            thread = self._threads.get(download)
        if thread is not None:
            thread.join(CANCEL_TIMEOUT)
        with self._lock:
            if self._downloads.get(model_id) is not download:
                return False  # it was faster, and the model is there
        self._jobs.remove(model_id)
        self._drop(model_id, download)
        return True

    def states(self) -> dict[str, DownloadState]:
        """The downloads that are under way, and those that ended with an error."""
        with self._lock:
            downloads = dict(self._downloads)
        return {model_id: download.state() for model_id, download in downloads.items()}

    def resume(self) -> None:
        """Goes on with what an earlier supervisor left."""
        with self._starting:
            for job in self._jobs.load():
                with self._lock:
                    if job.model_id in self._downloads:
                        continue
                try:
                    self._take_up(job)
                except JanflaskError as error:
                    log.warning("the download of %s is given up: %s", job.model_id, error)
                    self._jobs.remove(job.model_id)
            self._jobs.sweep()
            self._run_next()

    def close(self) -> None:
        """Ends every download; what came of it stays for the next supervisor."""
        with self._lock:
            self._closing = True
            downloads, threads = list(self._downloads.values()), list(self._threads.values())
        for download in downloads:
            download.cancel()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # --- beginning ------------------------------------------------------------------------------------------------

    def _joins(self, model_id: str, request: DownloadRequest) -> bool:
        """Whether a request for a source that is known is answered by the download that there is."""
        with self._lock:
            download = self._downloads.get(model_id)
        if download is None or download.stage == "failed":
            return False
        if download.is_cancelled:
            raise ConflictError(f"the download of {model_id} is being cancelled; try again in a moment", param="id")
        if request.model_id not in (None, model_id):
            raise ConflictError(f"this source is being downloaded already, as the model {model_id}", param="id")
        return True

    def _is_downloading(self, model_id: str) -> bool:
        """Whether there is a download of it, ours or another server's."""
        with self._lock:
            if model_id in self._downloads:
                return True
        return self._jobs.exists(model_id)

    def _begin(self, model_id: str, request: DownloadRequest, source: sources.Source) -> None:
        with self._lock:
            before = self._downloads.get(model_id)
        if before is None and self._jobs.exists(model_id):
            raise ConflictError(f"another server on this data folder is downloading {model_id}", param="id")
        if before is not None and before.stage != "failed":
            raise ConflictError(f"the model {model_id} is being downloaded from another source", param="id")
        self._settings.models_dir.mkdir(parents=True, exist_ok=True)
        check_room(self._settings.models_dir, 0, model_id)
        job = Job(model_id=model_id, request=request, created=time.time())
        if before is not None and self._goes_on(before, request, source):
            job = replace(before.job, request=request)
        elif before is not None:
            self._jobs.remove(model_id)
        self._jobs.save(job)
        with self._lock:
            self._downloads.pop(model_id, None)  # it queues up at the end
            self._downloads[model_id] = Download(job, source, self._means)
        self._run_next()

    def _goes_on(self, before: Download, request: DownloadRequest, source: sources.Source) -> bool:
        """Whether what an interrupted download left is of use to this request."""
        same = before.source.key == source.key and before.job.request.sha256 == request.sha256
        return same and self._jobs.exists(before.job.model_id)

    def _take_up(self, job: Job) -> None:
        """Raises what is wrong with a job by now."""
        source = sources.parse(job.request.source, self._means.hub)
        card = next((card for card in self._catalog.list() if card.id == job.model_id), None)
        if card is not None and card.present and not self._is_to_be_published(job):
            came = "it is there" if is_from(card, source, self._means.hub) else "its id has another model by now"
            raise ConflictError(came)
        with self._lock:
            self._downloads[job.model_id] = Download(job, source, self._means)

    def _is_to_be_published(self, job: Job) -> bool:
        """Whether the server may have ended between the first and the last step of that."""
        return set(job.finished) == {file.name for file in job.all_files} and self._jobs.staging(job.model_id).exists()

    # --- running --------------------------------------------------------------------------------------------------

    def _run_next(self) -> None:
        """Starts what is next in the queue while there are slots."""
        with self._lock:
            for model_id, download in self._downloads.items():
                if self._closing or len(self._threads) >= self._settings.download_slots:
                    return
                if download.stage == "queued" and download not in self._threads and not download.is_cancelled:
                    thread = threading.Thread(
                        target=self._run, args=(model_id, download), name=f"download {model_id}", daemon=True
                    )
                    self._threads[download] = thread
                    thread.start()

    def _run(self, model_id: str, download: Download) -> None:
        try:
            log.info("downloading %s", model_id)
            download.run()
            log.info("%s is downloaded", model_id)
            self._jobs.remove(model_id)
            self._drop(model_id, download)
        except DownloadCancelledError:
            log.info("the download of %s was ended", model_id)
        except (SourceUnavailableError, StoreBusyError) as error:
            log.warning("the download of %s was interrupted: %s", model_id, error)
            download.fail(error.message)
        except JanflaskError as error:
            self._give_up(model_id, download, error.message)
        except Exception as error:
            log.exception("the download of %s failed", model_id)
            self._give_up(model_id, download, f"the download failed: {error!r}; the server's log has more")
        finally:
            with self._lock:
                self._threads.pop(download, None)
            self._run_next()

    def _give_up(self, model_id: str, download: Download, why: str) -> None:
        """What came is removed, unless somebody ended the download, who decides on that himself."""
        log.warning("the download of %s failed: %s", model_id, why)
        if not download.is_cancelled:
            self._jobs.remove(model_id)
        download.fail(why)

    def _drop(self, model_id: str, download: Download) -> None:
        with self._lock:
            if self._downloads.get(model_id) is download:
                del self._downloads[model_id]
            self._threads.pop(download, None)  # a thread that still hangs takes no slot
        self._run_next()


def _means(
    settings: Settings, jobs: JobFolder, env: Mapping[str, str], limits: Limits | None, patience: Patience | None
) -> Means:
    hub = Hub.from_env(env)
    web = Web(
        allow_private=settings.allow_private_sources,
        patience=patience or Patience(),
        token=hub.token,
        token_origin=hub.origin,
        private_origin=hub.private_origin,
    )
    return Means(
        models_dir=settings.models_dir,
        jobs=jobs,
        web=web,
        hub=hub,
        limits=replace(limits or Limits(), max_bytes=settings.max_model_gb << 30),
        durable=settings.durability == "disk",
        telling=Outbox(settings).telling,
    )
