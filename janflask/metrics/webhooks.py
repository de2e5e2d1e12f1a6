"""How it stands with webhooks: asked of the spool, which counts for as long as there is an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from janflask.metrics.families import counter, gauge
from janflask.settings import Settings
from janflask.webhooks.endpoints import EndpointFile

if TYPE_CHECKING:
    from janflask.webhooks.queue import Counts, Queue


class WebhookCounts:
    """Those of a data folder. For any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = EndpointFile(settings.secrets_dir, settings.lock_timeout)
        self._queue: Queue | None = None

    def read(self) -> dict[str, Counts]:
        """By endpoint. Raises what the file and the spool raise."""
        known = self._file.current().known
        return {endpoint: self._made().counts(endpoint) for endpoint in known}

    def _made(self) -> Queue:
        from janflask.webhooks.queue import Queue
        from janflask.webhooks.spool import Spool

        if self._queue is None:
            self._queue = Queue(Spool(self._settings.webhooks_dir, durable=False, timeout=1.0))
        return self._queue


def webhook_families(counts: Mapping[str, Counts]) -> Iterator[Metric]:
    """Their metrics; endpoints are few, and named by the server's owner."""
    outcomes = (
        ([endpoint, outcome], float(number))
        for endpoint, each in counts.items()
        for outcome, number in each.outcomes.items()
    )
    help = "Tries to deliver an event, by how they ended, and events that were given up (`dead`)."
    yield counter("webhook_deliveries", help, ["endpoint", "outcome"], outcomes)
    waiting = (([endpoint], float(each.waiting)) for endpoint, each in counts.items())
    yield gauge("webhook_events_waiting", "Events that were not delivered yet.", ["endpoint"], waiting)
    dead = (([endpoint], float(each.dead)) for endpoint, each in counts.items())
    yield gauge("webhook_dead_letters", "Events that were given up, and may be sent again.", ["endpoint"], dead)
