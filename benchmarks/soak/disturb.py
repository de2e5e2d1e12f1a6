"""What happens to the server beside its clients: reloads, scrapes, keys that come and go, a model's start and stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.raw import Raw
from benchmarks.soak.tally import Tally
from janflask.access.key_file import KeyFile
from janflask.access.keys import NO_LIMITS, Limits, id_in, new_key
from janflask.access.scopes import EVERY, USUAL, Scopes

REFILL = 12.0  # seconds in which a key with 5 requests a minute has one more
SCRAPES, KEYS, SWITCHES = 5.0, 10.0, 45.0  # seconds between them


class Regularly(threading.Thread):
    """Does something every few seconds until told to stop."""

    def __init__(self, name: str, every: float, act: Callable[[], None], tally: Tally) -> None:
        super().__init__(name=name, daemon=True)
        self._every, self._act, self._tally = every, act, tally
        self._ended = threading.Event()

    def run(self) -> None:
        """The thread's."""
        while not self._ended.wait(self._every):
            began = time.monotonic()
            try:
                self._act()
            except Exception as error:  # each is a finding
                self._tally.fail(self.name, f"{type(error).__name__}: {error}")
            else:
                self._tally.finish(self.name, time.monotonic() - began)

    def stop(self) -> None:
        """Does nothing more."""
        self._ended.set()


def make_key(secrets: Path, name: str, scopes: Scopes = USUAL, limits: Limits = NO_LIMITS) -> str:
    """The text of a new key, which holds at once."""
    key, text = new_key(name, scopes, limits, int(time.time()))
    KeyFile(secrets).change(lambda keyring: keyring.with_key(key))
    return text


def disturbances(
    pid: int, port: int, secrets: Path, admin: str, spare_model: str, reload_every: float, tally: Tally
) -> list[Regularly]:
    """All of them; ``reload_every`` 0 reloads nothing."""
    scraper, switcher = Raw(port, admin, tally), Raw(port, admin, tally)

    def reload() -> None:
        os.kill(pid, signal.SIGHUP)

    def scrape() -> None:
        text = scraper.expect(200, "GET", "/metrics")
        if b"janflask:num_requests_running" not in text:
            raise RuntimeError("the metrics tell of no engine")
        for path in ("/livez", "/healthz", "/readyz"):
            scraper.expect(200, "GET", path)

    def key_comes_and_goes() -> None:
        text = make_key(secrets, "short", limits=Limits(requests_per_minute=5, streams=2))
        visitor = Raw(port, text, tally)
        began = time.monotonic()
        found = [visitor.ask("GET", "/v1/models")[0] for _ in range(7)]
        was_quick = time.monotonic() - began < REFILL  # else a busy machine lets one more in, or two
        if found[:4] != [200] * 4 or not set(found) <= {200, 429} or (was_quick and 429 not in found):
            raise RuntimeError(f"a key with 5 requests a minute had {found}")
        KeyFile(secrets).change(lambda keyring: keyring.without(id_in(text)))
        if visitor.ask("GET", "/v1/models")[0] != 401:
            raise RuntimeError("a revoked key still holds")
        visitor.close()

    def switch() -> None:
        for verb, state in (("start", "running"), ("stop", "stopped")):
            answer = switcher.expect(200, "PUT", f"/v1/models/{spare_model}/{verb}")
            if answer["state"] != state:
                raise RuntimeError(f"{spare_model} is {answer['state']} after {verb}")

    found = [
        Regularly("scrape", SCRAPES, scrape, tally),
        Regularly("key", KEYS, key_comes_and_goes, tally),
        Regularly("switch", SWITCHES, switch, tally),
    ]
    return [*found, Regularly("reload", reload_every, reload, tally)] if reload_every else found


def admin_key(secrets: Path) -> str:
    """One that may do everything."""
    return make_key(secrets, "admin", EVERY)
