"""What was used last, up to a total weight."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by name; the one that was not used for longest goes first. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> V | None:
        """The value, which counts as used now."""
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None
            self._values.move_to_end(name)
            return found[0]

    def put(self, name: str, value: V, weight: int = 1) -> None:
        """Keeps a value in place of an older one; the last one stays whatever its weight."""
        with self._lock:
            self._drop(name)
            self._values[name] = value, weight
            self._weight += weight
            while self._weight > self._capacity and len(self._values) > 1:
                self._drop(next(iter(self._values)))

    def drop(self, name: str) -> None:
        """Forgets a value."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        found = self._values.pop(name, None)
        if found is not None:
            self._weight -= found[1]
