"""What was used last, up to a total weight, and not for long: what is remembered may be of something that is gone."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")


MAX_AGE = 300.0  # seconds without use: another process may have deleted what it was about, and tells nobody


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    weight: int
    used: float  # by the monotonic clock


class Recent(Generic[V]):
    """Values by name; the one that was not used for longest goes first. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._values: OrderedDict[str, _Entry[V]] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> V | None:
        """The value, which counts as used now."""
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None
            self._values.move_to_end(name)
            found.used = time.monotonic()
            return found.value

    def put(self, name: str, value: V, weight: int = 1) -> None:
        """Keeps a value in place of an older one; the last one stays whatever its weight."""
        now = time.monotonic()
        with self._lock:
            self._drop(name)
            self._values[name] = _Entry(value, weight, now)
            self._weight += weight
            while len(self._values) > 1:
                first, entry = next(iter(self._values.items()))
                if self._weight <= self._capacity and entry.used >= now - MAX_AGE:
                    break
                self._drop(first)

    def drop(self, name: str) -> None:
        """Forgets a value."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        found = self._values.pop(name, None)
        if found is not None:
            self._weight -= found.weight
