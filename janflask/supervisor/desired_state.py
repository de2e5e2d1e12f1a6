"""Remembers which models run, for the supervisor that comes after this one.

A file in the runtime folder is for the next supervisor of the same server, one in the cache folder for the next
server. Both hold the same: model ids with the overrides of their start, the one used last first.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from janflask.files import by_path

log = logging.getLogger(__name__)


class Wanted:
    """What runs, or is starting. All methods are for any thread."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, Any]] = {}  # the one used last comes last
        self._frozen = False

    def add(self, model_id: str, overrides: dict[str, Any]) -> None:
        """A model is to run from now on; its place in the order stays if it was wanted already."""
        with self._lock:
            self._models[model_id] = overrides
            self._save()

    def drop(self, model_id: str) -> None:
        """It is not to run any more. No effect on one that was not."""
        with self._lock:
            if self._models.pop(model_id, None) is not None:
                self._save()

    def used(self, model_ids: Iterable[str]) -> None:
        """These were used now, in this order; those that are not wanted are left out."""
        with self._lock:
            before = list(self._models)
            for model_id in model_ids:
                if model_id in self._models:
                    self._models[model_id] = self._models.pop(model_id)
            if list(self._models) != before:
                self._save()

    def freeze(self) -> None:
        """What is wanted now stays written down, whatever stops after it."""
        with self._lock:
            self._frozen = True

    def adopt(self, models: dict[str, dict[str, Any]]) -> None:
        """Takes over what ``read`` gave, before anything has started."""
        with self._lock:
            self._models = dict(reversed(models.items()))
            self._save()

    def _save(self) -> None:
        if self._frozen:
            return
        for path in self._files:
            try:
                data = json.dumps(dict(reversed(self._models.items()))).encode()
                path.parent.mkdir(parents=True, exist_ok=True)
                by_path.replace(path, data, durable=False, mode=by_path.SHARED_MODE)
            except (OSError, TypeError, ValueError) as error:
                log.warning("what runs cannot be remembered in %s: %s", path, error)


def read(path: Path) -> dict[str, dict[str, Any]] | None:
    """What was remembered there, the one used last first; None without a file, or with one that cannot be used."""
    try:
        remembered = json.loads(path.read_text("utf-8"))
        return {str(model_id): dict(overrides) for model_id, overrides in remembered.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("what ran before cannot be told from %s: %s", path, error)
        return None
