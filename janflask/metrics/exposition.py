"""The text that Prometheus reads. Its library is loaded at the first scrape: who is never scraped has no need of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from janflask.metrics.http_counts import HttpCounts
from janflask.models.catalog import ModelCatalog
from janflask.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Exposition:
    """All methods are for any thread."""

    def __init__(self, settings: Settings, runtime_dir: Path, catalog: ModelCatalog, counts: HttpCounts) -> None:
        self._settings = settings
        self._runtime_dir = runtime_dir
        self._catalog = catalog
        self._counts = counts
        self._lock = threading.Lock()
        self._registry: CollectorRegistry | None = None

    def render(self, version: str) -> tuple[bytes, str]:
        """The metrics as they are now, and their content type. ``version``: of janflask.

        It is always the format that every Prometheus reads, whatever ``Accept`` says: asked for OpenMetrics as
        Prometheus 2 asks, prometheus-client writes ``janflask_`` for ``janflask:``, and takes twice as long.
        """
        from prometheus_client.exposition import choose_encoder

        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder("text/plain")
        return encode(self._made(version)), content_type

    def _made(self, version: str) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry

        from janflask.metrics.collector import Collector
        from janflask.metrics.webhooks import WebhookCounts

        with self._lock:
            if self._registry is None:
                self._registry = CollectorRegistry()
                webhooks = WebhookCounts(self._settings)
                self._registry.register(Collector(self._runtime_dir, self._catalog, self._counts, webhooks, version))
            return self._registry
