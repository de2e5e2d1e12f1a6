"""The ledger of memory: who holds how much of what the models may take together. Estimates, not measurements.

Memory is reserved before an engine starts and given back when it is gone, so two starts at once never count on the
same gigabyte.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from janflask.supervisor.machine_memory import Amount


class MemoryBudget:
    """All methods are for any thread."""

    def __init__(self, limits: Amount) -> None:
        self.limits = limits
        self._changed = threading.Condition()
        self._held: dict[str, Amount] = {}

    def reserve(self, holder: str, amount: Amount) -> bool:
        """True if it was there and is ``holder``'s now; False changes nothing. Each holder reserves once."""
        with self._changed:
            if holder in self._held:
                raise RuntimeError(f"{holder} holds memory already")
            if not amount.fits(self._free()):
                return False
            self._held[holder] = amount
            return True

    def release(self, holder: str) -> None:
        """What the holder had is free again."""
        with self._changed:
            self._held.pop(holder, None)
            self._changed.notify_all()

    def held(self) -> Mapping[str, Amount]:
        """Who holds how much now."""
        with self._changed:
            return dict(self._held)

    @property
    def free(self) -> Amount:
        with self._changed:
            return self._free()

    def wait(self, timeout: float) -> None:
        """Until somebody gives back, or for ``timeout`` seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def _free(self) -> Amount:
        return self.limits - sum(self._held.values(), Amount())
