"""A data folder whose events are delivered to receivers of a test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from janflask.deliveries.deliverer import Deliverer
from janflask.files import ids
from janflask.models.catalog import ModelCatalog
from janflask.runner.happened import Happened
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Repository
from janflask.webhooks import signing
from janflask.webhooks.endpoints import ENDPOINT, Endpoint, EndpointFile, Secret
from janflask.webhooks.events import EVERY
from janflask.webhooks.queue import Counts, Queue
from janflask.webhooks.spool import Spool

QUICK = (0.01,) * 5  # seconds between two tries


class WebhookWorld:
    def __init__(self, folder: Path, **given: Any) -> None:
        self.settings = Settings(data_dir=folder, durability="os", **given)
        self.file = EndpointFile(self.settings.secrets_dir)
        self.queue = Queue(Spool(self.settings.webhooks_dir, durable=False, timeout=5.0))

    def repository(self) -> Repository:
        """The store as a process sees it that has just begun."""
        return open_repository(self.settings)

    def endpoint(self, url: str, *wanted: str, private: bool = True) -> Endpoint:
        made = Endpoint(
            id=ids.new_id(ENDPOINT),
            url=url,
            events=list(wanted) or [EVERY],
            secrets=[Secret(signing.new_secret())],
            created=int(time.time()),
            private=private,
        )
        self.file.change(lambda endpoints: endpoints.with_one(made))
        return made

    @contextlib.contextmanager
    def delivering(self, **given: Any) -> Iterator[Deliverer]:
        """A deliverer, which makes its tries without long pauses."""
        happened = Happened(self.repository(), ModelCatalog(self.settings.models_dir))
        deliverer = Deliverer(self.settings, happened, **{"schedule": QUICK, "first_rest": 0.01, **given})
        deliverer.start()
        try:
            yield deliverer
        finally:
            deliverer.close()

    def is_empty(self) -> bool:
        """Nothing waits to be told: not even what nobody is certain of."""
        left = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM deliveries WHERE dead IS NULL)"
        with self.queue._spool.reading() as db:
            return bool(db.execute(left).fetchone()[0] == 0)

    def counts(self, endpoint: Endpoint) -> Counts:
        return self.queue.counts(endpoint.id)

    def wait_until(self, is_so: Callable[[], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError("it does not come to be")
            time.sleep(0.01)
