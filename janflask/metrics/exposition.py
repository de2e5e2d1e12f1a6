"""What Prometheus reads, at each scrape. Its library is loaded at the first one: who is never scraped needs none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from janflask.metrics.http_counts import HttpCounts
from janflask.models.catalog import ModelCatalog
from janflask.settings import Settings

if TYPE_CHECKING:
    from janflask.metrics.collector import Collector


class Exposition:
    """All methods are for any thread."""

    def __init__(self, settings: Settings, runtime_dir: Path, catalog: ModelCatalog, counts: HttpCounts) -> None:
        self._settings = settings
        self._runtime_dir = runtime_dir
        self._catalog = catalog
        self._counts = counts
        self._lock = threading.Lock()
        self._collector: Collector | None = None

    def render(self, version: str) -> tuple[bytes, str]:
        """The metrics as they are now, and their content type. ``version``: of janflask.

        It is always the format that every Prometheus reads, whatever ``Accept`` says: asked for OpenMetrics as
        Prometheus 2 asks, prometheus-client would write ``janflask_`` for ``janflask:``.
        """
        from janflask.metrics.text import CONTENT_TYPE, as_text

        return as_text(self._made(version).collect()), CONTENT_TYPE

    def _made(self, version: str) -> Collector:
        from janflask.metrics.collector import Collector
        from janflask.metrics.webhooks import WebhookCounts

        with self._lock:
            if self._collector is None:
                webhooks = WebhookCounts(self._settings)
                self._collector = Collector(self._runtime_dir, self._catalog, self._counts, webhooks, version)
            return self._collector
