"""The tokens of answers, told to the ledger for whoever the work at hand is for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from janflask.access.caller import working_for
from janflask.access.ledger import Ledger

log = logging.getLogger(__name__)


class Meter:
    """Over the ledger in a folder. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder)

    def spend(self) -> Callable[[int, int, int], None] | None:
        """Who counts the prompt's tokens, the cached ones of them, and the answer's; None: the work is for no key."""
        key_id = working_for.get()
        return None if key_id is None else partial(self._spend, key_id)

    def _spend(self, key_id: str, prompt: int, cached: int, completion: int) -> None:
        try:
            self._ledger.spend(key_id, prompt, cached, completion)
        except OSError as error:  # an answer that is made is not lost for that
            log.warning("%d tokens of key %s could not be counted: %s", prompt + completion, key_id, error)
