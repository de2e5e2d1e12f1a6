"""The downloads, whose code is imported when there is something to fetch: a server's start does not wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from janflask.downloads.names import FOLDER
from janflask.errors import UnavailableError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest, DownloadState
from janflask.settings import Settings

if TYPE_CHECKING:
    from janflask.downloads.manager import DownloadManager


class Fetching:
    """A ``DownloadManager`` that is made when it is needed. Thread-safe."""

    def __init__(self, settings: Settings, catalog: ModelCatalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._lock = threading.Lock()  # guards what follows
        self._manager: DownloadManager | None = None
        self._closed = False

    def start(self, request: DownloadRequest) -> str:
        """See ``DownloadManager``."""
        return self._made().start(request)

    def cancel(self, model_id: str) -> bool:
        """See ``DownloadManager``."""
        manager = self._manager
        return manager is not None and manager.cancel(model_id)

    def states(self) -> dict[str, DownloadState]:
        """See ``DownloadManager``."""
        manager = self._manager
        return {} if manager is None else manager.states()

    def resume(self) -> None:
        """See ``DownloadManager``; what an earlier supervisor left lies in a folder of its own."""
        if (self._settings.models_dir / FOLDER).exists():
            self._made().resume()

    def close(self) -> None:
        """See ``DownloadManager``."""
        with self._lock:
            self._closed = True
            manager = self._manager
        if manager is not None:
            manager.close()

    def _made(self) -> DownloadManager:
        from janflask.downloads.manager import DownloadManager

        with self._lock:
            if self._closed:
                raise UnavailableError("the server is shutting down", retry_after=1)
            if self._manager is None:
                self._manager = DownloadManager(self._settings, self._catalog)
            return self._manager
